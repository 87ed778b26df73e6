"""Candidates in bulk through a gateway: behind others, as many as a profile lets, the same again, going on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from gateway.log.own_requests import is_own
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import Harness, running_gateway
from tests.training.snapshots import side
from training.data.rows import PromptOnly
from training.errors import TrainingError
from training.evaluation.asking import Asker, find_side
from training.evaluation.servers import Server
from training.evaluation.settings import SamplingSettings
from training.evaluation.sides import Named
from training.jsonl import Lines
from training.policy.sampling import PURPOSE, Sampled, Served, find_served, sample, seed_of

HOW = SamplingSettings(seed=7, temperature=1.0)
WORDS = tuple(f"word{number}" for number in range(97))


def row(number: int) -> PromptOnly:
    return PromptOnly(prompt=[{"role": "user", "content": f"What of {number}?"}], side=side(number))


class Naps:
    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


async def asker_of(gateway: Harness, session: aiohttp.ClientSession, naps: Naps | None = None) -> Asker:
    server = Server(f"{gateway.url}/v1", session, patience_s=60, sleep=naps or Naps())
    return await find_side(Named("m"), server, purpose=PURPOSE)


async def run(
    gateway: Harness, folder: Path, prompts: list[PromptOnly], n: int, **more: Any
) -> tuple[Served, list[Sampled], int]:
    done: list[None] = []
    async with aiohttp.ClientSession() as session:
        asker = await asker_of(gateway, session, more.pop("naps", None))
        served = await find_served(asker, n)
        kept = Lines(folder / "sampled.jsonl", Sampled)
        await sample(asker, served, prompts, n, HOW, kept, lambda: done.append(None), **more)
    return served, kept.all, len(done)


async def test_n_candidates_are_the_same_however_many_requests_they_take(tmp_path: Path) -> None:
    seeds: dict[int, list[int]] = {}
    for most in (16, 3):
        worker, folder = FakeWorker(texts=WORDS), tmp_path / str(most)
        folder.mkdir()
        async with running_gateway(folder, worker, n=2, max_n=most, show_candidates=True) as gateway:
            served, found, done = await run(gateway, folder, [row(1), row(2)], 8)
        assert served.most == (8 if most == 16 else 2) and done == 2
        seeds[most] = [one.seed for line in found for one in line.candidates]
        assert all(len(line.candidates) == 8 for line in found)
        assert {line.side.prompt for line in found} == {"prompt-1", "prompt-2"}
        assert found[0].candidates[0].seed == seed_of(HOW.seed, found[0].side.prompt)
        asked = [body for body in worker.requests if body.get("seed") and body.get("max_tokens") != 1]
        assert sum(body["n"] for body in asked) == 16
    assert sorted(seeds[16]) == sorted(seeds[3])


async def test_requests_are_the_lowest_class_and_say_that_bestow_asks(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(texts=WORDS), n=2, max_n=4, show_candidates=True) as gateway:
        await run(gateway, tmp_path, [row(1)], 4)
        logged = gateway.interactions
    assert logged and all(is_own(one) for one in logged)
    assert {one.parameters["metadata"]["purpose"] for one in logged} == {"bestow train sample"}
    assert {one.tier for one in logged} == {"flex"}


async def test_rewards_and_verdicts_come_from_the_receipt_and_flagged_texts_never(tmp_path: Path) -> None:
    worker = FakeWorker(texts=("fine", "unsafe thing", "longer answer", "x"))
    scorers = FakeScorers(rewards=len, unsafe_words=frozenset({"unsafe"}))
    async with running_gateway(tmp_path, worker, scorers, n=4, max_n=4, show_candidates=True) as gateway:
        _, [line], _ = await run(gateway, tmp_path, [row(1)], 4)
    assert [one.text for one in line.candidates] == ["fine", None, "longer answer", "x"]
    assert [one.usable for one in line.candidates] == [True, False, True, True]
    assert line.candidates[2].reward == len("longer answer") and line.candidates[1].flagged
    assert (line.policy, line.reward_model) == ("policy@1", "reward@1")


async def test_what_was_sampled_before_is_not_sampled_again(tmp_path: Path) -> None:
    worker = FakeWorker(texts=WORDS)
    async with running_gateway(tmp_path, worker, n=2, max_n=4, show_candidates=True) as gateway:
        await run(gateway, tmp_path, [row(1), row(2)], 4)
        before = len(worker.requests)
        _, found, done = await run(gateway, tmp_path, [row(1), row(2), row(3)], 4)
        fresh = [body for body in worker.requests[before:] if body.get("max_tokens") != 1 and "messages" in body]
    assert len(found) == 3 and done == 3
    assert [body["messages"][-1]["content"] for body in fresh] == ["What of 3?"]


async def test_a_worker_that_fails_for_a_while_is_waited_for(tmp_path: Path) -> None:
    worker, naps = FakeWorker(texts=WORDS), Naps()
    async with running_gateway(tmp_path, worker, n=2, max_n=4, show_candidates=True) as gateway:

        async def mend(seconds: float) -> None:
            naps.slept.append(seconds)
            worker.error = None

        async with aiohttp.ClientSession() as session:
            asker = await asker_of(gateway, session)
            served = await find_served(asker, 4)
            worker.error = (503, {"error": {"message": "busy", "type": "server_error"}})
            server = Server(f"{gateway.url}/v1", session, patience_s=60, sleep=mend)
            kept = Lines(tmp_path / "sampled.jsonl", Sampled)
            again = Asker(server, asker.side, None, True, purpose=PURPOSE)
            await sample(again, served, [row(1)], 4, HOW, kept, lambda: None)
    assert naps.slept and len(kept.all[0].candidates) == 4


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ({"show_candidates": False}, "does not show its candidates"),
        ({"show_candidates": True, "temperature": 0.0}, "answers by greedy"),
    ],
)
async def test_a_profile_that_cannot_be_sampled_from_is_told_at_once(
    tmp_path: Path, profile: dict[str, Any], says: str
) -> None:
    worker = FakeWorker(texts=WORDS)
    async with (
        running_gateway(tmp_path, worker, n=2, max_n=4, **profile) as gateway,
        aiohttp.ClientSession() as session,
    ):
        asker = await asker_of(gateway, session)
        with pytest.raises(TrainingError, match=says):
            await find_served(asker, 4)


async def test_another_version_in_the_middle_ends_the_run(tmp_path: Path) -> None:
    worker, kept = FakeWorker(texts=WORDS), Lines(tmp_path / "sampled.jsonl", Sampled)
    many: dict[str, Any] = {"n": 2, "max_n": 4, "show_candidates": True}
    async with running_gateway(tmp_path, worker, **many) as gateway, aiohttp.ClientSession() as session:
        asker = await asker_of(gateway, session)
        served = await find_served(asker, 4)
        other = replace(asker, side=msgspec.structs.replace(asker.side, policy="policy@7"))
        with pytest.raises(TrainingError, match="policy@7 through default@1 was asked, and now policy@1"):
            await sample(other, served, [row(1)], 4, HOW, kept, lambda: None)
    assert not kept.all
