"""Measuring a model through a whole gateway in front of a real Redis and fakes: what is asked, and what is kept."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.calibrate.measured import Measurements, prompt_print
from gateway.calibrate.sampling_model import (
    MARK,
    Asked,
    Logged,
    ask_what_is_served,
    last_of_others,
    logged_prompts,
    sample,
    score_beginnings,
    time_requests,
)
from gateway.calibrate.scoring import find_scorer
from gateway.errors import StartError
from gateway.log.records import Interaction
from gateway.workers.admin_client import AdminClient
from scorers.endpoint import Endpoint
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer, redis, redis_server, stopped_redis

__all__ = ["redis", "redis_server", "stopped_redis"]

# The fake reads its token ids as these words, so that beginnings of its answers are beginnings of their texts.
TEXTS = ("t0 t1 t2 t3", "t0 t1", "t0 t1 t2 t3 t4 t5", "t0")
GOOD, OTHER, BAD = ([{"role": "user", "content": text}] for text in ("good", "other", "bad"))


@dataclass
class Measuring:
    """A gateway, and what a run against it has."""

    gateway: Harness
    client: AdminClient
    asked: Asked
    logged: Logged
    kept: Measurements
    steps: int = 0

    def done(self) -> None:
        self.steps += 1

    @property
    def sent(self) -> list[tuple[int, int | None]]:
        """(n, seed) of the requests that have reached the worker since the versions were asked for."""
        return [(body["n"], body.get("seed")) for body in self.gateway.worker.requests[1:]]

    async def sample(self, *prompts: Any, asked: Asked | None = None) -> None:
        await sample(self.client, self.logged, asked or self.asked, prompts, self.kept, self.done)


@asynccontextmanager
async def measuring(
    server: RedisServer, redis: Redis, folder: Path, answers: int = 6, **profile: Any
) -> AsyncIterator[Measuring]:
    scorers = FakeScorers(rewards=len, unsafe=frozenset({"bad", TEXTS[3]}))
    async with running_gateway(
        folder, FakeWorker(texts=TEXTS), scorers, redis_url=server.url, **{"max_n": 4, "temperature": 0.9, **profile}
    ) as gateway:
        client = AdminClient(Endpoint(gateway.url))
        asked = await ask_what_is_served(client, "m", None, answers)
        logged = await Logged.following(redis, "0")
        yield Measuring(gateway, client, asked, logged, Measurements(folder / "m.measured.jsonl", asked.setup))
        assert gateway.worker.surprises == []


async def test_the_receipt_says_what_is_measured(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    async with measuring(redis_server, redis, tmp_path, max_tokens=50, safety_threshold=0.4) as run:
        setup = run.asked.setup
        assert (setup.policy, setup.reward_model, setup.safety_model) == ("policy@1", "reward@1", "safety@1")
        assert (setup.temperature, setup.max_tokens, setup.answers) == (0.9, 50, 6)
        assert (setup.thresholds, run.asked.most) == ({"": 0.4}, 4)


async def test_more_answers_than_a_request_may_have_come_from_several_whose_seeds_follow(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    async with measuring(redis_server, redis, tmp_path) as run:
        await run.sample(GOOD)
        [(first, seed), (second, next_seed)] = run.sent
        assert (first, second) == (4, 2) and seed is not None and next_seed == seed + 4
        found = run.kept.sampled[prompt_print(GOOD)]
        assert [one.text for one in found.answers] == [*TEXTS, *TEXTS[:2]] and found.missing == 0
        assert [one.tokens for one in found.answers] == [4, 2, 6, 1, 4, 2]
        assert [one.reward for one in found.answers] == [float(len(one.text or "")) for one in found.answers]
        # What the guard flagged is in the card too: a receipt keeps its text back, the log has it.
        assert found.answers[3].flagged == ["insult"] and found.answers[3].categories["insult"] == 0.9
        assert found.answers[2].token_ids == [0, 1, 2, 3, 4, 5]


async def test_a_rerun_asks_for_what_is_missing_alone(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    async with measuring(redis_server, redis, tmp_path) as run:
        await run.sample(GOOD)
        run.kept = Measurements(tmp_path / "m.measured.jsonl", run.asked.setup)
        await run.sample(GOOD, OTHER)
        assert [n for n, _ in run.sent] == [4, 2, 4, 2] and run.steps == 3
        assert len({seed for _, seed in run.sent}) == 4
        assert set(run.kept.sampled) == {prompt_print(GOOD), prompt_print(OTHER)}


async def test_a_prompt_that_the_guard_refuses_has_no_answers(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    async with measuring(redis_server, redis, tmp_path) as run:
        await run.sample(BAD)
        assert run.sent == [] and run.kept.sampled[prompt_print(BAD)].answers == []


async def test_answers_without_a_reward_are_counted_and_asked_for_once(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    async with measuring(redis_server, redis, tmp_path, answers=4) as run:
        run.gateway.scorers.rewards = {TEXTS[0]: 1.0, TEXTS[1]: 2.0}
        await run.sample(GOOD)
        found = run.kept.sampled[prompt_print(GOOD)]
        assert [one.reward for one in found.answers] == [1.0, 2.0] and found.missing == 2
        assert len(run.sent) == 1


async def test_another_version_in_the_middle_ends_the_run(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    async with measuring(redis_server, redis, tmp_path) as run:
        other = replace(run.asked, setup=msgspec.structs.replace(run.asked.setup, policy="policy@7"))
        with pytest.raises(StartError, match=r"policy@7 with reward@1 was measured, and now policy@1 with reward@1"):
            await run.sample(GOOD, asked=other)
        assert run.kept.sampled == {}


async def test_a_request_that_met_its_deadline_ends_the_run(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    """Its longest answers are missing, and the card's lengths would be of the others."""
    async with measuring(redis_server, redis, tmp_path, budget_ms=1500) as run:
        run.gateway.worker.delays_s = (0.0, 0.0, 0.0, 30.0)
        with pytest.raises(StartError, match="longest answers are missing"):
            await run.sample(GOOD)


