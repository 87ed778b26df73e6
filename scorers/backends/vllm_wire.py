"""What vLLM's HTTP API is asked for each head, and how its answers become rows. Seen on vLLM 0.32.

    Pooled      POST /classify         use_activation: false gives logits; the default is their sigmoid or softmax
    Steps       POST /pooling          the same for each token; base64 is short, exact, and can say NaN
    NextToken   POST /v1/completions   one token, with the log-probabilities of `logprob_token_ids`

`/generative_scoring` gives one label's probability a request, and truncates what is too long without a word.

Inputs are token ids, and `add_special_tokens` is off, so that what is read is what was sent.
"""

import base64
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from scorers.backend import Head, NextToken, Pooled, Row

MAX_LABEL_IDS = 128
"""Most ids that vLLM takes as `logprob_token_ids`."""

_TOLERANCE = 1e-3
_TOKEN_ID = "token_id:"


class Broken(Exception):
    """The answer is not what was asked for; the message says how, to go behind 'it answered'."""


class Wire(Protocol):
    """One head's requests and answers."""

    @property
    def path(self) -> str: ...

    @property
    def room(self) -> int:
        """How many tokens of the model's context an input must leave free."""
        ...

    def body(self, inputs: Sequence[list[int]]) -> dict[str, Any]:
        """What to ask for these inputs."""
        ...

    def rows(self, answer: bytes, inputs: Sequence[list[int]]) -> list[Row]:
        """One row an input, in order; numbers may be no finite ones. Raises Broken."""
        ...


@dataclass(frozen=True, slots=True)
class Classify:
    """The wire of `Pooled`. labels: how many. activation: ask for probabilities (to see that logits are others).

    ignored_at_end: the id that Hugging Face's decoder classifiers take for padding at the end of an input; they read
    their answer before it, vLLM reads it at the last id sent.
    """

    model: str
    labels: int
    ignored_at_end: int | None = None
    activation: bool = False

    path = "/classify"
    room = 0

    def body(self, inputs: Sequence[list[int]]) -> dict[str, Any]:
        return _pooling_body(self.model, [self._sent(ids) for ids in inputs], self.activation)

    def rows(self, answer: bytes, inputs: Sequence[list[int]]) -> list[Row]:
        items = _in_order(_read(answer, _Classifications).data, inputs)
        rows = [[math.nan if x is None else x for x in one.probs] for one in items]
        if any(len(row) != self.labels for row in rows):
            raise Broken(f"{len(rows[0])} numbers for an input where the model's files have {self.labels} labels")
        return rows

    def _sent(self, ids: list[int]) -> list[int]:
        end = len(ids)
        while end > 1 and ids[end - 1] == self.ignored_at_end:
            end -= 1
        return ids[:end]


@dataclass(frozen=True, slots=True)
class StepsOf:
    """The wire of `Steps`."""

    model: str
    labels: int
    token_id: int
    activation: bool = False

    path = "/pooling"
    room = 0

    def body(self, inputs: Sequence[list[int]]) -> dict[str, Any]:
        body = _pooling_body(self.model, inputs, self.activation)
        return body | {"task": "token_classify", "encoding_format": "base64", "endianness": "little"}

    def rows(self, answer: bytes, inputs: Sequence[list[int]]) -> list[Row]:
        items = _in_order(_read(answer, _Poolings).data, inputs)
        return [self._at_steps(_floats(one.data), ids) for one, ids in zip(items, inputs, strict=True)]

    def _at_steps(self, numbers: Row, ids: list[int]) -> Row:
        """Those at the step tokens; a server whose pooler is of type STEP sends no others."""
        steps = [index for index, one in enumerate(ids) if one == self.token_id]
        if len(numbers) == self.labels * len(steps):
            return numbers
        if len(numbers) != self.labels * len(ids):
            raise Broken(
                f"{len(numbers)} numbers for {len(ids)} tokens where the model's files have {self.labels} labels"
            )
        return [x for index in steps for x in numbers[index * self.labels : (index + 1) * self.labels]]


