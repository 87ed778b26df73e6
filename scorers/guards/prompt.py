"""A conversation to the token ids of a generative guard's prompt, up to where its verdict begins.

The model's own chat template makes the prompt, or the one of a format file; without markers in the texts, the ids are
the template's. A guard has to see everything, and these templates know only content that alternates between user and
assistant. So all fields of a message become its content, each on a line of its own; other roles are the user's;
neighbours of one role become one message, a blank line between them (as Qwen3Guard's template does with a system
prompt); and a conversation that the assistant begins gets an empty message before it. A prompt is the client's, also
where it ends in words of the assistant: judged alone, its last message is the user's. Tool definitions are not shown.
"""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from scorers.contract import Message
from scorers.errors import BadScoreRequest, ScorerFailed
from scorers.guards.markers import Markers
from scorers.reading import Sort, texts
from scorers.template import read_turns
from scorers.tokens import SafeTokenizer


class GuardPrompt:
    """template: a Jinja chat template, None for the tokenizer's own. parts: whether it wants content as a list."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        tokens: SafeTokenizer,
        markers: Markers,
        *,
        template: str | None,
        parts: bool,
        lead: str,
    ) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens
        self._markers = markers
        self._template = template
        self._parts = parts
        self._lead = lead

    def encode(
        self, messages: Sequence[Message], candidate: Message | None, tools: Sequence[dict[str, Any]]
    ) -> list[int]:
        """Token ids of the prompt and what the guard writes before a label. Raises BadScoreRequest."""
        try:
            turns = alternating(read_turns(messages, candidate), prompt_only=candidate is None)
        except RecursionError:
            raise BadScoreRequest("The conversation is nested too deeply to be read.", "messages") from None
        hidden = self._tokens.hide([{**turn, "content": self._markers.disarm(turn["content"])} for turn in turns])
        return self._tokens.encode(self.text(hidden.value), hidden)

    def text(self, turns: Sequence[Message]) -> str:
        """The same as text, of turns as `alternating` makes them. Raises BadScoreRequest where one is left out."""
        rendered = self._render(turns)
        position = 0
        for turn in turns:
            wanted = turn["content"].strip()
            position = rendered.find(wanted, position)
            if position < 0:
                raise BadScoreRequest("The guard's prompt leaves out a part of this conversation.", "messages")
            position += len(wanted)
        return rendered if rendered.endswith(self._lead) else rendered + self._lead

    def _render(self, turns: Sequence[Message]) -> str:
        if self._parts:
            turns = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
        try:
            rendered = self._tokenizer.apply_chat_template(
                list(turns), chat_template=self._template, tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BadScoreRequest(f"The guard's template refuses this conversation: {reason}.", "messages") from error
        if not isinstance(rendered, str):
            raise ScorerFailed("The guard's template did not give text.")
        return rendered


def alternating(turns: Sequence[Message], *, prompt_only: bool) -> list[Message]:
    """Role and content alone, user and assistant in turn, the user first; see the module's docstring."""
    last = len(turns) - 1
    merged: list[Message] = [{"role": "user", "content": ""}]
    for index, turn in enumerate(turns):
        theirs = turn["role"] == "assistant" and not (prompt_only and index == last)
        role, content = "assistant" if theirs else "user", "\n".join(texts(turn, Sort.ALL))
        if role == merged[-1]["role"]:
            content = "\n\n".join(filter(None, (merged.pop()["content"], content)))
        merged.append({"role": role, "content": content})
    return merged