async def test_beginnings_are_scored_where_an_answer_goes_on(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    async with measuring(redis_server, redis, tmp_path, answers=4) as run:
        await run.sample(GOOD, BAD)
        found = await find_scorer(run.gateway.service.config, "reward", run.gateway.session)
        # The third answer says something else than its tokens do, as what a parser has read may.
        held = run.kept.sampled[prompt_print(GOOD)]
        answers = [*held.answers[:2], msgspec.structs.replace(held.answers[2], text="told"), held.answers[3]]
        run.kept.add(msgspec.structs.replace(held, answers=answers))
        for _ in range(2):
            await score_beginnings(run.client, found, run.asked, [GOOD, BAD], [1, 3], run.kept, run.done)
        [begun] = run.kept.begun.values()
        assert begun.rewards == [[2.0, 2.0, None, None], [8.0, None, None, None]]
        assert sorted(run.gateway.scorers.asked("reward"))[:3] == [["t0"], ["t0"], ["t0"]]
        lines = (tmp_path / "m.measured.jsonl").read_text().splitlines()
        assert sum('"begun"' in line for line in lines) == 1


async def test_latency_is_of_requests_without_seeds_each_n_in_turn(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    async with measuring(redis_server, redis, tmp_path) as run:
        for _ in range(2):
            await time_requests(run.client, run.asked, [GOOD, OTHER], [1, 4], run.kept, run.done)
        assert run.sent == [(1, None), (4, None)] * 6
        assert len(run.kept.timed) == 12 and all(one.ms > 0 for one in run.kept.timed.values())


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"reward": None}, "has no reward"),
        ({"temperature": 0}, "samples greedily"),
        ({"strategy": "early_stopping", "options": {"price": 1}}, "answers by early_stopping"),
    ],
)
async def test_a_profile_that_no_card_can_be_measured_by_is_said_with_what_to_do(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, profile: dict[str, Any], words: str
) -> None:
    with pytest.raises(StartError, match=f"default@1 {words}.*--profile: bestow profile set measure n=16"):
        async with measuring(redis_server, redis, tmp_path, **profile):
            pass


async def test_an_interaction_that_does_not_come_is_said(redis_server: RedisServer, redis: Redis) -> None:
    logged = await Logged.following(redis, "0")
    with pytest.raises(StartError, match="has not got the interaction chatcmpl-x within"):
        await logged.of("chatcmpl-x", within_s=0.1)


async def test_the_logs_prompts_are_those_of_others(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    async with measuring(redis_server, redis, tmp_path) as run:
        identifier = (await run.gateway.chat("hello"))[2]["id"]
        await run.sample(GOOD, OTHER)
        await run.logged.of(identifier)
        assert run.gateway.interactions[0].parameters["metadata"] == MARK
        found = await last_of_others(redis, "0", 1)
        assert [one.id for one in found] == [identifier]
        assert logged_prompts(found, "m") == [[{"role": "user", "content": "hello"}]]


def test_of_the_log_plain_chats_with_an_answer_count_each_once() -> None:
    def logged(text: str, **changed: Any) -> Interaction:
        messages = [{"role": "user", "content": text}]
        record = Interaction("i", 0.0, "m", "d@1", "p@1", "best_of_n", "delivered", messages, {}, [])
        return msgspec.structs.replace(record, **changed)

    log = [
        logged("a"),
        logged("b", model="other"),
        logged("c", endpoint="completions"),
        logged("d", outcome="refused_prompt"),
        logged("e", parameters={"tools": [{}]}),
        logged("a"),
        logged("f"),
    ]
    assert [one[0]["content"] for one in logged_prompts(log, "m")] == ["a", "f"]
    with pytest.raises(StartError, match="no prompt for the model 'none'"):
        logged_prompts(log, "none")
