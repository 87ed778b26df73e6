"""A steady load of real clients, and what became of each of their requests."""

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import openai
from openai import AsyncOpenAI

from training.demo.prompts import held_out_prompts

AT_ONCE = 50
SHORT = 48
LIVE_LEAST, LIVE_MOST = 96, 160
# Longer than gateway.request_timeout_s: a client's own limit must not hide that the gateway's does not hold.
CLIENT_TIMEOUT_S = 150.0

Kind = Literal["unary", "hold", "first"]
_MIX: tuple[Kind, ...] = ("unary", "unary", "hold", "unary", "first", "unary", "hold", "unary", "first", "hold")
_WHOLE = frozenset({"stop", "length", "content_filter"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request. error: why it counts as failed; in_frame: the stream had begun and said so in OpenAI's shape.

    begun, ended: time.monotonic().
    """

    kind: Kind
    begun: float
    ended: float
    degraded: str | None = None
    error: str | None = None
    in_frame: bool = False

    @property
    def seconds(self) -> float:
        return self.ended - self.begun

    @property
    def failed(self) -> bool:
        """A live stream that ends in an error frame has kept its promise; nothing else may end in an error."""
        return self.error is not None and not (self.kind == "first" and self.in_frame)


class _Broken(Exception):
    """A success that is none."""


class Load:
    """`AT_ONCE` clients, each sending its next request as soon as the last one has ended."""

    def __init__(self, client: AsyncOpenAI, model: str) -> None:
        self.outcomes: list[Outcome] = []
        self._client = client
        self._model = model
        self._prompts: Sequence[Any] = held_out_prompts(200, seed=31)
        self._stopping = False

    async def one_after_another(self, number: int) -> None:
        """One client, until the load is stopped; its last request still gets its answer."""
        rng = random.Random(number)
        turn = number
        while not self._stopping:
            self.outcomes.append(await self._request(_MIX[turn % len(_MIX)], rng))
            turn += 1

    def stop(self) -> None:
        self._stopping = True

    async def _request(self, kind: Kind, rng: random.Random) -> Outcome:
        body: dict[str, Any] = {"model": self._model, "messages": rng.choice(self._prompts)}
        if rng.random() < 0.5:
            body["seed"] = rng.randrange(2**31)
        begun = time.monotonic()
        degraded, error, in_frame = None, None, False
        try:
            match kind:
                case "unary":
                    degraded = await self._unary(body, rng.randint(4, 6))
                case "hold":
                    degraded = await self._stream(body, {"n": rng.randint(4, 6)}, SHORT)
                case "first":
                    degraded = await self._live(body)
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
            # What the client raises of a frame in a stream is of this very class.
            in_frame = type(failure) is openai.APIError and isinstance(failure.body, dict) and "code" in failure.body
        return Outcome(kind, begun, time.monotonic(), degraded, error, in_frame)

    async def _unary(self, body: dict[str, Any], n: int) -> str | None:
        answer = await self._client.chat.completions.create(**body, max_tokens=SHORT, extra_body={"guidance": {"n": n}})
        [choice] = answer.choices
        return _checked(choice.finish_reason, choice.message.content, getattr(answer, "guidance", None))

    async def _live(self, body: dict[str, Any]) -> str | None:
        return await self._stream(body, {"stream_mode": "first"}, LIVE_MOST, min_tokens=LIVE_LEAST)

    async def _stream(
        self, body: dict[str, Any], guidance: dict[str, Any], most: int, min_tokens: int = 0
    ) -> str | None:
        text, finish, receipt, tokens = "", None, None, 0
        extra = {"guidance": guidance} | ({"min_tokens": min_tokens} if min_tokens else {})
        chunks = await self._client.chat.completions.create(
            **body, max_tokens=most, stream=True, stream_options={"include_usage": True}, extra_body=extra
        )
        async for chunk in chunks:
            receipt = getattr(chunk, "guidance", None) or receipt
            tokens = chunk.usage.completion_tokens if chunk.usage else tokens
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
        degraded = _checked(finish, text, receipt)
        if finish != "content_filter" and not min_tokens <= tokens <= most:
            raise _Broken(f"{tokens} tokens of {min_tokens} to {most}")
        return degraded


def _checked(finish: str | None, text: str | None, receipt: dict[str, Any] | None) -> str | None:
    """The degraded word of a whole answer. Raises _Broken for one that is not whole."""
    if finish not in _WHOLE or not text or receipt is None:
        raise _Broken(f"finish_reason {finish}, {len(text or '')} characters, receipt: {receipt is not None}")
    degraded: str | None = receipt["degraded"]
    return degraded


@asynccontextmanager
async def steady_load(url: str, model: str = "bestow-demo") -> AsyncIterator[Load]:
    """The load while the block runs; at its end every request that was begun gets its answer."""
    async with AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none needed", max_retries=0, timeout=CLIENT_TIMEOUT_S
    ) as client:
        load = Load(client, model)
        async with asyncio.TaskGroup() as clients:
            for number in range(AT_ONCE):
                clients.create_task(load.one_after_another(number))
            try:
                yield load
            finally:
                load.stop()


def summary(outcomes: Sequence[Outcome], fault: float, recovered: float) -> list[str]:
    """Lines of figures: before the fault, from the fault until all workers had traffic again, and after that."""
    phases = {
        "before": [one for one in outcomes if one.ended <= fault],
        "during": [one for one in outcomes if one.ended > fault and one.begun < recovered],
        "after": [one for one in outcomes if one.begun >= recovered],
    }
    return [f"  {name}: {_figures(of_phase)}" for name, of_phase in phases.items()]


def _figures(outcomes: Sequence[Outcome]) -> str:
    if len(outcomes) < 2:
        return f"{len(outcomes)} requests"
    centiles = statistics.quantiles([one.seconds for one in outcomes], n=100, method="inclusive")
    elapsed = max(one.ended for one in outcomes) - min(one.begun for one in outcomes)
    frames = sum(one.in_frame and not one.failed for one in outcomes)
    degraded = Counter(one.degraded for one in outcomes if one.degraded)
    words = ", ".join(f"{count} {word}" for word, count in degraded.most_common()) or "none"
    return (
        f"{len(outcomes)} requests ({len(outcomes) / elapsed:.1f}/s), {sum(one.failed for one in outcomes)} failed, "
        f"{frames} live streams ended in an error frame, degraded: {words}; "
        f"p50 {centiles[49]:.2f} s, p95 {centiles[94]:.2f} s, slowest {max(one.seconds for one in outcomes):.1f} s"
    )
