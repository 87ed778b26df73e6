"""A live stream whose worker is gone goes on elsewhere, from its token ids.

The other worker gets the prompt's ids and those of the text that has left, as a text completion, and samples on. That
is the same distribution only where nothing but the ids decides what comes next, and the same bytes only where nothing
reads the text behind our back: no tools, grammars, reasoning parsers, penalties, log-probabilities or stop strings.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.workers.stream import Accumulator

# They steer by what was sampled so far, or change what the text is; a text completion from ids has lost both.
STATEFUL = (
    "tools",
    "functions",
    "response_format",
    "structured_outputs",
    "stop",
    "logprobs",
    "top_logprobs",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "repetition_detection",
    "thinking_token_budget",
    "echo",
    "bad_words",
    "return_token_ids",
)
OF_THE_PROMPT = frozenset(
    {
        "messages",
        "tool_choice",
        "parallel_tool_calls",
        "chat_template_kwargs",
        "add_generation_prompt",
        "continue_final_message",
        "documents",
        "reasoning_effort",
        "include_reasoning",
        "max_completion_tokens",
        "truncate_prompt_tokens",
        "truncation_side",
        "mm_processor_kwargs",
        "media_io_kwargs",
        "add_special_tokens",
    }
)
# How many ids at the end may be of text that has not left: a character is seldom more than four.
_MOST_UNSENT = 8

Detokenize = Callable[[Sequence[int]], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Continuation:
    """body: for /v1/completions. kept: ids that go on. owed: text of those that has not left yet."""

    body: dict[str, Any]
    kept: int
    owed: str


async def continuation(
    body: Mapping[str, Any], prompt_ids: Sequence[int] | None, sampled: Accumulator, detokenize: Detokenize
) -> Continuation | None:
    """How to go on after `sampled`; None where it cannot be exact. Raises what `detokenize` does."""
    if not _can_continue(body, prompt_ids, sampled):
        return None
    assert prompt_ids is not None
    ids, text = sampled.token_ids or [], sampled.message["content"] or ""
    # vLLM holds back text that is half a character: the fewest ids whose text covers what has left.
    for kept in range(len(ids), max(len(ids) - _MOST_UNSENT, 0) - 1, -1):
        whole = await detokenize(ids[:kept]) if kept else ""
        if not whole.startswith(text):
            return None
        if not whole.endswith("\ufffd"):
            rest = {key: value for key, value in body.items() if key not in OF_THE_PROMPT}
            left = body["max_tokens"] - kept
            if left < 1:
                return None
            if rest.get("min_tokens"):
                rest["min_tokens"] = max(0, rest["min_tokens"] - kept)
            rest |= {"prompt": [*prompt_ids, *ids[:kept]], "max_tokens": left}
            return Continuation(rest, kept, whole[len(text) :])
    return None


def _can_continue(body: Mapping[str, Any], prompt_ids: Sequence[int] | None, sampled: Accumulator) -> bool:
    if any(body.get(key) for key in STATEFUL) or not prompt_ids or not body.get("max_tokens"):
        return False
    # A parser in the worker reads reasoning and tool calls out of the text; their ids are not this text's.
    if set(sampled.message) - {"role", "content"}:
        return False
    return len(sampled.token_ids or ()) == sampled.tokens
