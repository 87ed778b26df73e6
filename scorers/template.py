"""A conversation, and the answer that is judged, to token ids by the model's own chat template.

Two dangers are met here. Untrusted text must not become control tokens: see `scorers.tokens`. And a template shows
only the fields it knows (most drop reasoning, small ones drop tool calls), so what a scorer must see and the template
dropped is appended to the same message's content, on a line of its own, and the conversation is rendered again. Where
content itself must be seen (a guard), a message that the template drops or cuts (a role it does not know, a part before
`</think>`) is rendered as the user's. What is missing then is an error, never a verdict on less than the whole.

What differs between families of models (BOS, system prompts, reasoning) is data: `scorers.families.Prompt`.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from scorers.contract import Message
from scorers.errors import BadScoreRequest, ScorerFailed
from scorers.families import Prompt
from scorers.reading import Sort, read_message, texts
from scorers.tokens import SafeTokenizer

# Characters searched in vain for one conversation: about a second. Real conversations stay far below.
_MAX_SEARCHED = 2_000_000_000

_SYSTEM = ("system", "developer")


Pieces = Callable[[str], list[str]]
"""Cuts the judged content into pieces: see `ChatTemplate`."""
Join = Callable[[Sequence[str]], str]


def _whole(content: str) -> list[str]:
    return [content]


class ChatTemplate:
    """Renders and tokenises for one model. `shows` is what the scorer must see of each message.

    The last turn's content is cut by `cut` and put together by `join`, which may write control tokens of ours between
    the pieces: those of strangers are hidden by then.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        tokens: SafeTokenizer,
        shows: Sort,
        prompt: Prompt | None = None,
        *,
        cut: Pieces = _whole,
        join: Join = "".join,
    ) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens
        self._shows = shows
        self._prompt = prompt or Prompt()
        self._cut = cut
        self._join = join

    def encode(
        self, messages: Sequence[Message], candidate: Message | None, tools: Sequence[dict[str, Any]]
    ) -> list[int]:
        """Token ids of the conversation, ending with `candidate` where there is one; no generation prompt.

        Raises BadScoreRequest for what cannot be read or what the template refuses.
        """
        turns = arranged(read_turns(messages, candidate), self._prompt)
        try:
            hidden = self._tokens.hide([turns, list(tools), self._cut(turns[-1]["content"])])
            shown, given_tools, pieces = hidden.value
            shown[-1] = {**shown[-1], "content": self._join(pieces)}
            ids = self._tokens.encode(self._render_all(shown, given_tools or None), hidden)
            return self._framed(ids) if self._prompt.special == "tokenizer" else ids
        except RecursionError:
            raise BadScoreRequest("The conversation is nested too deeply to be read.", "messages") from None

    def _framed(self, ids: list[int]) -> list[int]:
        """With what the tokenizer puts around a text, once."""
        before, after = self._tokens.prefix, self._tokens.suffix
        start = [] if ids[: len(before)] == before else before
        end = [] if ids[len(ids) - len(after) :] == after else after
        return [*start, *ids, *end]

    def _render_all(self, turns: list[Message], tools: list[dict[str, Any]] | None) -> str:
        rendered, lost = self._rendered_and_lost(turns, tools)
        if not lost:
            return rendered
        # A guard reads each text as it is; a reward is of the whole call, whose numbers are no texts.
        whole_calls = Sort.CONTENT not in self._shows
        turns = [_with_text(turn, lost.get(index, []), whole_calls) for index, turn in enumerate(turns)]
        rendered, lost = self._rendered_and_lost(turns, tools)
        if lost and Sort.CONTENT in self._shows:
            turns = [{**turn, "role": "user"} if index in lost else turn for index, turn in enumerate(turns)]
            rendered, lost = self._rendered_and_lost(turns, tools)
        if lost:
            raise BadScoreRequest(f"The scorer's chat template leaves out the text of messages[{min(lost)}].")
        return rendered

    def _rendered_and_lost(
        self, turns: list[Message], tools: list[dict[str, Any]] | None
    ) -> tuple[str, dict[int, list[str]]]:
        rendered = self._render(turns, tools)
        return rendered, _lost(turns, rendered, self._start_of_last(turns, tools, rendered), self._shows)

    def _start_of_last(self, turns: list[Message], tools: list[dict[str, Any]] | None, rendered: str) -> int:
        """A position in `rendered` that no text of the last turn stands before."""
        if len(turns) == 1:
            return 0
        try:
            without = self._render(turns[:-1], tools)
        except BadScoreRequest:
            return 0
        return len(without) if rendered.startswith(without) else _common_prefix(rendered, without)

    def _render(self, turns: list[Message], tools: list[dict[str, Any]] | None) -> str:
        options: dict[str, Any] = dict(self._prompt.options)
        try:
            rendered = self._tokenizer.apply_chat_template(
                turns,
                tools=tools,  # type: ignore[arg-type]  # a list of dicts is what it takes; list is invariant
                tokenize=False,
                add_generation_prompt=False,
                **options,
            )
        except (TemplateError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BadScoreRequest(
                f"The scorer's chat template refuses this conversation: {reason}.", "messages"
            ) from error
        if not isinstance(rendered, str):
            raise ScorerFailed("The scorer's chat template did not give text.")
        return rendered


class PlainText:
    """For classifiers without a chat template (most BERT-like ones): the judged message's text alone.

    That is the candidate, or else the last user message. The tokenizer's own [CLS] and [SEP] are put around each
    window by the caller.
    """

    def __init__(self, tokens: SafeTokenizer, shows: Sort) -> None:
        self._tokens = tokens
        self._shows = shows

    def encode(
        self, messages: Sequence[Message], candidate: Message | None, tools: Sequence[dict[str, Any]]
    ) -> list[int]:
        """Token ids of the judged text. Raises BadScoreRequest for what cannot be read."""
        turns = read_turns(messages, candidate)
        judged = turns[-1]
        if candidate is None:
            judged = next((turn for turn in reversed(turns) if turn["role"] == "user"), judged)
        hidden = self._tokens.hide("\n".join(texts(judged, self._shows)))
        return self._tokens.encode(hidden.value, hidden)


class FramedText:
    """For reward models without a chat template: the answer's text, with what the tokenizer puts around it.

    Unless `alone`, it is the second of two texts; the first is what was said before, a line a message.
    """

    def __init__(self, tokens: SafeTokenizer, prompt: Prompt, *, alone: bool) -> None:
        self._tokens = tokens
        self._prompt = prompt
        self._alone = alone

    def encode(
        self, messages: Sequence[Message], candidate: Message | None, tools: Sequence[dict[str, Any]]
    ) -> list[int]:
        """Token ids of one text or of the pair. Raises BadScoreRequest for what cannot be read."""
        *before, judged = arranged(read_turns(messages, candidate), self._prompt)
        tokens = self._tokens
        answer = self._encode(said(judged))
        if self._alone:
            return [*tokens.prefix, *answer, *tokens.suffix]
        question = self._encode("\n".join(map(said, before)))
        return [*tokens.before_pair, *question, *tokens.between_pair, *answer, *tokens.after_pair]

    def _encode(self, text: str) -> list[int]:
        hidden = self._tokens.hide(text)
        return self._tokens.encode(hidden.value, hidden)


def said(turn: Message) -> str:
    """What a turn says, refusals and tool calls included."""
    return "\n".join(texts(turn, Sort.CONTENT | Sort.ACTION))


def arranged(turns: list[Message], prompt: Prompt) -> list[Message]:
    """The turns as the family wants them: see `Prompt`. The last turn, which is judged, always stays."""
    *before, judged = [_thoughtless(turn) for turn in turns] if prompt.thoughts == "drop" else turns
    if prompt.system == "keep":
        return [*before, judged]
    system = [turn["content"] for turn in before if turn["role"] in _SYSTEM]
    others = [turn for turn in before if turn["role"] not in _SYSTEM]
    if prompt.system == "drop" or not system:
        return [*others, judged]
    first = next((index for index, turn in enumerate(others) if turn["role"] == "user"), None)
    if first is None:
        return [{"role": "user", "content": "\n\n".join(system)}, *others, judged]
    content = "\n\n".join([*system, others[first]["content"]])
    return [*others[:first], {**others[first], "content": content}, *others[first + 1 :], judged]


def _thoughtless(turn: Message) -> Message:
    return {key: value for key, value in turn.items() if key not in ("reasoning", "reasoning_content")}


def read_turns(messages: Sequence[Message], candidate: Message | None) -> list[Message]:
    """The turns in order, plain. Raises BadScoreRequest naming what cannot be read, or where there is nothing."""
    turns = [read_message(message, f"messages[{index}]") for index, message in enumerate(messages)]
    if not turns:
        raise BadScoreRequest("messages must hold at least one message.", "messages")
    if candidate is not None:
        turns.append(read_message({"role": "assistant", **candidate}, "candidates[]"))
    return turns


def _lost(turns: Sequence[Message], rendered: str, start_of_last: int, shows: Sort) -> dict[int, list[str]]:
    """By turn, the texts that `rendered` does not hold.

    The last turn is the judged one: its text must stand in its own place, or an answer that repeats the prompt would
    count as seen where only the prompt is.
    """
    lost: dict[int, list[str]] = {}
    last, near, searched = len(turns) - 1, 0, 0
    for index, turn in enumerate(turns):
        if index == last:
            near = start_of_last
        for text in texts(turn, shows):
            found = _find(rendered, text.strip(), near)
            if found < 0 and index != last:  # not in order: look everywhere
                searched += near
                found = _find(rendered, text.strip(), 0)
            if found < 0:
                searched += len(rendered)
                lost.setdefault(index, []).append(text)
            elif index != last:
                near = found
            if searched > _MAX_SEARCHED:
                raise BadScoreRequest("Too much of this conversation is left out by the scorer's chat template.")
    return lost


def _find(rendered: str, text: str, start: int) -> int:
    """Where the text begins in `rendered`, as it is or as JSON writes it; -1 where it is missing."""
    found = rendered.find(text, start)
    if found >= 0:
        return found
    for spelling in {json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]} - {text}:
        found = rendered.find(spelling, start)
        if found >= 0:
            return found
    return -1


def _common_prefix(one: str, other: str) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one.startswith(other[:middle]):
            low = middle
        else:
            high = middle - 1
    return low


def _with_text(turn: Message, more: Sequence[str], whole_calls: bool) -> Message:
    """The turn with what the template left out in its content: `more`; with `whole_calls`, each call as JSON."""
    if more and whole_calls and turn.get("tool_calls"):
        of_calls = set(texts({"role": turn["role"], "tool_calls": turn["tool_calls"]}, Sort.ACTION))
        if not of_calls.isdisjoint(more):
            calls = [json.dumps(call["function"], ensure_ascii=False) for call in turn["tool_calls"]]
            more = [*(text for text in more if text not in of_calls), *calls]
    parts = [part for part in (turn["content"], *more) if part]
    return {**turn, "content": "\n".join(parts)}
