"""Votes through a whole gateway."""

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import config_for, running_gateway

TEXTS = ("It is 3.", "So it is 1/2.", "Then 0.50.", "We get .5 here", "No idea")
REWARDS = {text: float(place) for place, text in enumerate(reversed(TEXTS))}


async def test_the_answer_that_most_agree_on_wins_over_the_one_with_the_highest_reward(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=REWARDS)
    settings: dict[str, Any] = {"strategy": "vote", "options": {"confidence": None}}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), scorers, n=5, **settings) as gateway:
        status, _, body = await gateway.chat(guidance={"return_candidates": True})
        assert status == 200
        assert body["choices"][0]["message"]["content"] == TEXTS[1]
        receipt = body["guidance"]
        assert (receipt["strategy"], receipt["sampled"], receipt["chosen"]) == ("vote", 5, 1)
        assert receipt["degraded"] is None
        [record] = gateway.interactions
        assert [one.propensity for one in record.candidates] == [0.0, 1.0, 0.0, 0.0, 0.0]


async def test_a_clear_majority_saves_samples(tmp_path: Path) -> None:
    worker = FakeWorker(texts=("It is 7.",))
    async with running_gateway(tmp_path, worker, n=16, strategy="vote") as gateway:
        _, _, body = await gateway.chat()
        assert body["guidance"]["sampled"] == 4
        assert [one["n"] for one in worker.requests] == [4]


async def test_it_needs_no_reward(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"strategy": "vote", "reward": None}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), n=5, **settings) as gateway:
        _, _, body = await gateway.chat()
        assert body["choices"][0]["message"]["content"] == TEXTS[1]
        assert gateway.scorers.asked("reward") == []


async def test_unsafe_answers_do_not_vote(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=REWARDS, unsafe=frozenset(TEXTS[1:3]))
    settings: dict[str, Any] = {"strategy": "vote", "options": {"confidence": None}}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), scorers, n=5, **settings) as gateway:
        _, _, body = await gateway.chat()
        # One vote each for 3 and 1/2, and 3 was first.
        assert body["choices"][0]["message"]["content"] == TEXTS[0]


async def test_where_no_answer_is_found_the_best_is_delivered_and_it_is_counted(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"strategy": "vote", "options": {"extract": "boxed"}}
    async with running_gateway(tmp_path, FakeWorker(texts=TEXTS), FakeScorers(rewards=REWARDS), **settings) as gateway:
        _, headers, body = await gateway.chat()
        assert body["choices"][0]["message"]["content"] == TEXTS[0]
        assert body["guidance"]["degraded"] == headers["x-bestow-degraded"] == "no_answer"
        assert gateway.metric("bestow_degraded_total", model="m", reason="no_answer") == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"options": {"weight": "rank"}, "reward": None}, "strategy vote needs reward with these options"),
        ({"options": {"extract": "regex", "pattern": "("}}, "options.pattern: .* is no regular expression of RE2"),
        ({"options": {"weight": "reward", "confidence": 0.9}}, "options: confidence does something with weight: none"),
    ],
)
def test_a_profile_that_cannot_work_is_refused_by_name(tmp_path: Path, settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_for(FakeWorker(), FakeScorers(), tmp_path, {"strategy": "vote", **settings})
