"""The failure law at the gateway's edge: what a scorer does not say rightly is missing, counted, and never a number."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateway.scoring import Conversation, ScorerHandle
from gateway.telemetry.metrics import Metrics
from scorers.client import ScorerClient
from scorers.contract import Gives, Score
from tests.fakes import FakeScorers, serve
from tests.gateway.scorer_stubs import StubClient, handle, rewards

PROMPT = Conversation(
    [{"role": "user", "content": "hi"}], [{"type": "function"}], {"type": "json_object"}, reference="42"
)
ANSWERS = [{"role": "assistant", "content": text} for text in ("a", "b", "c")]


@asynccontextmanager
async def serving(fake: FakeScorers, name: str = "reward", timeout_s: float = 5.0) -> AsyncIterator[ScorerHandle]:
    async with serve(fake), aiohttp.ClientSession() as session:
        yield ScorerHandle(name, f"{name}@1", ScorerClient(fake.url, session), timeout_s, Metrics())


def failures(scorer: ScorerHandle) -> dict[str, float]:
    """By reason."""
    [family] = scorer.metrics.scorer_failures.collect()
    return {
        sample.labels["reason"]: sample.value
        for sample in family.samples
        if sample.labels["scorer"] == scorer.name and sample.name.endswith("_total")
    }


async def test_scores_come_in_order_and_nothing_is_counted() -> None:
    async with serving(FakeScorers(rewards={"a": 1.0, "b": -40.5, "c": 3.0})) as scorer:
        assert [score.value for score in await scorer.score(PROMPT, ANSWERS)] == [1.0, -40.5, 3.0]
        assert failures(scorer) == {}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"error": "out of memory"}, "candidate_failed"),
        ({"value": float("nan")}, "candidate_failed"),
        ({"value": float("inf")}, "candidate_failed"),
        ({"value": -float("inf")}, "candidate_failed"),
        ({"value": 10**400}, "candidate_failed"),
        ({"value": "7"}, "candidate_failed"),
        ({"value": True}, "candidate_failed"),
        ({}, "candidate_failed"),
        ({"value": 1.0, "error": "but no"}, "candidate_failed"),
        ({"categories": {"x": 0.5}}, "other_kind"),
    ],
    ids=str,
)
async def test_what_is_no_number_is_missing_for_that_candidate_alone(answer: dict[str, object], reason: str) -> None:
    async with serving(FakeScorers(rewards=len, answers={"reward:b": answer})) as scorer:
        first, second, third = await scorer.score(PROMPT, ANSWERS)
        assert (first.value, third.value) == (1.0, 1.0)
        assert second.value is None and second.error
        assert failures(scorer) == {reason: 1.0}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"value": 1.0}, "other_kind"),
        ({"categories": {}}, "candidate_failed"),
        ({"categories": {"x": 1.5}}, "candidate_failed"),
        ({"categories": {"x": float("nan")}}, "candidate_failed"),
    ],
    ids=str,
)
async def test_what_is_no_probability_is_a_guard_that_did_not_answer(answer: dict[str, object], reason: str) -> None:
    async with serving(FakeScorers(answers={"safety:a": answer}), "safety") as scorer:
        [score] = await scorer.score(PROMPT, ANSWERS[:1], gives="categories")
        assert score.categories is None and score.error
        assert failures(scorer) == {reason: 1.0}


async def test_a_scorer_that_is_away_is_missing_for_all_and_says_no_address() -> None:
    async with serving(FakeScorers(down=frozenset({"reward"}))) as scorer:
        scores = await scorer.score(PROMPT, ANSWERS)
        assert [score.error for score in scores] == ["the scorer did not answer"] * 3
        assert failures(scorer) == {"scorer_unavailable": 3.0}


async def test_one_that_takes_too_long_is_missing() -> None:
    async with serving(FakeScorers(rewards=len, delay_s=5.0), timeout_s=0.1) as scorer:
        assert all(score.error for score in await scorer.score(PROMPT, ANSWERS))
        assert failures(scorer) == {"scorer_unavailable": 3.0}


async def test_what_is_not_there_by_the_deadline_is_missing() -> None:
    scorer = handle("reward", rewards(delay_s=30.0))
    deadline = asyncio.get_running_loop().time() + 0.05
    scores = await scorer.score(PROMPT, ANSWERS, deadline=deadline)
    assert [score.error for score in scores] == ["it was not answered by the deadline"] * 3
    assert failures(scorer) == {"deadline": 3.0}


async def test_too_few_scores_are_none() -> None:
    """Which candidate is whose, nobody knows."""
    async with serving(FakeScorers(rewards=len, drops=1)) as scorer:
        assert all(score.error for score in await scorer.score(PROMPT, ANSWERS))
        assert failures(scorer) == {"scorer_failed": 3.0}


async def test_content_that_cannot_be_read_is_said_so() -> None:
    async with serving(FakeScorers(unreadable=frozenset({"hi"})), "safety") as scorer:
        [score] = await scorer.score(PROMPT, gives="categories")
        assert score.unreadable and score.error == "this content cannot be read"
        assert failures(scorer) == {"invalid_score_request": 1.0}


@pytest.mark.parametrize(("gives", "told"), [("value", True), ("categories", False)])
async def test_verifiers_get_the_form_and_the_expected_answer_and_guards_do_not(gives: Gives, told: bool) -> None:
    client = StubClient(lambda text: Score(value=1.0) if told else Score(categories={"x": 0.0}))
    await handle("s", client).score(PROMPT, ANSWERS, gives=gives)
    [request] = client.requests
    assert request.messages == PROMPT.messages and request.tools == PROMPT.tools
    assert request.response_format == ({"type": "json_object"} if told else None)
    assert request.reference == ("42" if told else None)


async def test_what_a_scorer_can_do_is_as_its_server_says() -> None:
    fake = FakeScorers(values={"judge": len}, relative=frozenset({"judge"}), answers_only=frozenset({"safety"}))
    async with serving(fake, "judge") as scorer:
        assert await scorer.ready()
        assert (scorer.relative, scorer.prompt_only) == (True, True)
    async with serving(fake, "safety") as scorer:
        assert await scorer.ready()
        assert (scorer.relative, scorer.prompt_only) == (False, False)
    async with serving(fake, "nobody") as scorer:
        assert not await scorer.ready()
