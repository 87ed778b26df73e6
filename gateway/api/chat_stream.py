"""A chat completion as a stream of `chat.completion.chunk` objects."""

from typing import Any

import msgspec

from gateway.answers import Answer, Piece
from gateway.api.answer import (
    REFUSED_FINISH,
    extras_of,
    finish_of,
    guidance,
    logprobs_of,
    tier_said,
    usage,
    usage_of,
)
from gateway.api.protocol import ChatRequest
from gateway.errors import ApiError
from gateway.serving import Exchange

_encode = msgspec.json.Encoder().encode

DONE = b"data: [DONE]\n\n"


def frame(body: object) -> bytes:
    """One server-sent event with JSON in it."""
    return b"data: " + _encode(body) + b"\n\n"


class ChatWriter:
    """Writes OpenAI's chunks: role first, then deltas, then finish_reason; `guidance` rides on the last of these.

    Every choice starts with its role when its first piece comes. Usage comes last, where it was asked for.
    """

    def __init__(self, exchange: Exchange, request: ChatRequest) -> None:
        self._exchange = exchange
        self._request = request
        self._sent: dict[int, int] = {}

    def begin(self) -> bytes:
        return b""

    def piece(self, piece: Piece) -> bytes:
        choice: dict[str, Any] = {"index": piece.choice, "delta": piece.delta, "logprobs": None, "finish_reason": None}
        if piece.logprobs is not None:
            choice["logprobs"] = logprobs_of(piece.logprobs)
        if self._request.return_token_ids:
            choice["token_ids"] = piece.token_ids or []
        start = self._start(piece.choice)
        self._sent[piece.choice] += piece.tokens
        return start + self._chunk(choice)

    def end(self, answer: Answer) -> bytes:
        ends = [finish_of(one) for one in answer.choices] or [{"finish_reason": REFUSED_FINISH}]
        out = [self._start(index) for index in range(len(ends))]
        for index, end in enumerate(ends):
            last = index == len(ends) - 1
            extras = {"guidance": guidance(answer)} if last else {}
            if last and not self._request.include_usage:
                extras |= _closing(answer, self._request)
            out.append(self._chunk({"index": index, "delta": {}, "logprobs": None, **end}, **extras))
        if self._request.include_usage:
            out.append(self._chunk(None, usage=usage(answer), **_closing(answer, self._request)))
        return b"".join(out) + DONE

    def fail(self, error: ApiError) -> bytes:
        return frame(error.body())

    def _start(self, index: int) -> bytes:
        if index in self._sent:
            return b""
        self._sent[index] = 0
        choice = {
            "index": index,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        extras = {} if len(self._sent) > 1 else extras_of(self._exchange.extras, self._request)
        return self._chunk(choice, **{key: extras[key] for key in _OPENING if key in extras})

    def _chunk(self, choice: dict[str, Any] | None, **more: Any) -> bytes:
        body: dict[str, Any] = {
            "id": self._exchange.id,
            "object": "chat.completion.chunk",
            "created": int(self._exchange.created),
            "model": self._request.model,
            "choices": [] if choice is None else [choice],
            **tier_said(self._exchange.plan, self._request),
        }
        if self._request.continuous_usage and choice is not None:
            body["usage"] = usage_of(self._exchange.prompt_tokens, self._sent[choice["index"]])
        elif self._request.include_usage:
            body["usage"] = None
        return frame(body | more)


# vLLM says these on the first chunk of a stream, the others on the last.
_OPENING = ("prompt_token_ids", "prompt_text")


def _closing(answer: Answer, request: ChatRequest) -> dict[str, Any]:
    return {key: value for key, value in extras_of(answer.extras, request).items() if key not in _OPENING}
