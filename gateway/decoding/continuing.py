"""The pieces of an answer from a pool of workers: text completions from token ids, read back by `workers.reading`.

That is the policy's own distribution only where nothing but the ids decides what comes next. Where something steers by
what was sampled before (penalties, grammars), or the prompt is more than a conversation of texts, there are no pieces
and the answer has to be sampled whole. The client's stop strings never go to the worker: they may begin in one piece
and end in the next, so they are looked for in what has been read.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gateway.decoding.pieces import Growing, Prefix, StopStrings, Withheld
from gateway.errors import ApiError
from gateway.log.records import Message
from gateway.telemetry.waiting import WaitClock
from gateway.workers.client import COMPLETIONS_PATH, NotServed
from gateway.workers.continuation import OF_THE_PROMPT, STATEFUL
from gateway.workers.fan_out import Order
from gateway.workers.reading import Growth, Reading
from gateway.workers.stream import Choice, Part, SampleEnd

if TYPE_CHECKING:
    from gateway.decoding.sampler import PoolSampler

# Pieces cope with these by themselves.
_COPED_WITH = ("stop", "tools", "return_token_ids")
# /tokenize does not know these, so the prompt's ids would not be those of the request; vllm_xargs may hold anything.
_UNKNOWN_TO_IDS = (
    "documents",
    "reasoning_effort",
    "truncate_prompt_tokens",
    "mm_processor_kwargs",
    "media_io_kwargs",
    "min_tokens",
    "vllm_xargs",
    "use_beam_search",
    "prompt_logprobs",
)
_NOT_OF_A_PIECE = (
    "tools",
    "stop",
    "include_stop_str_in_output",
    "seed",
    "max_tokens",
    "prompt",
    "logprobs",
    "top_logprobs",
    "response_format",
)


def goes_on(body: Mapping[str, Any]) -> bool:
    """Whether pieces of this request are distributed as the whole would be. Pure."""
    steering = [key for key in (*STATEFUL, *_UNKNOWN_TO_IDS) if key not in _COPED_WITH and _says(body, key)]
    if steering or body.get("tool_choice") not in (None, "auto", "none"):
        return False
    tools = body.get("tools") or ()
    if tools and (StopStrings.of(body).texts or any((one.get("function") or {}).get("strict") for one in tools)):
        return False
    return all(_is_text(message.get("content")) for message in body.get("messages") or ())


def _says(body: Mapping[str, Any], key: str) -> bool:
    value = body.get(key)
    match key:
        case "repetition_penalty":
            return value not in (None, 1)
        case "response_format":
            return bool(value) and value != {"type": "text"}
        case "logprobs":  # A text completion's 0 asks for one a token.
            return value is not None and value is not False
    return bool(value)


def _is_text(content: Any) -> bool:
    if isinstance(content, list):
        return all(isinstance(part, dict) and part.get("type") in ("text", "refusal") for part in content)
    return content is None or isinstance(content, str)


async def pieces_of(sampler: "PoolSampler") -> "PoolPieces | None":
    """Of the sampler's request; None where they would not be exact, or its tools could not be read. Raises ApiError."""
    body, pool = sampler.body, sampler.pool
    if not sampler.streamable or not goes_on(body):
        return None
    reading = Reading(
        body,
        sampler.path,
        (),
        lambda path, question: pool.derender(path, question, sampler.adapter),
        pool.detokenize,
    )
    try:
        with sampler.waiting:
            reading.prompt_ids = await pool.prompt_ids(body, sampler.adapter)
            if body.get("tools"):
                await reading.messages([reading.prompt_ids[-1:]])
    except NotServed:
        return None
    if not reading.prompt_ids or (body.get("tools") and reading.plain):
        return None
    sampler.prompt_tokens = len(reading.prompt_ids)
    sampler.extras = {"prompt_token_ids": list(reading.prompt_ids)}
    return PoolPieces(sampler, reading, StopStrings.of(body))


