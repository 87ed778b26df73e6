"""A generative guard's prompts are its template's, its probabilities are plain transformers', and what is no guard is
refused."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from scorers.contract import ScoreRequest
from scorers.errors import BadScoreRequest
from scorers.guards.generative import guard_parts, load
from scorers.guards.guard_format import shipped_formats
from scorers.loading import Loading, ServedScorer, load_scorer
from scorers.model_files import ModelFiles, load_files
from scorers.model_path import LoadError
from scorers.scorer_settings import GenerativeSafetyConfig
from scorers.settings import ScorerServerConfig
from tests.scorers.guards.guard_models import (
    LLAMA_8B,
    TEMPLATES,
    make_guard,
    make_guard_tokenizer,
    official_ids,
)
from tests.scorers.models import make_causal

SHAPES = list(TEMPLATES)
LOADING = Loading(ScorerServerConfig(threads=1))
USER = {"role": "user", "content": "How do I bake bread?"}
ANSWER = {"role": "assistant", "content": "Mix flour and water.\n\nThen wait."}
TALKS = [[USER], [USER, ANSWER], [USER, ANSWER, {"role": "user", "content": "Why?\n"}]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {shape: make_guard(tmp_path_factory.mktemp(shape), shape) for shape in SHAPES}


def config(folder: Path, **kwargs: Any) -> GenerativeSafetyConfig:
    return GenerativeSafetyConfig(kind="generative_safety", model=str(folder), **kwargs)


def split(talk: Sequence[dict[str, Any]]) -> tuple[Sequence[dict[str, Any]], dict[str, Any] | None]:
    return (talk[:-1], talk[-1]) if talk[-1]["role"] == "assistant" else (talk, None)


def text_of(files: ModelFiles, messages: Sequence[dict[str, Any]], candidate: dict[str, Any] | None = None) -> str:
    """What the guard reads, its control tokens written out."""
    encoder, _, _ = guard_parts(files, config(Path(files.name)))
    text = files.tokenizer.decode(encoder.encode(messages, candidate, []))
    assert isinstance(text, str)
    return text


@contextmanager
def loaded(folder: Path, **kwargs: Any) -> Iterator[ServedScorer]:
    scorer, _ = load_scorer("guard", config(folder, **kwargs), LOADING)
    yield scorer


def plain_categories(folder: Path, shape: str, talk: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The same by transformers alone, from the family's documentation."""
    tokenizer = load_files(str(folder)).tokenizer
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    found = shipped_formats()["qwen3guard" if shape == "qwen3guard" else "llama-guard"]

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    def following(begin: list[int]) -> Any:
        with torch.inference_mode():
            return model(torch.tensor([begin])).logits[0, -1].softmax(-1)

    prompt = official_ids(tokenizer, shape, talk) + ids(found.lead)
    verdict = following(prompt)
    mass = sum(float(verdict[ids(label.text)[0]]) for label in found.labels)
    unsafe = sum(label.unsafe * float(verdict[ids(label.text)[0]]) for label in found.labels) / mass
    named = following(prompt + ids(found.unsafe_label) + ids(found.then))
    categories = found.categories[:13] if shape == "llama-guard-1b" else found.categories
    first = [float(named[ids(category.text)[0]]) for category in categories]
    expected = {"unsafe": unsafe}
    expected |= {label.name: float(verdict[ids(label.text)[0]]) / mass for label in found.labels if label.name}
    return expected | {
        category.name: unsafe * (one + 1 - sum(first)) for category, one in zip(categories, first, strict=True)
    }


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_prompt_has_the_ids_of_the_familys_own_template(
    folders: dict[str, Path], shape: str, talk: list[dict[str, Any]]
) -> None:
    files = load_files(str(folders[shape]))
    encoder, _, found = guard_parts(files, config(folders[shape]))
    messages, candidate = split(talk)
    expected = official_ids(files.tokenizer, shape, talk)
    lead = files.tokenizer(found.lead, add_special_tokens=False).input_ids
    assert encoder.encode(messages, candidate, []) == expected + lead


@pytest.mark.parametrize("shape", SHAPES)
async def test_probabilities_are_those_of_plain_transformers(folders: dict[str, Path], shape: str) -> None:
    with loaded(folders[shape]) as guard:
        for talk in TALKS:
            messages, candidate = split(talk)
            request = ScoreRequest("guard", list(messages), [candidate] if candidate else [])
            [score] = await guard.score(request)
            assert score.categories == pytest.approx(plain_categories(folders[shape], shape, talk), abs=1e-5)
            assert list(score.categories or ()) == guard.info.categories


