"""Measuring a model for its card, against a stack that runs: what is asked, and how the answers come back.

Answers are sampled through the gateway, as plain best-of-n requests of the policy, and read from the log: it has all
candidates with rewards, verdicts and token ids, where a receipt keeps back what the guard flagged. Beginnings are made
of the answers' own token ids, and scored raw.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from redis.asyncio import Redis

from gateway.calibrate.measured import Answer, Begun, Measurements, Sampled, Setup, Timed, prompt_print
from gateway.calibrate.scoring import TIMEOUT_S, Found
from gateway.errors import StartError
from gateway.log import streams
from gateway.log.own_requests import is_own, mark
from gateway.log.records import CandidateRecord, Interaction, Message
from gateway.shared.together import together
from gateway.workers.admin_client import AdminClient
from scorers.contract import ScoreRequest
from scorers.errors import ScorerError

AT_ONCE = 4
SCORED_AT_ONCE = 8
LOGGED_WITHIN_S = 60.0
_LOOK_S = 0.05
# A request may give less than was asked for, as while the workers are full: a prompt has so many times what it needs.
_PATIENCE = 4
MARK = mark("calibrate")
# Prompts, and how often each, that latency is measured on.
TIMED_PROMPTS, TIMED_TIMES = 5, 3

Prompt = Sequence[Message]
Done = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request for a card names. profile: None for the model's own. most: candidates of one request."""

    model: str
    profile: str | None
    setup: Setup
    most: int

    def body(self, messages: Prompt, n: int, seed: int | None) -> dict[str, Any]:
        guidance = {"n": n, **({"profile": self.profile} if self.profile else {})}
        return {
            "model": self.model,
            "messages": list(messages),
            "metadata": MARK,
            "guidance": guidance if seed is None else {**guidance, "seed": seed},
        }


async def ask_what_is_served(gateway: AdminClient, model: str, profile: str | None, answers: int) -> Asked:
    """By one short request: its receipt names the versions. Raises StartError where no card can be measured so."""
    guidance = {"n": 1, **({"profile": profile} if profile else {})}
    messages = [{"role": "user", "content": "Hello."}]
    body = {"model": model, "messages": messages, "max_tokens": 1, "metadata": MARK, "guidance": guidance}
    answer = await asyncio.to_thread(gateway.call, "POST", "/v1/chat/completions", body)
    receipt = answer["guidance"]
    version = str(receipt["profile"])
    name = version.rpartition("@")[0]
    found = await asyncio.to_thread(gateway.call, "GET", f"/admin/v1/profiles/{quote(name, safe='')}")
    settings = found["settings"]
    unfit = _unfit(settings)
    if unfit:
        raise StartError(
            f"The profile {version} {unfit}, and a card is of plain samples with rewards. Name a profile that is for "
            f"measuring with --profile: bestow profile set measure n=16 reward={settings['reward'] or 'reward'} "
            f"temperature={settings['temperature'] or 'null'} max_tokens={settings['max_tokens']}, and the same safety."
        )
    setup = Setup(
        model=model,
        policy=str(receipt["policy"]),
        reward_model=str(receipt["reward_model"]),
        safety_model=receipt["safety_model"],
        temperature=settings["temperature"],
        max_tokens=settings["max_tokens"],
        answers=answers,
        thresholds={"": settings["safety_threshold"], **settings["category_thresholds"]},
    )
    return Asked(model, profile, setup, int(settings["max_n"]))


def _unfit(settings: dict[str, Any]) -> str | None:
    if settings["strategy"] != "best_of_n":
        return f"answers by {settings['strategy']}"
    if settings["reward"] is None:
        return "has no reward"
    if settings["prune"]:
        return "prunes candidates before the reward model has read them"
    return "samples greedily (temperature 0)" if settings["temperature"] == 0 else None


def logged_prompts(interactions: Iterable[Interaction], model: str) -> list[list[Message]]:
    """The distinct prompts of that model's plain chats that got an answer, oldest first. Raises StartError."""
    found: dict[str, list[Message]] = {}
    for one in interactions:
        plain = one.endpoint == "chat" and not one.parameters.get("tools")
        if one.model == model and plain and one.outcome == "delivered":
            found.setdefault(prompt_print(one.messages), one.messages)
    if not found:
        raise StartError(
            f"The log's last interactions have no prompt for the model {model!r}: give some with --prompts."
        )
    return list(found.values())


async def last_of_others(redis: Redis, shard: str, count: int) -> list[Interaction]:
    """The log's last interactions that no command of ours made, oldest first. Raises RedisError."""
    read = count
    while True:
        logged = await streams.interactions(redis, shard).last(read)
        found = [one.record for one in logged if not is_own(one.record)]
        if len(found) >= count or len(logged) < read:
            return found[-count:]
        read *= 4