@dataclass(slots=True)
class PoolPieces:
    """See `Pieces`."""

    sampler: "PoolSampler"
    reading: Reading
    stops: StopStrings
    _begun: bool = False

    async def continued(
        self, prefixes: Sequence[Prefix], each: int, max_tokens: int, stop: str | None = None
    ) -> list[list[Prefix]]:
        with self.sampler.waiting:
            choices = await self._sampled(prefixes, each, max_tokens, stop)
            found = [
                (number, self._grown(prefixes[number], choice, place, max_tokens, stop))
                for number, place, choice in sorted(choices, key=lambda one: one[:2])
            ]
            messages = await self.reading.messages([_said(one) for _, one in found])
            whole = await asyncio.gather(
                *(
                    self._read(prefixes[number], one, message)
                    for (number, one), message in zip(found, messages, strict=True)
                )
            )
        grown: list[list[Prefix]] = [[] for _ in prefixes]
        for (number, _), one in zip(found, whole, strict=True):
            grown[number].append(one)
        return grown

    def growing(self) -> Growing:
        return _Stream(self.reading.growth(), Withheld(self.stops), self.sampler.waiting)

    async def _sampled(
        self, prefixes: Sequence[Prefix], each: int, max_tokens: int, stop: str | None
    ) -> list[tuple[int, int, Choice]]:
        """Choices with the number of their prefix and their seed's. Raises ApiError where there is none."""
        sampler, count = self.sampler, each * len(prefixes)
        first = sampler.taken(count)
        if self._begun and sampler.place:
            sampler.place.again(count)
        self._begun = True
        order = self._order(prefixes, each, max_tokens, stop, first)
        spent_before = sampler.sampled_tokens
        found: list[tuple[int, int, Choice]] = []
        try:
            async with aclosing(sampler.pool.sample(order)) as items:
                async for item in items:
                    if isinstance(item, Part):
                        sampler.sampled_tokens += item.tokens
                    elif isinstance(item, Choice):
                        number, place = divmod(item.index, each)
                        found.append((number, first + place, item))
                        if sampler.place:
                            sampler.place.finished()
                    elif isinstance(item, SampleEnd):
                        sampler.sampled_tokens = spent_before + item.completion_tokens
                        said = {key: value for key, value in item.extras.items() if key == "system_fingerprint"}
                        sampler.extras = {**sampler.extras, **said}
        except ApiError:
            if not found:
                raise
        return found

    def _order(self, prefixes: Sequence[Prefix], each: int, max_tokens: int, stop: str | None, first: int) -> Order:
        sampler = self.sampler
        left_out = OF_THE_PROMPT.union(_NOT_OF_A_PIECE)
        body = {key: value for key, value in sampler.body.items() if key not in left_out}
        body["max_tokens"] = max_tokens
        if sampler.seed is not None:
            body["seed"] = sampler.seed + first
        if stop is not None:
            body |= {"stop": [stop], "include_stop_str_in_output": True}
        prompts = [[*self.reading.prompt_ids, *prefix.token_ids] for prefix in prefixes]
        if len(prompts) == 1:
            body["prompt"] = prompts.pop()
        return Order(
            body,
            each,
            COMPLETIONS_PATH,
            deadline=sampler.deadline,
            prompt_bytes=sampler.prompt_bytes,
            adapter=sampler.adapter,
            prompts=prompts,
            prefix=sampler.body,
            logprobs=sampler.logprobs,
        )

    def _grown(self, prefix: Prefix, choice: Choice, place: int, max_tokens: int, stop: str | None) -> Prefix:
        """The prefix with what was sampled, not read yet."""
        new = choice.token_ids or ()
        ids = (*prefix.token_ids, *new)
        ended = choice.finish_reason == "length" or (stop is not None and choice.stop_reason == stop)
        # A piece that is shorter than it may be has come to the end of the model's context.
        full = len(ids) >= self.sampler.body["max_tokens"] or (
            choice.finish_reason == "length" and len(new) < max_tokens
        )
        known = prefix.token_logprobs is not None and len(choice.token_logprobs or ()) == len(new)
        return replace(
            prefix,
            token_ids=ids,
            token_logprobs=(*(prefix.token_logprobs or ()), *(choice.token_logprobs or ())) if known else None,
            finish_reason=("length" if full else None) if ended else choice.finish_reason,
            stop_reason=None if ended else choice.stop_reason,
            seed=None if self.sampler.seed is None else self.sampler.seed + place,
            finished_s=asyncio.get_running_loop().time(),
        )

    async def _read(self, before: Prefix, grown: Prefix, message: Message) -> Prefix:
        """With its message, cut where a stop string is in it, the ids after that left out."""
        if message.get("tool_calls") and grown.finish_reason == "stop":
            grown = replace(grown, finish_reason="tool_calls")
        cut = self.stops.cut(message)
        if cut is None:
            return replace(grown, message=message)
        message, stop = cut
        fewest, most = len(before.token_ids) + 1, len(grown.token_ids)
        while fewest < most:
            half = (fewest + most) // 2
            [so_far] = await self.reading.messages([grown.token_ids[:half]])
            fewest, most = (fewest, half) if self.stops.cut(so_far) else (half + 1, most)
        return replace(
            grown,
            token_ids=grown.token_ids[:fewest],
            token_logprobs=grown.token_logprobs and grown.token_logprobs[:fewest],
            message=message,
            finish_reason="stop",
            stop_reason=stop,
        )


def _said(prefix: Prefix) -> tuple[int, ...]:
    """The ids that are text: the last one is not where it ended the answer by itself."""
    ended = prefix.finish_reason in ("stop", "tool_calls") and not isinstance(prefix.stop_reason, str)
    return prefix.token_ids[:-1] if ended else prefix.token_ids


@dataclass(slots=True)
class _Stream:
    """See `Growing`."""

    growth: Growth
    withheld: Withheld
    waiting: WaitClock
    _added: int = field(default=0)

    async def add(self, prefix: Prefix) -> dict[str, Any]:
        said = _said(prefix)
        new, self._added = said[self._added :], len(prefix.token_ids)
        with self.waiting:
            delta = await self.growth.add(new, prefix.finish_reason)
        return self.withheld.add(delta, ended=prefix.finish_reason is not None)
