"""Early stopping through a whole gateway: what the client gets, what the log says, and what admission counts."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import config_for, running_gateway

# A fake worker's candidate i of a request says the i-th text: each wave begins with the first again.
REWARDS = {"one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0}


async def test_it_stops_once_the_threshold_is_reached_and_the_log_has_the_waves(tmp_path: Path) -> None:
    options = {"threshold": 2.0, "first": 2}
    scorers = FakeScorers(rewards=REWARDS)
    async with running_gateway(tmp_path, scorers=scorers, n=8, strategy="early_stopping", options=options) as gateway:
        status, headers, body = await gateway.chat()
        assert status == 200
        assert body["choices"][0]["message"]["content"] == "two"
        assert (body["guidance"]["strategy"], body["guidance"]["sampled"]) == ("early_stopping", 2)
        assert headers["x-bestow-candidates"] == "2"
        assert body["guidance"]["degraded"] is None
        [record] = gateway.interactions
        assert [one.propensity for one in record.candidates] == [0.0, 1.0]
    options = {"threshold": 9.0, "first": 2, "wave": 3}
    async with running_gateway(tmp_path, scorers=scorers, n=8, strategy="early_stopping", options=options) as gateway:
        _, _, body = await gateway.chat(seed=10)
        assert body["choices"][0]["message"]["content"] == "three"
        assert [(one["n"], one["seed"]) for one in gateway.worker.requests] == [(2, 10), (3, 12), (3, 15)]
        [record] = gateway.interactions
        assert [one.wave for one in record.candidates] == [0, 0, 1, 1, 1, 2, 2, 2]
        assert [one.seed for one in record.candidates] == [*range(10, 18)]
        assert (record.strategy, record.n) == ("early_stopping", 8)


async def test_the_price_is_weighed_against_what_earlier_requests_have_shown(tmp_path: Path) -> None:
    # A word is a token: a candidate costs 0.1 deviations.
    options = {"price": 100.0}
    scorers = FakeScorers(rewards=REWARDS)
    async with running_gateway(tmp_path, scorers=scorers, n=16, strategy="early_stopping", options=options) as gateway:
        await gateway.chat()
        assert len(gateway.service.laws) == 1
        # Each wave says one to four: a deviation of sqrt(5/3).
        (law,) = gateway.service.laws._laws.values()
        assert law.deviation == pytest.approx((5 / 3) ** 0.5)
        for _ in range(3):
            await gateway.chat()
        assert law.deviation == pytest.approx((5 / 3) ** 0.5)
        sampled = [record.candidates for record in gateway.interactions]
        assert all(4 <= len(one) <= 16 for one in sampled)
        # Little is known at first; once more is, the best of four that there are leaves less to be gained.
        assert len(sampled[0]) >= len(sampled[-1])
        await gateway.chat("hi " * 300)
        assert len(gateway.service.laws) == 2


async def test_a_small_wave_holds_as_few_places_and_the_next_is_counted(tmp_path: Path) -> None:
    worker = FakeWorker(delays_s=(0.5,))
    options = {"threshold": 100.0, "first": 2}
    async with running_gateway(tmp_path, worker, n=8, strategy="early_stopping", options=options) as gateway:
        admission = gateway.service.admissions["policy"]
        answer = asyncio.create_task(gateway.chat())
        held = set()
        while not answer.done():
            await asyncio.sleep(0.01)
            held.add(admission._held)
        assert (await answer)[0] == 200
        # Whatever is seen in between: two at the most, once the first wave has begun.
        assert held - {8} <= {0, 1, 2}
        assert 2 in held
        assert len(gateway.worker.requests) == 4
        assert admission._held == 0


async def test_prune_stages_leave_nothing_to_stop_by_and_the_receipt_says_best_of_n(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=REWARDS, values={"cheap": REWARDS})
    settings: dict[str, Any] = {"prune": [{"scorer": "cheap", "keep": 2}], "options": {"threshold": 1.0}}
    async with running_gateway(tmp_path, scorers=scorers, n=8, strategy="early_stopping", **settings) as gateway:
        _, _, body = await gateway.chat()
        assert body["choices"][0]["message"]["content"] == "four"
        assert body["guidance"]["sampled"] == 8
        [record] = gateway.interactions
        assert record.strategy == "best_of_n"


async def test_all_unsafe_is_a_refusal_after_n_and_another_round(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=REWARDS, unsafe=frozenset(REWARDS))
    options = {"threshold": 0.0}
    async with running_gateway(tmp_path, scorers=scorers, n=8, strategy="early_stopping", options=options) as gateway:
        _, _, body = await gateway.chat()
        assert body["choices"][0]["message"]["content"] == "No."
        assert [one["n"] for one in gateway.worker.requests] == [2, 2, 2, 2, 8]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "options: early_stopping stops by threshold or by price"),
        ({"options": {"threshold": 1.0}, "reward": None}, "strategy early_stopping needs reward"),
        ({"options": {"patience": 1}}, "options.patience: early_stopping has no such option"),
    ],
)
def test_a_profile_that_cannot_work_is_refused_by_name(tmp_path: Path, settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_for(FakeWorker(), FakeScorers(), tmp_path, {"strategy": "early_stopping", **settings})