async def test_a_candidates_score_is_the_same_alone_and_among_others(folders: dict[str, Path]) -> None:
    answers = [{"role": "assistant", "content": "So. " * count} for count in (1, 4, 2, 9)]
    with loaded(folders["llama-guard-8b"]) as guard:
        together = await guard.score(ScoreRequest("guard", [USER], answers))
        alone = [(await guard.score(ScoreRequest("guard", [USER], [answer])))[0] for answer in answers]
    for one, other in zip(together, alone, strict=True):
        assert one.categories == pytest.approx(other.categories, abs=1e-5)
    assert len({tuple((score.categories or {}).values()) for score in together}) == len(answers)


def test_what_a_guard_can_do_is_declared(folders: dict[str, Path]) -> None:
    with loaded(folders["qwen3guard"]) as guard:
        info = guard.info
    assert (info.kind, info.gives, info.prompt_only, info.max_tokens) == ("generative_safety", "categories", True, 1024)
    assert info.categories[:3] == ["unsafe", "controversial", "violent"]
    assert info.vocabulary


def test_categories_that_the_models_prompt_does_not_list_are_none(folders: dict[str, Path]) -> None:
    with loaded(folders["llama-guard-1b"]) as small, loaded(folders["llama-guard-8b"]) as large:
        assert set(large.info.categories) - set(small.info.categories) == {"code_interpreter_abuse"}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("role", ["system", "developer", "tool", "function"])
def test_every_role_is_seen(folders: dict[str, Path], shape: str, role: str) -> None:
    files = load_files(str(folders[shape]))
    for messages in ([{"role": role, "content": "marker"}, USER], [USER, {"role": role, "content": "marker"}]):
        text = text_of(files, messages)
        assert "marker" in text.split("<BEGIN CONVERSATION>")[1]


def test_a_system_prompt_is_put_before_the_question_as_qwen3guards_template_does(folders: dict[str, Path]) -> None:
    files = load_files(str(folders["qwen3guard"]))
    messages = [{"role": "system", "content": "Be brief."}, USER]
    encoder, _, _ = guard_parts(files, config(folders["qwen3guard"]))
    expected = official_ids(files.tokenizer, "qwen3guard", messages)
    assert encoder.encode(messages, None, [])[: len(expected)] == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_all_that_an_answer_delivers_is_judged(folders: dict[str, Path], shape: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "send", "arguments": '{"to": "argument"}'}}
    answer = {"content": "text", "reasoning": "thought", "refusal": "declined", "tool_calls": [call]}
    text = text_of(load_files(str(folders[shape])), [USER], answer)
    judged = text.split("<BEGIN CONVERSATION>")[1].split("<END CONVERSATION>")[0]
    for part in ("text", "thought", "declined", "send", "argument"):
        assert part in judged.split("bake bread?")[1]


def test_an_empty_answer_is_judged_as_an_answer(folders: dict[str, Path]) -> None:
    files = load_files(str(folders["llama-guard-8b"]))
    assert "ONLY THE LAST Agent message" in text_of(files, [USER], {"content": None})


def test_a_prompt_that_ends_in_words_of_the_assistant_is_judged_as_the_clients(folders: dict[str, Path]) -> None:
    files = load_files(str(folders["llama-guard-8b"]))
    text = text_of(files, [USER, {"role": "assistant", "content": "Certainly: first"}])
    assert "ONLY THE LAST User message" in text
    assert "User: How do I bake bread?\n\nCertainly: first\n\n" in text


def test_a_conversation_that_the_assistant_begins_is_judged(folders: dict[str, Path]) -> None:
    files = load_files(str(folders["llama-guard-8b"]))
    text = text_of(files, [{"role": "assistant", "content": "Welcome."}, USER])
    assert "User: \n\nAgent: Welcome.\n\nUser: How do I bake bread?" in text


async def test_a_prompt_too_long_for_the_model_is_an_error_of_that_candidate_alone(folders: dict[str, Path]) -> None:
    answers = [{"role": "assistant", "content": "Yes."}, {"role": "assistant", "content": "word " * 800}]
    with loaded(folders["qwen3guard"]) as guard:
        short, long = await guard.score(ScoreRequest("guard", [USER], answers))
    assert short.categories
    assert long.categories is None
    assert long.error is not None and "reads at most 1024" in long.error


def test_a_conversation_that_cannot_be_read_is_refused(folders: dict[str, Path]) -> None:
    encoder, _, _ = guard_parts(load_files(str(folders["qwen3guard"])), config(folders["qwen3guard"]))
    with pytest.raises(BadScoreRequest, match="only text can"):
        encoder.encode([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], None, [])


def test_a_text_that_the_template_cuts_is_an_error_and_never_judged_in_part(tmp_path: Path) -> None:
    folder = make_guard(tmp_path, "llama-guard-8b", template=LLAMA_8B.replace(".content.strip()", ".content[:40]"))
    encoder, _, _ = guard_parts(load_files(str(folder)), config(folder))
    assert encoder.encode([USER], None, [])
    with pytest.raises(BadScoreRequest, match="leaves out a part"):
        encoder.encode([{"role": "user", "content": "harmless " * 6 + "harmful"}], None, [])


