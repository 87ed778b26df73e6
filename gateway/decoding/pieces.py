"""An answer that is built piece by piece: its beginnings, how they go on, and where a stop string ends them.

A strategy asks `Sampler.pieces` for them. They go on from token ids, which is what the policy itself would have said
next as long as nothing but the ids steers it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.log.records import Message


@dataclass(frozen=True, slots=True)
class Prefix:
    """The beginning of an answer, or all of it.

    token_ids: all of them, with the one that ended it. message: what they say, parsed, stop strings left out.
    token_logprobs: of each of token_ids; None where they are not known of all.
    finish_reason, stop_reason: None where it may go on. seed: of its last piece. finished_s: when that was sampled, on
    the event loop's clock.
    """

    token_ids: tuple[int, ...] = ()
    message: Message = field(default_factory=lambda: {"role": "assistant", "content": ""})
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    seed: int | None = None
    finished_s: float = 0.0
    token_logprobs: tuple[float, ...] | None = ()


class Growing(Protocol):
    async def add(self, prefix: Prefix) -> dict[str, Any]:
        """The delta by which the answer so far grows to be `prefix`, whose beginning it is; it may be empty.

        What may be the beginning of a stop string or of a character stays behind until it is known. Raises ApiError.
        """
        ...


class Pieces(Protocol):
    async def continued(
        self, prefixes: Sequence[Prefix], each: int, max_tokens: int, stop: str | None = None
    ) -> list[list[Prefix]]:
        """For each of `prefixes`, `each` ways to go on by at most `max_tokens`, all from one request.

        stop: a text that ends a piece and belongs to it. The lists are shorter where the worker was lost; ApiError is
        raised where nothing came. No two pieces of a request share both seed and beginning: those of a call have the
        seeds that follow the last call's, and different beginnings in one call share theirs (vLLM has one seed a
        request), so they must differ.
        """
        ...

    def growing(self) -> Growing:
        """What a stream may say of one answer, from its beginning."""
        ...


@dataclass(frozen=True, slots=True)
class StopStrings:
    """Texts that end an answer; `kept`: they stay in it (vLLM's include_stop_str_in_output)."""

    texts: tuple[str, ...] = ()
    kept: bool = False

    @staticmethod
    def of(body: Mapping[str, Any]) -> "StopStrings":
        stop = body.get("stop")
        texts = (stop,) if isinstance(stop, str) else tuple(stop or ())
        return StopStrings(tuple(filter(None, texts)), bool(body.get("include_stop_str_in_output")))

    def find(self, text: str) -> tuple[int, str] | None:
        """Where a text is cut and by which of them: the one that was complete first, as a worker would have seen it."""
        found = [(text.find(one) + len(one), one) for one in self.texts if one in text]
        if not found:
            return None
        end, stop = min(found, key=lambda one: one[0])
        return (end if self.kept else end - len(stop)), stop

    def cut(self, message: Message) -> tuple[Message, str] | None:
        """The message up to the first of them, and which it was; None where there is none. Reasoning comes first."""
        for key in (_REASONING, _CONTENT):
            hit = self.find(message.get(key) or "")
            if hit is not None:
                end, stop = hit
                kept = {name: value for name, value in message.items() if key == _CONTENT or name != _CONTENT}
                return {"content": None, **kept, key: message[key][:end]}, stop
        return None


_REASONING, _CONTENT = "reasoning", "content"


@dataclass(slots=True)
class Withheld:
    """Of a growing text, keeps back what may be the beginning of a stop string."""

    stops: StopStrings
    _field: str = ""
    _tail: str = ""
    _cut: bool = False

    def add(self, delta: Mapping[str, Any], *, ended: bool) -> dict[str, Any]:
        """What may leave of a delta and of what was kept back. ended: no more will come."""
        if not self.stops.texts:
            return dict(delta)
        found: dict[str, Any] = {}
        for key, value in delta.items():
            if self._cut or not isinstance(value, str):
                continue
            self._flush(found, unless=key)
            self._field, text = key, self._tail + value
            if hit := self.stops.find(text):
                self._cut = True
                found[key], self._tail = text[: hit[0]], ""
                continue
            leaves = max(0, len(text) - max(map(len, self.stops.texts)) + 1)
            found[key], self._tail = text[:leaves], text[leaves:]
        if ended:
            self._flush(found)
        return {key: value for key, value in found.items() if value}

    def _flush(self, found: dict[str, Any], unless: str = "") -> None:
        if self._tail and self._field != unless:
            found[self._field] = found.get(self._field, "") + self._tail
            self._tail = ""
