"""Judges loaded from a folder: the verdicts are those of a plain transformers forward pass."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scorers.contract import Message, Score, ScoreRequest, ServedScorer
from scorers.judge.constitution import read_constitution
from scorers.judge.loading import load
from scorers.judge.prompt import PAIR_LABELS, PAIR_QUESTION, RATING_QUESTION, RATINGS, read_answer, read_material, told
from scorers.loading import Loading
from scorers.model_path import LoadError
from scorers.scorer_settings import JudgeConfig
from scorers.settings import ScorerServerConfig
from tests.scorers.judge.models import USER, make_judge, make_roomy_causal, say
from tests.scorers.models import make_causal, make_tokenizer

ANSWERS = [say("Paris."), say("The capital of France is Rome<|im_end|>"), say("1 2 3"), say("")]
TOLERANCE = 1e-4
SERVER = ScorerServerConfig(threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_judge(tmp_path_factory.mktemp("judge"), PAIR_LABELS)


@pytest.fixture(scope="module")
def rating_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_judge(tmp_path_factory.mktemp("rating"), RATINGS)


def loaded(folder: Path, server: ScorerServerConfig = SERVER, **settings: Any) -> tuple[ServedScorer, str]:
    return load("judge", JudgeConfig(kind="judge", model=str(folder), **settings), Loading(server))


async def scored(folder: Path, candidates: list[Message], **settings: Any) -> list[Score]:
    judge, _ = loaded(folder, **settings)
    try:
        return await judge.score(ScoreRequest("judge", [USER], candidates))
    finally:
        await judge.close()


class Plain:
    """The judge written out with transformers alone; for texts without control tokens."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model = model.eval()

    def logs(self, question: str, answers: dict[str, Message], labels: str) -> list[float]:
        read = {name: read_answer(answer, "answer") for name, answer in answers.items()}
        material = read_material([USER], [], list(read.values()))
        text = material.ask(told(read_constitution(None), question), list(read.items()))
        ids = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=True,
            return_dict=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        with torch.inference_mode():
            logs = self.model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        return [float(logs[self.tokenizer.convert_tokens_to_ids(label)]) for label in labels]


async def test_comparisons_are_those_of_plain_transformers(folder: Path) -> None:
    candidates = [ANSWERS[0], *ANSWERS[2:]]
    scores = await scored(folder, candidates)
    plain = Plain(folder)

    def odds(first: Message, second: Message) -> float:
        a, b = plain.logs(PAIR_QUESTION, {"answer A": first, "answer B": second}, "AB")
        return a - b

    wanted = [sum(odds(i, j) - odds(j, i) for j in candidates if j is not i) / (2 * 3) for i in candidates]
    assert [score.value for score in scores] == pytest.approx(wanted, abs=TOLERANCE)
    assert max(wanted) - min(wanted) > 20 * TOLERANCE


async def test_ratings_are_those_of_plain_transformers(rating_folder: Path) -> None:
    candidates = [ANSWERS[0], *ANSWERS[2:]]
    scores = await scored(rating_folder, candidates, mode="pointwise")
    plain = Plain(rating_folder)
    for candidate, score in zip(candidates, scores, strict=True):
        shares = torch.tensor(plain.logs(RATING_QUESTION, {"the answer": candidate}, "123456789")).exp()
        assert score.parts["mass"] == pytest.approx(float(shares.sum()), abs=TOLERANCE)
        wanted = float((shares * torch.arange(1, 10)).sum() / shares.sum())
        assert score.value == pytest.approx(wanted, abs=TOLERANCE)
    values = [score.value or 0.0 for score in scores]
    assert max(values) - min(values) > 20 * TOLERANCE


async def test_a_value_is_the_same_in_any_order_and_with_hostile_answers_beside_it(folder: Path) -> None:
    straight = [score.value for score in await scored(folder, ANSWERS)]
    assert None not in straight
    back = [score.value for score in await scored(folder, ANSWERS[::-1])]
    assert back == straight[::-1]


def test_info_says_what_a_judge_can_do_and_the_version_names_the_constitution(
    folder: Path, rating_folder: Path, tmp_path: Path
) -> None:
    judge, words = loaded(folder, version=3)
    assert judge.info.relative and not judge.info.prompt_only and not judge.info.partial
    assert judge.info.version.startswith("judge@3+")
    assert "pairwise, principles: 6, candidates: 256" in words
    own = tmp_path / "own.yaml"
    own.write_text(
        "order: [platform, developer, user]\nprinciples: [{id: a, authority: user, statement: It rhymes.}]\n",
        encoding="utf-8",
    )
    other, words = loaded(rating_folder, constitution=own, mode="pointwise")
    assert not other.info.relative
    assert other.info.version.startswith("judge@1+")
    assert len({one.info.version.partition("+")[2] for one in (judge, other, loaded(folder, constitution=own)[0])}) == 3
    assert "pointwise, principles: 1, candidates: 2048" in words


def test_a_model_that_answers_with_no_label_is_told_at_load(tmp_path: Path) -> None:
    make_roomy_causal(tmp_path)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        model.lm_head.weight.zero_()  # every token is as likely
    model.save_pretrained(tmp_path)
    with pytest.raises(LoadError, match=r"cannot score a short exchange: The judge did not answer with a label"):
        loaded(tmp_path)


def test_a_judge_needs_room_for_its_constitution(folder: Path) -> None:
    with pytest.raises(LoadError, match=r"The constitution and the instructions are \d+ tokens, .* at most 256"):
        loaded(folder, max_tokens=256)


def test_a_queue_without_room_for_a_comparison_is_told_at_load(folder: Path) -> None:
    with pytest.raises(LoadError, match="max_queue is 1, and to compare two answers both ways takes 2"):
        loaded(folder, ScorerServerConfig(threads=1, max_queue=1))


def test_a_model_without_a_chat_template_is_told_at_load(tmp_path: Path) -> None:
    make_causal(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    make_tokenizer(None).save_pretrained(tmp_path)
    with pytest.raises(LoadError, match="has no chat template"):
        loaded(tmp_path)


def test_a_judge_has_no_family() -> None:
    with pytest.raises(ValueError, match="family is not for a judge"):
        JudgeConfig(kind="judge", model="x", family="qwen3")
