"""Opening a scorer at a vLLM server: what is waited for, and what is refused in a sentence."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scorers.backend import Head, NextToken, Pooled, Steps
from scorers.backends.opening import open_backend
from scorers.contract import ScoreRequest
from scorers.loading import Loading, load_scorer
from scorers.model_files import ModelFiles, load_files
from scorers.model_path import LoadError
from scorers.scorer_settings import RewardConfig, VllmConfig
from scorers.settings import ScorerServerConfig
from tests.certificates import Authority
from tests.scorers.models import make_bert_classifier, make_causal, make_classifier, make_step_model
from tests.scorers.vllm_fake import FakeVllm, serving, total

LOADING = Loading(ScorerServerConfig())


@contextmanager
def elsewhere(fake: FakeVllm, **kwargs: Any) -> Iterator[FakeVllm]:
    """The fake in a thread of its own, as another process: opening a backend blocks."""
    loop = asyncio.new_event_loop()
    up, down = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with serving(fake, **kwargs):
            up.set()
            await down.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert up.wait(5)
    try:
        yield fake
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join(5)
        loop.close()
    assert fake.surprises == []


@pytest.fixture(scope="module")
def reward(reward_folder: Path) -> ModelFiles:
    return load_files(str(reward_folder))


@pytest.fixture(scope="module")
def safety(safety_folder: Path) -> ModelFiles:
    return load_files(str(safety_folder))


def open_at(fake: FakeVllm, files: ModelFiles, head: Head | None = None, **settings: Any) -> str:
    """Where it runs, in words."""
    vllm = VllmConfig(**{"url": fake.url, "start_timeout_s": 5.0, **settings})
    _, words = open_backend("quality", files, head or Pooled(), LOADING, dtype="float32", vllm=vllm)
    return words


def refusal(fake: FakeVllm, files: ModelFiles, head: Head | None = None, **settings: Any) -> str:
    """Why it is not opened."""
    with elsewhere(fake), pytest.raises(LoadError) as refused:
        open_at(fake, files, head, **settings)
    text = str(refused.value)
    assert "\n" not in text and "/models/secret" not in text
    return text


def test_a_scorer_at_vllm_scores_what_vllm_says(reward_folder: Path) -> None:
    fake = FakeVllm()
    with elsewhere(fake):
        config = RewardConfig(kind="reward", model=str(reward_folder), vllm=VllmConfig(url=fake.url))
        scorer, words = load_scorer("quality", config, LOADING)
        assert f"on vLLM at {fake.url}" in words

        async def score() -> float | None:
            user, answer = ({"role": role, "content": "Hi"} for role in ("user", "assistant"))
            [one] = await scorer.score(ScoreRequest("quality", [user], [answer]))
            await scorer.close()
            return one.value

        value = asyncio.run(score())
    [ids] = fake.asked[-1]
    assert [value] == total(ids)


def test_a_server_that_still_starts_is_waited_for(reward: ModelFiles, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    fake = FakeVllm(not_ready=2)
    with elsewhere(fake):
        open_at(fake, reward)
    waiting = [record.getMessage() for record in caplog.records if "waiting for vLLM" in record.getMessage()]
    assert len(waiting) == 1
    assert f"at {fake.url}, for quality, up to 5 s" in waiting[0]


def test_a_server_that_never_comes_is_given_up(reward: ModelFiles) -> None:
    with elsewhere(FakeVllm()) as gone:
        pass
    with pytest.raises(LoadError, match=r"was not ready within 0\.2 s: .* cannot be reached"):
        open_at(gone, reward, start_timeout_s=0.2)
    assert "was not ready within 0.2 s" in refusal(FakeVllm(not_ready=100), reward, start_timeout_s=0.2)


def test_what_is_no_vllm_is_told_at_once(reward: ModelFiles) -> None:
    assert "is no vLLM server" in refusal(FakeVllm(cards=[{"name": "x"}]), reward)
    with elsewhere(FakeVllm()) as fake, pytest.raises(LoadError, match=r"is no vLLM server: .* status 404"):
        open_at(fake, reward, url=f"{fake.url}/elsewhere")


def test_a_key_or_certificate_that_does_not_fit_is_told_at_once(reward: ModelFiles, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k-0815")
    with elsewhere(FakeVllm(key="k-0815")) as fake:
        assert "on vLLM" in open_at(fake, reward, api_key_file=key)
    assert "set scorers.quality.vllm.api_key_file" in refusal(FakeVllm(key="k-0815"), reward)
    with pytest.raises(LoadError, match=r"scorers\.quality\.vllm\.api_key_file: there is no file"):
        open_at(fake, reward, api_key_file=tmp_path / "none")
    authority = Authority(tmp_path)
    with elsewhere(FakeVllm(), tls=authority.server()) as fake:
        assert "on vLLM" in open_at(fake, reward, ca_file=authority.ca_file)
        with pytest.raises(LoadError, match="TLS fails"):
            open_at(fake, reward)


@pytest.mark.parametrize("task", ["token_classify", "generate"])
def test_a_server_of_another_task_is_refused_with_how_to_start_it(reward: ModelFiles, task: Any) -> None:
    assert "--runner pooling --convert classify" in refusal(FakeVllm(task), reward)


def test_a_server_that_scores_no_steps_or_no_tokens_is_refused_with_how_to_start_it(tmp_path: Path) -> None:
    steps = load_files(str(make_step_model(tmp_path / "steps")))
    causal = load_files(str(make_causal(tmp_path / "causal")))
    assert """--pooler-config '{"task": "token_classify"}'""" in refusal(FakeVllm(), steps, Steps(5))
    assert "--runner generate" in refusal(FakeVllm(), causal, NextToken((5,)))


def test_steps_and_next_tokens_are_opened_where_they_are_served(tmp_path: Path) -> None:
    steps = load_files(str(make_step_model(tmp_path / "steps")))
    causal = load_files(str(make_causal(tmp_path / "causal")))
    two = FakeVllm("token_classify", logits=lambda ids: [len(ids) - 3.0, 2.0])
    with elsewhere(two):
        assert "on vLLM" in open_at(two, steps, Steps(5))
    alone = FakeVllm("token_classify", logits=lambda ids: [len(ids) - 3.0, 2.0], steps_only=5)
    with elsewhere(alone):
        assert "on vLLM" in open_at(alone, steps, Steps(5))
    words = FakeVllm("generate", logits=lambda ids: [-1.5, -2.0, -3.0, -4.0, -5.0, -6.0])
    with elsewhere(words):
        assert "on vLLM" in open_at(words, causal, NextToken((5, 0)))


def test_probabilities_in_place_of_logits_are_refused(reward: ModelFiles, safety: ModelFiles, tmp_path: Path) -> None:
    assert "probabilities where raw logits were asked for" in refusal(FakeVllm(squashes=True), reward)
    three = FakeVllm(logits=lambda ids: [len(ids) - 5.0, 2.0, 30.0], squashes=True)
    assert "probabilities where raw logits were asked for" in refusal(three, safety)
    steps = load_files(str(make_step_model(tmp_path)))
    old = FakeVllm("token_classify", logits=lambda ids: [len(ids) - 3.0, 2.0], squashes=True)
    assert "probabilities where raw logits were asked for" in refusal(old, steps, Steps(5))


def test_logits_that_look_like_probabilities_are_none(reward: ModelFiles) -> None:
    small = FakeVllm(logits=lambda ids: [len(ids) / 1000])
    with elsewhere(small):
        assert "on vLLM" in open_at(small, reward)


class Unsquashed(FakeVllm):
    """Its model has no activation."""

    def _squash(self, body: dict[str, Any], row: list[float]) -> list[float]:
        return row


def test_a_model_without_an_activation_has_none_to_leave_out(reward: ModelFiles, tmp_path: Path) -> None:
    with elsewhere(Unsquashed()) as fake:
        assert "on vLLM" in open_at(fake, reward)
    regression = load_files(str(make_classifier(tmp_path, problem_type="regression")))
    with elsewhere(Unsquashed(logits=lambda ids: [len(ids) / 1000])) as fake:
        assert "on vLLM" in open_at(fake, regression)


def test_logits_in_place_of_log_probabilities_are_refused(tmp_path: Path) -> None:
    causal = load_files(str(make_causal(tmp_path)))
    above = FakeVllm("generate", logits=lambda ids: [-1.0, -1.0, -1.0, -1.0, 4.0])
    assert "--logprobs-mode" in refusal(above, causal, NextToken((4,)))
    below = FakeVllm("generate", logits=lambda ids: [-0.1, -0.1, -0.1, -0.1, -0.1])
    assert "--logprobs-mode raw_logprobs" in refusal(below, causal, NextToken((4,)))


def test_too_many_label_tokens_are_refused(tmp_path: Path) -> None:
    causal = load_files(str(make_causal(tmp_path)))
    assert "at most 128" in refusal(FakeVllm("generate"), causal, NextToken(tuple(range(129))))


def test_a_model_with_other_labels_is_another_model(reward: ModelFiles) -> None:
    text = refusal(FakeVllm(logits=lambda ids: [1.0, 2.0]), reward)
    assert "serves another model" in text and "2 numbers for an input" in text


def test_a_server_that_fails_at_a_first_input_is_refused(reward: ModelFiles) -> None:
    # vLLM is ready, and its engine dies of what it first runs: seen with a head size that its CPU attention lacks.
    assert "fails at a first input (status 500)" in refusal(FakeVllm(failures=[500]), reward)


def test_a_server_that_reads_less_than_the_scorer_is_refused(reward_folder: Path, reward: ModelFiles) -> None:
    text = refusal(FakeVllm(context=256), reward)
    assert "reads at most 256 tokens and the scorer up to 512: set its max_tokens to 256" in text
    fake = FakeVllm(context=256)
    with elsewhere(fake):
        open_at(fake, load_files(str(reward_folder), 256))


def card(name: str, root: str = "/models/secret", parent: str | None = None, context: int | None = 512) -> Any:
    return {"id": name, "root": root, "parent": parent, "max_model_len": context}


def test_the_only_model_is_used_under_its_first_name(reward: ModelFiles) -> None:
    fake = FakeVllm(name="a", cards=[card("a"), card("b"), card("lora", "/adapter", "a", None)])
    with elsewhere(fake):
        open_at(fake, reward)
    assert {body["model"] for body in fake.requests} == {"a"}


def test_of_several_models_one_must_be_named(reward: ModelFiles) -> None:
    several = [card("a"), card("b", "/other"), card("lora", "/adapter", "b", None)]
    assert "serves a, b, lora: name one" in refusal(FakeVllm(name="b", cards=several), reward)
    assert "serves a, b, lora, and not c" in refusal(FakeVllm(name="b", cards=several), reward, model="c")
    assert "serves nothing" in refusal(FakeVllm(cards=[]), reward)
    for name in ("b", "lora"):
        fake = FakeVllm(name=name, cards=several)
        with elsewhere(fake):
            open_at(fake, reward, model=name)
        assert {body["model"] for body in fake.requests} == {name}


def test_an_adapter_reads_as_much_as_its_base(reward: ModelFiles) -> None:
    fake = FakeVllm(name="lora", cards=[card("a", context=256), card("lora", "/adapter", "a", None)])
    assert "reads at most 256 tokens" in refusal(fake, reward, model="lora")


def ran_at(fake: FakeVllm, files: ModelFiles, ids: list[int]) -> list[list[int]]:
    """What vLLM is asked to read for that input."""
    vllm = VllmConfig(url=fake.url)
    backend, _ = open_backend("quality", files, Pooled(), LOADING, dtype="float32", vllm=vllm)

    async def run() -> None:
        await backend.run([ids])
        await backend.close()

    asyncio.run(run())
    return fake.asked[-1]


def test_a_decoder_is_not_sent_the_padding_that_it_would_not_read(tmp_path: Path) -> None:
    padded = load_files(str(make_classifier(tmp_path / "a")))
    unpadded = load_files(str(make_classifier(tmp_path / "b", pad=None)))
    encoder = load_files(str(make_bert_classifier(tmp_path / "c")))
    with elsewhere(FakeVllm()) as fake:
        for files, sent in ((padded, [5]), (unpadded, None), (encoder, None)):
            pad = files.tokenizer.convert_tokens_to_ids(files.tokenizer.pad_token)
            assert isinstance(pad, int)
            ids = [5, pad, pad]
            assert ran_at(fake, files, ids) == [sent or ids]
