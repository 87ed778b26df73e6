"""A text completion as a stream of `text_completion` chunks.

Held choices leave whole, each one chunk with its finish_reason, as OpenAI's schema wants it. Live ones leave part by
part, with a null for finish_reason until the last, as OpenAI sends them. Choices of several prompts may interleave.
"""

from collections.abc import Sequence
from typing import Any

from gateway.answers import Answer, Piece
from gateway.api.answer import REFUSED_FINISH, extras_of, finish_of, tier_said, usage_of
from gateway.api.chat_stream import DONE, frame
from gateway.api.completions.answer import choices, receipt, shown, text_id, total
from gateway.api.completions.protocol import CompletionRequest
from gateway.errors import ApiError
from gateway.serving import Exchange


class Stream:
    """What the prompts of one stream share: its id, and who ends last."""

    def __init__(self, asked: CompletionRequest, exchanges: Sequence[Exchange]) -> None:
        self.asked = asked
        self.first = exchanges[0]
        self.answers: list[Answer] = []

    def frame(self, choice: dict[str, Any] | None, **more: Any) -> bytes:
        return frame(
            {
                "id": text_id(self.first.id),
                "object": "text_completion",
                "created": int(self.first.created),
                "model": self.asked.common.model,
                "choices": [] if choice is None else [choice],
                **tier_said(self.first.plan, self.asked.common),
                **more,
            }
        )

    def ended(self, answer: Answer) -> bytes:
        """What follows a prompt's last chunk: nothing, until it is the last prompt's."""
        self.answers.append(answer)
        if len(self.answers) < len(self.asked.prompts):
            return b""
        if not self.asked.common.include_usage:
            return DONE
        return self.frame(None, usage=total(self.answers, self.asked), **self.extras(answer)) + DONE

    def extras(self, answer: Answer) -> dict[str, Any]:
        """What the worker said of the request as a whole; it can be said of one prompt only."""
        return extras_of(answer.extras, self.asked.common) if len(self.asked.prompts) == 1 else {}


class PromptWriter:
    """Writes the chunks of prompt `number`; `guidance` rides on the last that has a finish_reason."""

    def __init__(self, stream: Stream, exchange: Exchange, number: int, text: str) -> None:
        self._stream = stream
        self._exchange = exchange
        self._number = number
        self._text = text
        self._begun = False
        self._told_ids = False
        self._sent = 0

    def begin(self) -> bytes:
        return b""

    def piece(self, piece: Piece) -> bytes:
        if not self._exchange.plan.live:
            return b""
        said = self._shown(piece.delta.get("content") or "", piece.logprobs, piece.token_ids)
        self._sent += piece.tokens
        ids = self._exchange.extras.get("prompt_token_ids")
        return self._chunk({"index": self._number, **said, "finish_reason": None, **self._prompt_ids(ids)}, self._sent)

    def end(self, answer: Answer) -> bytes:
        live = self._exchange.plan.live
        ends = self._last(answer) if live else choices(answer, self._stream.asked, self._number, self._text)
        sent = [self._sent] if live else [one.candidate.completion_tokens for one in answer.delivered]
        sent += [0] * (len(ends) - len(sent))
        more = {"guidance": receipt(answer, self._stream.asked)}
        if not self._stream.asked.common.include_usage:
            more |= self._stream.extras(answer)
        frames = [self._chunk(choice, tokens) for choice, tokens in zip(ends[:-1], sent[:-1], strict=True)]
        return b"".join([*frames, self._chunk(ends[-1], sent[-1], **more), self._stream.ended(answer)])

    def fail(self, error: ApiError) -> bytes:
        return frame(error.body())

    def _last(self, answer: Answer) -> list[dict[str, Any]]:
        """The end of a live choice, all of whose text has left."""
        said = {"text": "", "logprobs": None} if self._begun else self._shown("", None, None)
        if not answer.delivered:
            return [{"index": self._number, **said, "finish_reason": REFUSED_FINISH}]
        [delivered] = answer.delivered
        extras = dict(delivered.candidate.extras)
        ids = self._prompt_ids(extras.pop("prompt_token_ids", None))
        return [{"index": self._number, **said, **finish_of(delivered), **extras, **ids}]

    def _shown(self, text: str, logprobs: dict[str, Any] | None, token_ids: list[int] | None) -> dict[str, Any]:
        echoed = "" if self._begun else self._text
        self._begun = True
        return shown(
            self._stream.asked,
            text,
            logprobs,
            token_ids,
            echoed=echoed,
            prompt_tokens=self._exchange.prompt_tokens,
        )

    def _prompt_ids(self, ids: list[int] | None) -> dict[str, Any]:
        if self._told_ids or not ids or not self._stream.asked.common.return_token_ids:
            return {}
        self._told_ids = True
        return {"prompt_token_ids": ids}

    def _chunk(self, choice: dict[str, Any], sent: int, **more: Any) -> bytes:
        if self._stream.asked.common.continuous_usage:
            more["usage"] = usage_of(self._exchange.prompt_tokens, sent)
        return self._stream.frame(choice, **more)