class Logged:
    """Interactions as they reach the log, found by id. Made before they are asked for, so that none is missed."""

    def __init__(self, redis: Redis, shard: str, after: str) -> None:
        self._reader = streams.interactions(redis, shard)
        self._after = after
        self._wanted: dict[str, asyncio.Future[Interaction]] = {}
        self._reading = asyncio.Lock()

    @classmethod
    async def following(cls, redis: Redis, shard: str) -> "Logged":
        """Raises RedisError."""
        return cls(redis, shard, await streams.interactions(redis, shard).newest_entry())

    async def of(self, identifier: str, within_s: float = LOGGED_WITHIN_S) -> Interaction:
        """Raises StartError where it does not come, RedisError."""
        wanted = self._wanted.setdefault(identifier, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(within_s):
                while not wanted.done():
                    async with self._reading:
                        await self._read()
                    if not wanted.done():
                        await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise StartError(
                f"The log has not got the interaction {identifier} within {within_s:g} s: see `bestow log stats`."
            ) from None
        return wanted.result()

    async def _read(self) -> None:
        # An answer's record may be in the log before its client asks for it: all since the start are kept.
        async for logged in self._reader.after(self._after):
            self._after = logged.entry
            future = self._wanted.setdefault(logged.record.id, asyncio.get_running_loop().create_future())
            if not future.done():
                future.set_result(logged.record)


async def sample(
    gateway: AdminClient, logged: Logged, asked: Asked, prompts: Sequence[Prompt], kept: Measurements, done: Done
) -> None:
    """Answers to each prompt that has none yet. Raises StartError, RedisError."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(messages: Prompt) -> None:
        if prompt_print(messages) not in kept.sampled:
            async with places:
                kept.add(await _answers(gateway, logged, asked, messages))
        done()

    await together(one(messages) for messages in prompts)


async def _answers(gateway: AdminClient, logged: Logged, asked: Asked, messages: Prompt) -> Sampled:
    found: list[Answer] = []
    missing = begun = 0
    seed = _seed(messages)
    wanted = asked.setup.answers
    requests = -(-wanted // asked.most) * _PATIENCE
    while begun < wanted and requests:
        requests -= 1
        n = min(asked.most, wanted - begun)
        # The next request's seeds follow on this one's: no answer is sampled twice.
        body = asked.body(messages, n, seed + begun)
        answer = await asyncio.to_thread(gateway.call, "POST", "/v1/chat/completions", body)
        record = await logged.of(answer["id"])
        if record.outcome == "refused_prompt":
            break
        _check(record, asked.setup)
        fresh = [one for one in record.candidates if one.wave == 0]
        begun += max(len(fresh), 1)
        found += [answered for one in fresh if (answered := _answer(one)) is not None]
        missing += sum(one.reward is None for one in fresh)
    return Sampled(asked.setup.print, prompt_print(messages), found, missing)


def _check(record: Interaction, setup: Setup) -> None:
    """Raises StartError where the record is no sample of what is measured."""
    served = (record.policy, record.reward_model)
    if served != (setup.policy, setup.reward_model):
        raise StartError(
            f"{setup.policy} with {setup.reward_model} was measured, and now {served[0]} with {served[1]} answers: run "
            "it again; what was measured of the first is dropped."
        )
    if record.degraded == "deadline":
        raise StartError(
            "A request ended at its deadline, so that its longest answers are missing, which no card can do without: "
            "raise budget_ms, or lower max_tokens, of the profile that is measured by (see --profile)."
        )


def _answer(one: CandidateRecord) -> Answer | None:
    if one.reward is None:
        return None
    verdict = one.verdict
    content = one.message.get("content")
    plain = isinstance(content, str) and not one.message.get("tool_calls") and not one.message.get("reasoning")
    return Answer(
        tokens=one.completion_tokens,
        reward=one.reward,
        categories=verdict.categories if verdict else {},
        flagged=[*verdict.flagged, *verdict.noted] if verdict else [],
        text=content if plain else None,
        token_ids=one.token_ids or [],
    )


async def score_beginnings(
    gateway: AdminClient,
    found: Found,
    asked: Asked,
    prompts: Sequence[Prompt],
    positions: Sequence[int],
    kept: Measurements,
    done: Done,
) -> None:
    """Rewards of the answers' beginnings, for each prompt that has none at these positions yet."""
    places = asyncio.Semaphore(SCORED_AT_ONCE)

    async def score(messages: Prompt, answer: Answer, tokens: int) -> float | None:
        if answer.text is None or min(answer.tokens, len(answer.token_ids)) <= tokens:
            return None
        async with places:
            body = {"model": asked.model, "tokens": answer.token_ids[:tokens]}
            told = await asyncio.to_thread(gateway.call, "POST", "/detokenize", body)
            # A character may end within a token.
            begun = str(told["prompt"]).rstrip("\N{REPLACEMENT CHARACTER}")
            if not answer.text.startswith(begun):
                return None
            message = {"role": "assistant", "content": begun}
            request = ScoreRequest(found.info.id, list(messages), [message], raw=True)
            try:
                return (await found.client.score(request, TIMEOUT_S)).scores[0].value
            except ScorerError as error:
                raise StartError(str(error)) from None

    async def one(messages: Prompt) -> None:
        sampled = kept.sampled[prompt_print(messages)]
        if sampled.answers and (sampled.prompt, tuple(positions)) not in kept.begun:
            rewards = [
                list(await asyncio.gather(*(score(messages, answer, tokens) for answer in sampled.answers)))
                for tokens in positions
            ]
            kept.add(Begun(asked.setup.print, sampled.prompt, list(positions), rewards))
        done()

    await together(one(messages) for messages in prompts)


async def time_requests(
    gateway: AdminClient, asked: Asked, prompts: Sequence[Prompt], sizes: Sequence[int], kept: Measurements, done: Done
) -> None:
    """One request after the other, all n of a prompt before the next prompt, so that what drifts drifts for all."""
    for again in range(TIMED_TIMES):
        for messages in prompts:
            for n in sizes:
                key = prompt_print(messages), n, again
                if key not in kept.timed:
                    begun = time.perf_counter()
                    await asyncio.to_thread(gateway.call, "POST", "/v1/chat/completions", asked.body(messages, n, None))
                    ms = (time.perf_counter() - begun) * 1000
                    kept.add(Timed(asked.setup.print, key[0], n, again, round(ms, 2)))
                done()


def _seed(messages: Prompt) -> int:
    """Of a prompt's first answer: a rerun samples the same, and other prompts other noise."""
    return int.from_bytes(hashlib.sha256(prompt_print(messages).encode()).digest()[:4]) >> 1