@dataclass(frozen=True, slots=True)
class NextTokenOf:
    """The wire of `NextToken`. Greedy and without penalties, whatever the model's generation_config says: where a
    server tells log-probabilities after sampling's changes to them (`--logprobs-mode`), there are none."""

    model: str
    ids: tuple[int, ...]

    path = "/v1/completions"
    room = 1

    def body(self, inputs: Sequence[list[int]]) -> dict[str, Any]:
        return next_token_body(self.model, inputs) | {"logprob_token_ids": list(dict.fromkeys(self.ids))}

    def rows(self, answer: bytes, inputs: Sequence[list[int]]) -> list[Row]:
        rows = []
        for told in next_token_logprobs(answer, inputs):
            if missing := [one for one in self.ids if one not in told]:
                raise Broken(f"no log-probability of token {missing[0]} (logprob_token_ids needs a newer vLLM)")
            rows.append([told[one] for one in self.ids])
        return rows


def next_token_body(model: str, inputs: Sequence[list[int]], top: int = 1) -> dict[str, Any]:
    """Asks for one token and the log-probabilities of the `top` likeliest."""
    return {
        "model": model,
        "prompt": list(inputs),
        "add_special_tokens": False,
        "max_tokens": 1,
        "temperature": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "logprobs": top,
        "return_tokens_as_token_ids": True,
    }


def next_token_logprobs(answer: bytes, inputs: Sequence[list[int]]) -> list[Mapping[int, float]]:
    """What an answer tells of the next token of each input, by id. Raises Broken, as for what is above 0."""
    told: list[Mapping[int, float]] = []
    for choice in _in_order(_read(answer, _Completion).choices, inputs):
        if choice.logprobs is None or len(choice.logprobs.top_logprobs) != 1:
            raise Broken("no log-probabilities of one token")
        by_id: dict[int, float] = {}
        for token, value in choice.logprobs.top_logprobs[0].items():
            number = token.removeprefix(_TOKEN_ID)
            if number == token or not number.isdecimal():
                raise Broken(f"a token as {token[:20]!r}, not by its id")
            by_id[int(number)] = math.nan if value is None else value
        if any(value > _TOLERANCE for value in by_id.values()):
            raise Broken("log-probabilities above 0 (it runs with --logprobs-mode raw_logits or processed_logits)")
        told.append(by_id)
    return told


def wire_of(head: Head, model: str, labels: int, ignored_at_end: int | None) -> Wire:
    """The wire of a head of the model that vLLM calls `model`."""
    if isinstance(head, Pooled):
        return Classify(model, labels, ignored_at_end)
    if isinstance(head, NextToken):
        return NextTokenOf(model, head.ids)
    return StepsOf(model, labels, head.token_id)


def _pooling_body(model: str, inputs: Sequence[list[int]], activation: bool) -> dict[str, Any]:
    return {"model": model, "input": list(inputs), "add_special_tokens": False, "use_activation": activation}


class _Item(msgspec.Struct, frozen=True):
    index: int


class _Classified(_Item, frozen=True):
    probs: list[float | None]


class _Classifications(msgspec.Struct, frozen=True):
    data: list[_Classified]


class _Pooled(_Item, frozen=True):
    data: str


class _Poolings(msgspec.Struct, frozen=True):
    data: list[_Pooled]


class _Logprobs(msgspec.Struct, frozen=True):
    top_logprobs: list[dict[str, float | None]]


class _Choice(_Item, frozen=True):
    logprobs: _Logprobs | None = None


class _Completion(msgspec.Struct, frozen=True):
    choices: list[_Choice]


AnswerT = TypeVar("AnswerT", bound=msgspec.Struct)
ItemT = TypeVar("ItemT", bound=_Item)


def _read(answer: bytes, shape: type[AnswerT]) -> AnswerT:
    """Raises Broken."""
    try:
        try:
            return msgspec.json.decode(answer, type=shape)
        except msgspec.DecodeError:
            # NaN and Infinity are no JSON, but Python servers write them; only their own inputs shall fail.
            return msgspec.convert(json.loads(answer), shape)
    except (ValueError, RecursionError) as error:
        raise Broken(f"what cannot be read ({error})") from error


def _in_order(items: Sequence[ItemT], inputs: Sequence[list[int]]) -> list[ItemT]:
    """The answer's items by their index: one an input. Raises Broken."""
    by_index = {one.index: one for one in items}
    if len(items) != len(inputs) or sorted(by_index) != list(range(len(inputs))):
        raise Broken(f"{len(items)} results for {len(inputs)} inputs")
    return [by_index[index] for index in range(len(inputs))]


def _floats(data: str) -> Row:
    """Numbers from base64 of little-endian float32. Raises Broken."""
    try:
        raw = base64.b64decode(data, validate=True)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    except (ValueError, struct.error) as error:
        raise Broken(f"no base64 of float32 ({error})") from error
