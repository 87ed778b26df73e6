"""A score for each step, that of plain transformers at the step's own token, whatever the steps say."""

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

from scorers.backend import Row
from scorers.contract import Message, Score, ScoreRequest
from scorers.errors import ScorerError, ScorerFailed
from scorers.loading import Loading, load_scorer
from scorers.model_path import LoadError
from scorers.model_scorer import CannotScore
from scorers.process import MAX_PREFIXES, CheckedRows, StepReader, log_share, steps_of
from scorers.scorer_settings import ProcessConfig
from scorers.settings import ScorerServerConfig
from tests.scorers.models import QWEN_MATH_TEMPLATE, STEP_TOKEN, make_step_model, make_verdict_model

LOADING = Loading(ScorerServerConfig())
USER: Message = {"role": "user", "content": "What is 2 + 3 * 4?"}
STEPS = ("First 3 * 4 = 12.", "Then 2 + 12\n= 14.", "So it is 14.")
ANSWER = "\n\n".join(STEPS)


def load(folder: Path, **settings: Any) -> Any:
    scorer, _ = load_scorer("it", ProcessConfig(kind="process", model=str(folder), **settings), LOADING)
    return scorer


async def scored(folder: Path, *answers: str, prompt: Message = USER, **settings: Any) -> list[Score]:
    scorer = load(folder, **settings)
    try:
        candidates = [{"role": "assistant", "content": answer} for answer in answers]
        scores: list[Score] = await scorer.score(ScoreRequest("it", [prompt], candidates))
        return scores
    finally:
        await scorer.close()