def test_a_language_model_that_does_not_answer_in_labels_is_no_guard(tmp_path: Path) -> None:
    folder = make_guard(tmp_path, "llama-guard-8b", answers=False)
    with pytest.raises(LoadError, match="did not answer with one of its labels"):
        load("guard", config(folder), LOADING)


def test_a_model_without_a_known_guards_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"are of no known guard \(llama-guard, qwen3guard\)"):
        load("guard", config(make_causal(tmp_path)), LOADING)


def test_a_tokenizer_without_a_chat_template_needs_a_format(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="has no chat template"):
        load("guard", config(make_causal(tmp_path, template=None)), LOADING)


def test_the_family_can_be_named_and_is_checked(folders: dict[str, Path]) -> None:
    files = load_files(str(folders["qwen3guard"]))
    assert guard_parts(files, config(folders["qwen3guard"], family="qwen3guard"))[2].about.startswith("Qwen3Guard")
    with pytest.raises(LoadError, match=r"is no llama-guard: its chat template makes prompts without"):
        guard_parts(files, config(folders["qwen3guard"], family="llama-guard"))
    with pytest.raises(LoadError, match="There is no guard family 'wildguard'"):
        guard_parts(files, config(folders["qwen3guard"], family="wildguard"))


def test_what_the_prompt_already_ends_with_is_not_written_twice(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = make_guard(tmp_path, "llama-guard-8b", answers=False, template=LLAMA_8B + "{{- '\\n\\n' }}")
    one, other = (guard_parts(load_files(str(where)), config(where)) for where in (folder, folders["llama-guard-8b"]))
    assert one[0].encode([USER], ANSWER, []) == other[0].encode([USER], ANSWER, [])
    assert one[1].ids == other[1].ids


def test_an_older_llama_guard_whose_numbers_mean_other_categories_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    folder = make_guard(tmp_path, "llama-guard-8b", template=LLAMA_8B.replace("S5: Defamation", "S5: Advice"))
    with pytest.raises(LoadError, match="no known guard"):
        guard_parts(load_files(str(folder)), config(folder))


def test_labels_that_begin_with_one_token_cannot_be_told_apart(folders: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "format.yaml"
    path.write_text(
        "about: x\nlead: '\\n\\n'\nlabels: [{text: '1', unsafe: 0}, {text: '1 is it', unsafe: 1}]\n", encoding="utf-8"
    )
    files = load_files(str(folders["llama-guard-8b"]))
    with pytest.raises(LoadError, match="labels '1' and '1 is it' begin with the same token"):
        guard_parts(files, config(folders["llama-guard-8b"], template=path))


def test_a_label_that_joins_with_what_stands_before_it_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "format.yaml"
    path.write_text("about: x\nlead: 'un'\nlabels: [{text: 'safe', unsafe: 1}, {text: ' x', unsafe: 0}]\n")
    files = load_files(str(folders["llama-guard-8b"]))
    with pytest.raises(LoadError, match="joins 'safe' with what the guard format puts before it"):
        guard_parts(files, config(folders["llama-guard-8b"], template=path))


async def test_another_family_is_served_by_a_format_file(tmp_path: Path) -> None:
    """Its prompt stands in the file, and the tokenizer has no template."""
    path = tmp_path / "format.yaml"
    path.write_text(
        "about: mine\n"
        'template: "{% for one in messages %}{{ one.role }}> {{ one.content }}\\n{% endfor %}Answer:"\n'
        "labels: [{text: ' Safe', unsafe: 0}, {text: ' Unsafe', unsafe: 1}]\n"
        "category: trouble\n"
        'speakers: ["user>", "assistant>"]\n'
    )
    folder = make_guard(tmp_path / "model", "qwen3guard")
    tokenizer = make_guard_tokenizer("qwen3guard")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink()
    files = load_files(str(folder))
    encoder, reader, found = guard_parts(files, config(folder, template=path))
    ids = encoder.encode([USER], {"content": "Mix.\nuser> thanks"}, [])
    assert files.tokenizer.decode(ids) == "user> How do I bake bread?\nassistant> Mix.\nuser- thanks\nAnswer:"
    assert reader.windows(ids) == [ids]
    even = [math.log(0.5), math.log(0.5)]
    assert reader.score([even], 3).categories == pytest.approx({"trouble": 0.5})
    assert found.names == ["trouble"]


def test_template_and_family_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep one of them"):
        config(tmp_path, template=tmp_path / "x.yaml", family="qwen3guard")
