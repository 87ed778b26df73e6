"""The output items of a response, built from a chat answer's parts as they come; whole answers are one part.

Each part also gives the typed events that tell it (without sequence numbers). One builder serves unary and streamed
responses, so both have the same items.
"""

from collections.abc import Sequence
from typing import Any

from gateway.api.responses.items import Item, item_id, output_text
from gateway.errors import WorkerError

Event = dict[str, Any]
Token = dict[str, Any]


class Output:
    """items: those so far; the last may be open, which means that more of it may come."""

    def __init__(self, uuid: str) -> None:
        self.items: list[Item] = []
        self._uuid = uuid
        self._open = False
        self._call_index: int | None = None
        self._calls_seen: set[int] = set()
        self._unspoken: list[Token] = []

    def add(self, delta: dict[str, Any], logprobs: dict[str, Any] | None) -> list[Event]:
        """Take in OpenAI's chat delta (a whole message is one too). Raises WorkerError where it makes no sense."""
        reasoning = delta.get("reasoning") or delta.get("reasoning_content")
        content = delta.get("content")
        calls = delta.get("tool_calls") or []
        tokens = self._unspoken + list((logprobs or {}).get("content") or [])
        # Tokens that make no text yet, such as half a character, belong to the text that follows.
        self._unspoken = [] if reasoning or content or calls else tokens
        events: list[Event] = []
        if reasoning:
            events += self._reason(reasoning)
        if content:
            events += self._say(content, said(tokens, content, after=reasoning or ""))
        for position, call in enumerate(calls):
            events += self._call(call, call.get("index", position))
        return events

    def finish(self, *, incomplete: bool) -> list[Event]:
        """Close what is open. An answer without a word is an empty message."""
        events = [] if self.items else self._begin_message()
        return events + self._close("incomplete" if incomplete else "completed")

    def _reason(self, text: str) -> list[Event]:
        events = []
        if not self._is_open("reasoning"):
            events = self._begin("reasoning", {"summary": [], "content": []})
            part = {"type": "reasoning_text", "text": ""}
            self._last["content"].append(part)
            events.append(self._event("response.content_part.added", content_index=0, part=dict(part)))
        self._last["content"][0]["text"] += text
        return [*events, self._event("response.reasoning_text.delta", content_index=0, delta=text)]

    def _say(self, text: str, tokens: list[Token]) -> list[Event]:
        events = [] if self._is_open("message") else self._begin_message()
        part = self._last["content"][0]
        part["text"] += text
        part["logprobs"] += tokens
        logprobs = [_brief(token) for token in tokens]
        return [*events, self._event("response.output_text.delta", content_index=0, delta=text, logprobs=logprobs)]

    def _begin_message(self) -> list[Event]:
        events = self._begin("message", {"role": "assistant", "content": []})
        self._last["content"].append(output_text(""))
        return [*events, self._event("response.content_part.added", content_index=0, part=output_text(""))]

    def _call(self, call: dict[str, Any], index: int) -> list[Event]:
        function = call.get("function") or {}
        events: list[Event] = []
        if not self._is_open("function_call") or self._call_index != index:
            if index in self._calls_seen or not call.get("id") or not function.get("name"):
                raise WorkerError("the worker sent part of a tool call without its beginning", code="bad_stream")
            self._calls_seen.add(index)
            self._call_index = index
            fields = {"call_id": call["id"], "name": function["name"], "arguments": ""}
            events = self._begin("function_call", fields)
        arguments = function.get("arguments")
        if arguments:
            self._last["arguments"] += arguments
            events.append(self._event("response.function_call_arguments.delta", delta=arguments))
        return events

    @property
    def _last(self) -> Item:
        return self.items[-1]

    def _is_open(self, kind: str) -> bool:
        return self._open and self._last["type"] == kind

    def _begin(self, kind: str, fields: Item) -> list[Event]:
        """Close the open item and begin the next."""
        events = self._close("completed")
        identifier = item_id(kind, self._uuid, "o", len(self.items))
        item = {"id": identifier, "type": kind, "status": "in_progress", **fields}
        self.items.append(item)
        self._open = True
        return [*events, _item_event("response.output_item.added", len(self.items) - 1, item)]

    def _close(self, status: str) -> list[Event]:
        if not self._open:
            return []
        self._open = False
        item = self._last
        item["status"] = status
        events = []
        match item["type"]:
            case "message":
                part = item["content"][0]
                logprobs = [_brief(token) for token in part["logprobs"]]
                events = [
                    self._event("response.output_text.done", content_index=0, text=part["text"], logprobs=logprobs),
                    self._event("response.content_part.done", content_index=0, part=part),
                ]
            case "reasoning":
                part = item["content"][0]
                events = [
                    self._event("response.reasoning_text.done", content_index=0, text=part["text"]),
                    self._event("response.content_part.done", content_index=0, part=part),
                ]
            case _:
                names = {"name": item["name"], "arguments": item["arguments"]}
                events = [self._event("response.function_call_arguments.done", **names)]
        return [*events, _item_event("response.output_item.done", len(self.items) - 1, item)]

    def _event(self, kind: str, **fields: Any) -> Event:
        return {"type": kind, "item_id": self._last["id"], "output_index": len(self.items) - 1, **fields}


def _item_event(kind: str, index: int, item: Item) -> Event:
    """With the item as it is now: it grows after its `added`."""
    now = {key: list(value) if isinstance(value, list) else value for key, value in item.items()}
    return {"type": kind, "output_index": index, "item": now}


def said(tokens: Sequence[Token], text: str, after: str = "") -> list[Token]:
    """Those of the tokens that make up `text`, in OpenAI's full form; not those of markers, reasoning or tool calls.

    The text is looked for behind `after`, in bytes; where it is not found (a worker that shows tokens by their ids)
    all tokens are taken to be its.
    """
    full = [_full(token) for token in tokens]
    ends = []
    spoken = b""
    for token in full:
        spoken += bytes(token["bytes"])
        ends.append(len(spoken))
    wanted = text.encode()
    behind = spoken.find(after.encode())
    start = spoken.find(wanted, max(behind, 0) + len(after.encode()))
    if start < 0:
        return full
    stop = start + len(wanted)
    begins = [0, *ends]
    return [token for token, begin, end in zip(full, begins, ends, strict=False) if end > start and begin < stop]


def _full(token: Token) -> Token:
    return {**_one(token), "top_logprobs": [_one(other) for other in token.get("top_logprobs") or []]}


def _one(token: Token) -> Token:
    given = token.get("bytes")
    spelled = list(token["token"].encode()) if given is None else given
    return {"token": token["token"], "logprob": token["logprob"], "bytes": spelled}


def _brief(token: Token) -> Token:
    """The form that OpenAI's text events have: without bytes."""
    top = [{"token": other["token"], "logprob": other["logprob"]} for other in token["top_logprobs"]]
    return {"token": token["token"], "logprob": token["logprob"], "top_logprobs": top}
