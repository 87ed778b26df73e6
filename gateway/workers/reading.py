"""What token ids say: back from an answer's ids to its message, for answers that are sampled piece by piece.

A text completion tells no parser of its output, and vLLM writes a piece that begins in the middle of a character with
all of its prompt before it (seen on 0.32). So texts are never taken from pieces, but read from all ids of an answer:

    derender      with --enable-scale-out, vLLM's own: reasoning and tool calls are told apart as in any other answer
    /detokenize   without: plain text, and a character that is not whole yet is held back

What a stream gives away comes from a `Growth`, to which each chosen piece is told once: what it has said it never
takes back, whatever a parser would make of the whole.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import BadRequest, WorkerError
from gateway.log.records import Message
from gateway.workers.client import CHAT_PATH, NotServed
from gateway.workers.stream import delta_of

Derender = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
Detokenize = Callable[[Sequence[int]], Awaitable[str]]

# Some tokenizers write the first token of a text without the blank before it; after these many it has one.
_CONTEXT = 8
_HALF_A_CHARACTER = "\ufffd"


@dataclass(slots=True)
class Reading:
    """Reads the answers to one request. body: the worker's; path: of its endpoint. prompt_ids: of its prompt.

    plain: the worker does not derender, as far as is known.
    """

    body: Mapping[str, Any]
    path: str
    prompt_ids: Sequence[int]
    derender: Derender
    detokenize: Detokenize
    plain: bool = False
    _context: str | None = field(default=None)

    async def messages(self, answers: Sequence[Sequence[int]]) -> list[Message]:
        """What each answer says so far, ids that end it left out. Raises ApiError."""
        found: list[Message] = [{"role": "assistant", "content": ""} for _ in answers]
        said = [index for index, ids in enumerate(answers) if ids]
        if said and not self.plain:
            try:
                for index, message in zip(said, await self._derendered([answers[i] for i in said]), strict=True):
                    found[index] = message
                return found
            except NotServed:
                self.plain = True
        texts = await asyncio.gather(*(self.text(answers[index]) for index in said))
        for index, text in zip(said, texts, strict=True):
            found[index] = {"role": "assistant", "content": text}
        return found

    async def text(self, ids: Sequence[int]) -> str:
        """As /detokenize says it. Raises ApiError."""
        before = self.prompt_ids[-_CONTEXT:]
        if self._context is None:
            self._context = await self.detokenize(before)
        whole = await self.detokenize([*before, *ids])
        return whole.removeprefix(self._context).rstrip(_HALF_A_CHARACTER)

    async def _derendered(self, answers: Sequence[Sequence[int]]) -> list[Message]:
        choices = [{"index": index, "token_ids": list(ids)} for index, ids in enumerate(answers)]
        if self.path == CHAT_PATH:
            response = {"prompt_token_ids": list(self.prompt_ids), "choices": choices}
            return await self._asked({"generate_response": response, "chat_request": self.body}, len(answers))
        responses = [{"choices": [choice]} for choice in choices]
        context = [list(self.prompt_ids[-_CONTEXT:])] * len(responses)
        return await self._asked(
            {"generate_responses": responses, "prompt_token_ids": context, "completion_request": self.body},
            len(answers),
        )

    async def _asked(self, question: Mapping[str, Any], count: int) -> list[Message]:
        data = await self.ask(question)
        try:
            choices = sorted(data["choices"], key=lambda choice: int(choice["index"]))
            found = [{"role": "assistant", "content": None, **delta_of(choice)} for choice in choices]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise WorkerError("the worker's derender gave no messages") from None
        if len(found) != count:
            raise WorkerError(f"the worker's derender gave {len(found)} messages for {count} answers")
        for message in found:
            # Whole calls need no index: it is the stream's.
            for call in message.get("tool_calls") or ():
                call.pop("index", None)
        return found

    async def ask(self, question: Mapping[str, Any]) -> Any:
        """What the worker's derender answers. Raises NotServed where there is none, and other ApiErrors."""
        try:
            return await self.derender(self.path, question)
        except BadRequest as error:
            # What was sampled is not the client's mistake.
            raise WorkerError(f"the worker cannot read what it has sampled: {error.message}") from error

    def growth(self) -> "Growth":
        """Of an answer that begins."""
        return Growth(self)


@dataclass(slots=True)
class Growth:
    """One answer as a stream tells it: what each piece adds, in order."""

    reading: Reading
    _state: Any = field(default=None)
    _ids: list[int] = field(default_factory=list)
    _said: str = field(default="")

    async def add(self, ids: Sequence[int], finish_reason: str | None) -> dict[str, Any]:
        """The delta of a further piece, OpenAI's, without role and nulls; it may be empty. Raises ApiError."""
        if not ids and finish_reason is None:
            return {}
        self._ids += ids
        if not self.reading.plain:
            try:
                return await self._derendered(ids, finish_reason)
            except NotServed:
                if self._state is not None:
                    raise
                self.reading.plain = True
        text = await self.reading.text(self._ids) if self._ids else ""
        if not text.startswith(self._said):
            raise WorkerError("the worker reads the beginning of an answer in two ways")
        delta, self._said = text[len(self._said) :], text
        return {"content": delta} if delta else {}

    async def _derendered(self, ids: Sequence[int], finish_reason: str | None) -> dict[str, Any]:
        reading = self.reading
        kind = "chat_request" if reading.path == CHAT_PATH else "completion_request"
        data = await reading.ask(
            {
                "stream": True,
                "generate_chunk": {
                    "choices": [{"index": 0, "token_ids": list(ids), "finish_reason": finish_reason}],
                },
                "stream_state": self._state,
                "prompt_token_ids": list(reading.prompt_ids),
                kind: reading.body,
            }
        )
        try:
            [choice], self._state = data["chunk"]["choices"], data["stream_state"]
            return _without_nulls(delta_of(choice))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise WorkerError("the worker's derender gave no chunk") from None


def _without_nulls(delta: dict[str, Any]) -> dict[str, Any]:
    """The parts of tool calls as a stream has them: what a part does not say is not there."""
    for call in delta.get("tool_calls") or ():
        call["function"] = {key: value for key, value in (call.get("function") or {}).items() if value is not None}
        for key in [key for key, value in call.items() if value is None]:
            del call[key]
    return delta
