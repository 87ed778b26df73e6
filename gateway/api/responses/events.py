"""A response as OpenAI's stream of typed events: `event:` and `data:` lines, numbered from 0, without a [DONE].

    response.created, response.in_progress
    for each item   response.output_item.added, its parts and deltas, response.output_item.done   (output.py)
    response.completed | response.incomplete | response.failed

The last event says whether the response is stored, so it is not part of `end`: the route stores the response first
and then asks for `last`.
"""

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from gateway.answers import Answer, Piece
from gateway.api.answer import completion
from gateway.api.protocol import ChatRequest
from gateway.api.responses.answer import finished, is_cut_off, uuid_part
from gateway.api.responses.output import Event, Output
from gateway.api.responses.request import in_our_words
from gateway.errors import ApiError

_encode = msgspec.json.Encoder().encode


class ResponsesWriter:
    """A `StreamWriter`. started: the response as it begins. response: as it ended, None until then.

    origins: which field of the client's request each chat message comes from, for errors.
    """

    def __init__(
        self, started: dict[str, Any], request: ChatRequest, origins: Sequence[str], now: Callable[[], float]
    ) -> None:
        self.response: dict[str, Any] | None = None
        self._started = started
        self._request = request
        self._origins = origins
        self._now = now
        self._output = Output(uuid_part(started["id"]))
        self._number = 0

    def begin(self) -> bytes:
        kinds = ("response.created", "response.in_progress")
        return self._frames({"type": kind, "response": self._started} for kind in kinds)

    def piece(self, piece: Piece) -> bytes:
        return self._frames(self._output.add(piece.delta, piece.logprobs))

    def end(self, answer: Answer) -> bytes:
        """All but the last event."""
        chat = completion(answer, self._request)
        closing = self._output.finish(incomplete=is_cut_off(chat["choices"][0]["finish_reason"]))
        self.response = finished(self._started, self._output.items, chat, int(self._now()))
        return self._frames(closing)

    def last(self, response: dict[str, Any]) -> bytes:
        """The last event of a response that ended."""
        return self._frames([{"type": f"response.{response['status']}", "response": response}])

    def fail(self, error: ApiError) -> bytes:
        """OpenAI's `error` event, then the response as far as it came, as failed."""
        error = in_our_words(error, self._origins)
        if self._output.items:
            self._output.finish(incomplete=True)
        failed = {
            **self._started,
            "status": "failed",
            "error": {"code": _code_of(error), "message": error.message},
            "output": self._output.items,
            "store": False,
        }
        return self._frames(
            [
                {"type": "error", "code": error.code, "message": error.message, "param": error.param},
                {"type": "response.failed", "response": failed},
            ]
        )

    def _frames(self, events: Iterable[Event]) -> bytes:
        return b"".join(self._frame(event) for event in events)

    def _frame(self, event: Event) -> bytes:
        number, self._number = self._number, self._number + 1
        kind: str = event["type"]
        data = _encode({"type": kind, "sequence_number": number, **event})
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def _code_of(error: ApiError) -> str:
    """OpenAI has a closed list of a failed response's codes; the `error` event before it carries our own."""
    if error.status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_exceeded"
    return "invalid_prompt" if error.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