def plain_steps(folder: Path, steps: Sequence[str]) -> torch.Tensor:
    """Raw logits at each step token, as the card of Qwen2.5-Math-PRM has it: [steps, labels]."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32).eval()
    content = "".join(step + STEP_TOKEN for step in steps)
    text = tokenizer.apply_chat_template([USER, {"role": "assistant", "content": content}], tokenize=False)
    ids = torch.tensor([tokenizer.encode(text)])
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids).logits
    return logits[ids == tokenizer.convert_tokens_to_ids(STEP_TOKEN)]


@pytest.fixture(scope="module")
def two_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_step_model(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def one_label(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_step_model(tmp_path_factory.mktemp("one"), labels=("score",))


async def test_a_step_scores_the_probability_of_the_good_label_as_in_plain_transformers(two_labels: Path) -> None:
    expected = plain_steps(two_labels, STEPS).softmax(-1)
    [score] = await scored(two_labels, ANSWER)
    assert score.steps == pytest.approx(expected[:, 1].tolist(), abs=1e-5)
    assert score.value == score.steps[-1]
    [other] = await scored(two_labels, ANSWER, good_label="bad")
    assert other.steps == pytest.approx(expected[:, 0].tolist(), abs=1e-5)


async def test_one_label_scores_steps_with_its_raw_logit(one_label: Path) -> None:
    [score] = await scored(one_label, ANSWER)
    assert score.steps == pytest.approx(plain_steps(one_label, STEPS)[:, 0].tolist(), abs=1e-4)


async def test_candidates_of_one_request_keep_their_own_steps(two_labels: Path) -> None:
    answers = [ANSWER, STEPS[0], "\n\n".join(STEPS[:2])]
    together = await scored(two_labels, *answers)
    assert [len(score.steps) for score in together] == [3, 1, 2]
    for answer, score in zip(answers, together, strict=True):
        expected = plain_steps(two_labels, answer.split("\n\n")).softmax(-1)[:, 1].tolist()
        assert score.steps == pytest.approx(expected, abs=1e-5)


async def test_math_shepherd_scores_plus_against_minus_as_in_plain_transformers(tmp_path: Path) -> None:
    folder = make_verdict_model(tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    text = f"{USER['content']} Step 1: 12. ки\nStep 2: 14. ки"
    ids = torch.tensor([tokenizer.encode(text)])
    plus_minus = tokenizer.encode("+ -")[1:]
    with torch.inference_mode():
        shares = model(input_ids=ids).logits[:, :, plus_minus].softmax(-1)[:, :, 0]
    expected = shares[ids == tokenizer.encode("ки")[-1]].tolist()
    [score] = await scored(folder, "Step 1: 12.\nStep 2: 14.", family="math-shepherd")
    assert len(expected) == 2
    assert score.steps == pytest.approx(expected, abs=1e-5)


async def test_math_shepherd_is_asked_about_a_bounded_number_of_steps(tmp_path: Path) -> None:
    folder = make_verdict_model(tmp_path)
    good, bad = await scored(folder, "a\n" * MAX_PREFIXES, "a\n" * (MAX_PREFIXES + 1), family="math-shepherd")
    assert len(good.steps) == MAX_PREFIXES
    assert bad.error == "The answer has 65 steps; this model is asked about at most 64."


@pytest.mark.parametrize(
    ("how", "value"), [("last", 0.5), ("min", 0.25), ("mean", 0.5), ("prod", math.log(0.75 * 0.25 * 0.5))]
)
def test_steps_become_one_reward(how: Any, value: float) -> None:
    reader = StepReader(8, 3, how, labels=2, good=1)
    row = [logit for share in (0.75, 0.25, 0.5) for logit in (math.log(1 - share), math.log(share))]
    score = reader.score([row], 5)
    assert score.steps == pytest.approx([0.75, 0.25, 0.5])
    assert score.value == pytest.approx(value)
    assert score.tokens == 5


def test_a_product_of_many_bad_steps_still_ranks() -> None:
    reader = StepReader(8, 3, "prod", labels=2, good=1)
    worse, bad = (reader.score([[400.0, -400.0] * steps], 1).value for steps in (2, 1))
    assert worse is not None
    assert bad is not None
    assert -math.inf < worse < bad < 0


def test_the_smallest_and_the_mean_of_raw_scores() -> None:
    for how, value in (("last", 2.0), ("min", -3.0), ("mean", 1.0)):
        reader = StepReader(8, 3, how, labels=1, good=None)  # type: ignore[arg-type]
        assert reader.score([[4.0, -3.0, 2.0]], 1).value == value


@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=5))
def test_shares_are_those_of_a_softmax(logits: list[float]) -> None:
    shares = [math.exp(log_share(logits, index)) for index in range(len(logits))]
    assert math.fsum(shares) == pytest.approx(1)
    assert shares == pytest.approx(torch.tensor(logits, dtype=torch.float64).softmax(0).tolist())


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_logit_that_is_not_finite_is_no_score(wrong: float) -> None:
    with pytest.raises(CannotScore):
        StepReader(8, 3, "min", labels=2, good=1).score([[0.0, 1.0, 2.0, wrong]], 1)


@given(st.lists(st.text("ab \n", max_size=6), max_size=6), st.sampled_from(["\n\n", "\n", " "]))
def test_steps_keep_their_text_in_order_and_empty_ones_are_dropped(pieces: list[str], separator: str) -> None:
    answer = separator.join(pieces)
    steps = steps_of(answer, separator)
    assert all(step.strip() and separator not in step for step in steps)
    assert "".join("".join(steps).split()) == "".join(answer.split())
    position = 0
    for step in steps:
        position = answer.index(step, position) + len(step)


async def test_another_separator_makes_other_steps(two_labels: Path) -> None:
    [lines] = await scored(two_labels, "one\ntwo\n\n\nthree", separator="\n")
    assert lines.steps == pytest.approx(plain_steps(two_labels, ["one", "two", "three"]).softmax(-1)[:, 1].tolist())


@pytest.mark.parametrize("text", [STEP_TOKEN, f"fine {STEP_TOKEN}{STEP_TOKEN} fine", "<extra_0"])
async def test_a_step_token_of_a_stranger_is_text_in_the_prompt_and_in_a_step(two_labels: Path, text: str) -> None:
    [score] = await scored(two_labels, f"{text}\n\n{text}", prompt={"role": "user", "content": text})
    assert len(score.steps) == 2


@pytest.mark.parametrize("empty", ["", " \n\n \n"])
async def test_an_answer_without_steps_fails_alone(two_labels: Path, empty: str) -> None:
    good, bad = await scored(two_labels, ANSWER, empty)
    assert good.value is not None
    assert bad == Score(error="The answer has no step to score.")


async def test_an_answer_that_is_too_long_fails_alone(two_labels: Path) -> None:
    good, bad = await scored(two_labels, ANSWER, "bread " * 600)
    assert good.value is not None
    assert "the model reads at most 512" in str(bad.error)


async def test_a_template_that_drops_steps_is_an_error_of_that_candidate(tmp_path: Path) -> None:
    template = "{% for m in messages %}<|im_start|>{{ m.content[:30] }}<|im_end|>\n{% endfor %}"
    short, long = await scored(make_step_model(tmp_path, template=template), "one", f"{'x' * 20}\n\ntwo\n\nthree")
    assert short.value is not None
    assert long.error == "The answer has 3 steps, but its prompt holds 1 step tokens."


class Answers:
    """A backend that answers the same row always."""

    depth = 0

    def __init__(self, row: Row | ScorerError) -> None:
        self._row = row

    async def run(self, inputs: Sequence[list[int]]) -> list[Row | ScorerError]:
        return [self._row for _ in inputs]

    async def close(self) -> None:
        return None


@pytest.mark.parametrize(("numbers", "fits"), [(4, True), (3, False), (2, False), (6, False), (0, False)])
def test_scores_that_are_not_one_a_step_are_an_error(numbers: int, fits: bool) -> None:
    backend = CheckedRows(Answers([0.0] * numbers), token_id=7, labels=2)
    [row] = asyncio.run(backend.run([[1, 7, 2, 7]]))
    assert isinstance(row, ScorerFailed) is not fits
    assert fits or str(row) == f"The model answered {numbers} numbers for 2 steps with 2 labels each."


def test_a_failure_of_the_backend_is_passed_on() -> None:
    failure = ScorerFailed("broken")
    assert asyncio.run(CheckedRows(Answers(failure), 7, 2).run([[7]])) == [failure]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"good_label": "right"}, "good_label is right, but the labels of .* are bad, good"),
        ({"step_token": "<step>"}, "has no token '<step>': name the model's own with step_token"),
        ({"step_token": "\n"}, "is white space"),
        ({"family": "pair"}, "no family 'pair' of kind process"),
        ({"family": "math-shepherd"}, "has no token 'ки'"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(two_labels: Path, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(LoadError, match=why):
        load(two_labels, **settings)


def test_a_product_of_raw_scores_is_refused(one_label: Path) -> None:
    with pytest.raises(LoadError, match="prod needs probabilities"):
        load(one_label, aggregate="prod")


def test_three_labels_need_the_good_one_named(tmp_path: Path) -> None:
    folder = make_step_model(tmp_path, labels=("bad", "neutral", "good"))
    with pytest.raises(LoadError, match="labels bad, neutral, good; say which is good"):
        load(folder)


def test_a_model_whose_head_only_vllm_has_is_refused_without_one(tmp_path: Path) -> None:
    folder = make_step_model(tmp_path, template=QWEN_MATH_TEMPLATE)
    config = folder / "config.json"
    config.write_text(config.read_text().replace("Qwen3ForTokenClassification", "Qwen2ForProcessRewardModel"))
    with pytest.raises(LoadError, match=r"runs on a vLLM server only .* name it in `vllm`"):
        load(folder)


async def test_a_template_that_writes_the_step_token_itself_is_refused(tmp_path: Path) -> None:
    template = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>\n{% endfor %}" + STEP_TOKEN
    with pytest.raises(LoadError, match="has 1 steps, but its prompt holds 2 step tokens"):
        load(make_step_model(tmp_path, template=template))


async def test_it_says_that_it_scores_steps(two_labels: Path) -> None:
    scorer = load(two_labels)
    info = scorer.info
    assert (info.kind, info.gives, info.steps, info.partial, info.prompt_only) == (
        "process",
        "value",
        True,
        True,
        False,
    )
    await scorer.close()
