"""Answers as one `text_completion`: the choices prompt by prompt, and the receipt of each."""

from collections.abc import Sequence
from typing import Any

from gateway.answers import Answer
from gateway.api.answer import (
    REFUSED_FINISH,
    extras_of,
    finish_of,
    guidance,
    headers,
    start_headers,
    tier_said,
    usage,
    usage_of,
)
from gateway.api.completions.protocol import CompletionRequest
from gateway.decoding.candidate import Judged
from gateway.ids import COMPLETION_PREFIX, TEXT_PREFIX


def text_id(identifier: str) -> str:
    """An interaction's id as this endpoint gives it: `cmpl-<uuid>`."""
    return TEXT_PREFIX + identifier.removeprefix(COMPLETION_PREFIX)


def text_completion(answers: Sequence[Answer], asked: CompletionRequest, texts: Sequence[str]) -> dict[str, Any]:
    """The whole answer. texts: of the prompts, in their order."""
    first = answers[0]
    receipts = [receipt(answer, asked) for answer in answers]
    return {
        "id": text_id(first.id),
        "object": "text_completion",
        "created": first.created,
        "model": asked.common.model,
        "choices": [
            choice
            for number, (answer, text) in enumerate(zip(answers, texts, strict=True))
            for choice in choices(answer, asked, number, text)
        ],
        "usage": total(answers, asked),
        **tier_said(first.plan, asked.common),
        **(extras_of(first.extras, asked.common) if len(answers) == 1 else {}),
        "guidance": receipts[0] | ({"prompts": receipts} if len(receipts) > 1 else {}),
    }


def receipt(answer: Answer, asked: CompletionRequest) -> dict[str, Any]:
    """`guidance` of one prompt; its id, which feedback takes, is said where the answer holds several."""
    found = guidance(answer)
    return {"id": text_id(answer.id), **found} if len(asked.prompts) > 1 else found


def choices(answer: Answer, asked: CompletionRequest, number: int, text: str) -> list[dict[str, Any]]:
    """The choices of prompt `number`.

    Where there are several prompts each has exactly `n`, since clients tell by their place which prompt they belong to:
    one that could not be delivered is a refusal, or empty where there was no time for it.
    """
    first = number * asked.common.n
    found = [_choice(first + index, one, answer, asked, text) for index, one in enumerate(answer.delivered)]
    missing = asked.common.n - len(found) if len(asked.prompts) > 1 else int(not found)
    return found + [_missing(first + len(found) + index, answer) for index in range(missing)]


def _missing(index: int, answer: Answer) -> dict[str, Any]:
    unsafe = answer.refused or any(not (one.cut_off or one.safe(answer.unjudged_passes)) for one in answer.judged)
    refusal, finish = (answer.plan.profile.settings.refusal, REFUSED_FINISH) if unsafe else ("", "length")
    return {"index": index, "text": refusal, "logprobs": None, "finish_reason": finish}


def _choice(index: int, judged: Judged, answer: Answer, asked: CompletionRequest, text: str) -> dict[str, Any]:
    candidate = judged.candidate
    said = shown(
        asked,
        candidate.message.get("content") or "",
        candidate.logprobs,
        candidate.token_ids,
        echoed=text,
        prompt_tokens=answer.prompt_tokens,
    )
    extras = {key: value for key, value in candidate.extras.items() if key != "prompt_token_ids"}
    if asked.common.return_token_ids and "prompt_token_ids" in candidate.extras:
        extras["prompt_token_ids"] = candidate.extras["prompt_token_ids"]
    return {"index": index, **said, **finish_of(judged), **extras}


def shown(
    asked: CompletionRequest,
    text: str,
    logprobs: dict[str, Any] | None,
    token_ids: list[int] | None,
    *,
    echoed: str = "",
    prompt_tokens: int = 0,
) -> dict[str, Any]:
    """Text, log-probabilities and token ids of a choice, or of a part of one, as they were asked for.

    echoed: the prompt, where this is the start of a choice: vLLM leaves it out when it is asked for token ids, as the
    gateway always does, but not out of the log-probabilities.
    """
    if asked.prompt_only:
        text, token_ids = "", []
        logprobs = logprobs and {key: value[:prompt_tokens] for key, value in logprobs.items() if value is not None}
    found: dict[str, Any] = {"text": (echoed if asked.echo else "") + text, "logprobs": logprobs}
    if asked.common.return_token_ids:
        found["token_ids"] = token_ids or []
    return found


def total(answers: Sequence[Answer], asked: CompletionRequest) -> dict[str, Any]:
    """OpenAI's usage, of all prompts together: what was delivered."""
    if len(answers) == 1 and not asked.prompt_only:
        return usage(answers[0])
    prompt = sum(answer.prompt_tokens for answer in answers)
    completion = 0 if asked.prompt_only else sum(answer.completion_tokens for answer in answers)
    return usage_of(prompt, completion)


def joint_headers(answers: Sequence[Answer]) -> dict[str, str]:
    """The receipt in headers. Of several prompts: what they share, how many candidates in all, the first shortfall."""
    first = answers[0]
    if len(answers) == 1:
        return headers(first)
    found = {
        **start_headers(first.plan, first.reward_model),
        "x-bestow-candidates": str(sum(len(answer.judged) for answer in answers)),
        "x-bestow-overhead-ms": f"{max(answer.overhead_ms for answer in answers):.2f}",
    }
    degraded = next((answer.degraded for answer in answers if answer.degraded), None)
    return found | ({"x-bestow-degraded": degraded} if degraded else {})
