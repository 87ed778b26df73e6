"""A guard that fails for one text says so for that text; it never answers with a number that no model gave."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from scorers.backend import Row
from scorers.contract import Message, ScoreRequest, ScorerInfo
from scorers.errors import BadScoreRequest, ScorerError, ScorerFailed, ScorerUnavailable
from scorers.guards.guard_format import GuardFormat
from scorers.guards.verdict import VerdictReader, VerdictTokens
from scorers.model_scorer import ModelScorer, Reader
from scorers.safety import SafetyReader
from tests.scorers.backends_fake import FakeBackend

USER = {"role": "user", "content": "Hello"}
FORMAT = GuardFormat.model_validate(
    {
        "about": "a guard",
        "labels": [{"text": "safe", "unsafe": 0}, {"text": "unsafe", "unsafe": 1}],
        "then": "\n",
        "categories": [{"text": "1", "name": "fraud"}],
    }
)
CLASSIFIER = SafetyReader([(0, "violence"), (1, "fraud")], multi_label=True, max_tokens=4)
GENERATIVE = VerdictReader(FORMAT, VerdictTokens((1, 2), (2, 9), (3,)), 8)
ROWS: dict[str, Row] = {"classifier": [-2.0, 1.0], "generative": [math.log(one) for one in (0.6, 0.3, 0.1)]}
READERS: dict[str, Reader] = {"classifier": CLASSIFIER, "generative": GENERATIVE}
KINDS = list(READERS)


class Lengths:
    """Encodes a text to as many ids as it has characters, each its place among the candidates' texts."""

    def encode(
        self, messages: Sequence[Message], candidate: Message | None, tools: Sequence[dict[str, Any]]
    ) -> list[int]:
        text = (candidate or messages[-1])["content"]
        return [ord(one) for one in text]


def guard(kind: str, answer: Callable[[list[int]], Row | ScorerError]) -> ModelScorer:
    info = ScorerInfo("guard", "safety", "categories", "guard@1", prompt_only=True, max_tokens=8)
    return ModelScorer(info, Lengths(), READERS[kind], FakeBackend(answer), max_candidates=8)


def answers(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": text} for text in texts]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1])
async def test_a_number_that_is_not_finite_leaves_its_text_alone_without_a_verdict(
    kind: str, wrong: float, place: int
) -> None:
    def answer(ids: list[int]) -> Row:
        row = list(ROWS[kind])
        if ids[0] == ord("b"):
            row[place] = wrong
        return row

    good, bad = await guard(kind, answer).score(ScoreRequest("guard", [USER], answers("a", "b")))
    assert good.categories and good.error is None
    assert bad.categories is None
    assert bad.error is not None and "not finite" in bad.error


@pytest.mark.parametrize("kind", KINDS)
async def test_an_input_that_fails_leaves_its_text_alone_without_a_verdict(kind: str) -> None:
    def answer(ids: list[int]) -> Row | ScorerError:
        return ScorerFailed("The model failed: out of memory") if ids[0] == ord("b") else ROWS[kind]

    good, bad = await guard(kind, answer).score(ScoreRequest("guard", [USER], answers("a", "b")))
    assert good.categories
    assert (bad.categories, bad.error) == (None, "The model failed: out of memory")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_text_with_one_part_unread_has_no_verdict(kind: str) -> None:
    """Of a classifier's windows, or of a generative guard's two inputs, the second fails."""
    asked: list[list[int]] = []

    def answer(ids: list[int]) -> Row | ScorerError:
        asked.append(ids)
        return ScorerUnavailable("gone") if len(asked) == 2 else ROWS[kind]

    [score] = await guard(kind, answer).score(ScoreRequest("guard", [USER], answers("abcdef")))
    assert len(asked) == 2
    assert (score.categories, score.error) == (None, "gone")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_guard_whose_every_input_fails_raises(kind: str) -> None:
    with pytest.raises(ScorerUnavailable, match="gone"):
        await guard(kind, lambda ids: ScorerUnavailable("gone")).score(ScoreRequest("guard", [USER], answers("a", "b")))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_prompt_alone_that_cannot_be_judged_is_an_error_too(kind: str) -> None:
    row = [math.nan] * len(ROWS[kind])
    [score] = await guard(kind, lambda ids: row).score(ScoreRequest("guard", [USER]))
    assert score.categories is None and score.error


async def test_an_empty_text_is_no_verdict_of_a_classifier() -> None:
    [score] = await guard("classifier", lambda ids: ROWS["classifier"]).score(
        ScoreRequest("guard", [USER], answers(""))
    )
    assert score.categories is None and score.error


async def test_a_label_that_the_backend_leaves_out_is_no_verdict() -> None:
    [score] = await guard("generative", lambda ids: ROWS["generative"][:2]).score(
        ScoreRequest("guard", [USER], answers("a"))
    )
    assert score.categories is None
    assert score.error == "The guard's model did not answer for each of its labels."


async def test_too_many_candidates_are_refused_not_judged_in_part() -> None:
    with pytest.raises(BadScoreRequest, match="at most 8"):
        await guard("classifier", lambda ids: ROWS["classifier"]).score(
            ScoreRequest("guard", [USER], answers(*"abcdefghi"))
        )
