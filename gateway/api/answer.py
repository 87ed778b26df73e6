"""An `Answer` as OpenAI's JSON: one object, or the chunks of a stream; with the receipt (`guidance`, headers)."""

from collections.abc import Iterator
from typing import Any

from gateway.api.protocol import ChatRequest
from gateway.control.plan import Plan
from gateway.decoding.candidate import Judged
from gateway.serving import Answer

REFUSED_FINISH = "content_filter"


def start_headers(plan: Plan, reward_model: str | None) -> dict[str, str]:
    """What is known before anything was sampled: all that a stream's headers can say."""
    return {
        "x-bestow-profile": plan.profile.version,
        "x-bestow-policy": plan.policy_version,
        "x-bestow-reward-model": reward_model or "none",
    }


def headers(answer: Answer) -> dict[str, str]:
    """The receipt in headers."""
    reward = answer.delivered[0].reward if answer.delivered else None
    found = {
        **start_headers(answer.plan, answer.reward_model),
        "x-bestow-candidates": str(len(answer.judged)),
        "x-bestow-overhead-ms": f"{answer.overhead_ms:.2f}",
    }
    if reward is not None:
        found["x-bestow-reward"] = f"{reward:.6g}"
    if answer.degraded:
        found["x-bestow-degraded"] = answer.degraded
    return found


def completion(answer: Answer, request: ChatRequest) -> dict[str, Any]:
    """The whole answer as a `chat.completion` object."""
    choices = [_choice(index, one, request) for index, one in enumerate(answer.delivered)]
    if answer.refused:
        message = {"role": "assistant", "content": answer.plan.profile.settings.refusal, "refusal": None}
        choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": REFUSED_FINISH}]
    return {
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.plan.model,
        "choices": choices,
        "usage": usage(answer),
        "guidance": guidance(answer),
    }


def chunks(answer: Answer, request: ChatRequest) -> Iterator[dict[str, Any]]:
    """The same as `chat.completion.chunk` objects; `guidance` rides on the last one that has a finish_reason."""
    whole = completion(answer, request)
    base = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    if request.include_usage:
        base["usage"] = None
    last = len(whole["choices"]) - 1
    for choice in whole["choices"]:
        message = choice["message"]
        start = {"role": "assistant", "content": ""}
        yield {**base, "choices": [_delta(choice, start)]}
        yield {**base, "choices": [_delta(choice, _content_delta(message), logprobs=choice["logprobs"])]}
        end = _delta(choice, {}, finish_reason=choice["finish_reason"])
        end |= {key: choice[key] for key in ("stop_reason", "token_ids") if key in choice}
        chunk = {**base, "choices": [end]}
        if choice["index"] == last:
            chunk["guidance"] = whole["guidance"]
        yield chunk
    if request.include_usage:
        yield {**base, "choices": [], "usage": whole["usage"]}


def usage(answer: Answer) -> dict[str, int]:
    """OpenAI's usage: what was delivered. What was sampled is in `guidance.usage`."""
    completion_tokens = sum(one.candidate.completion_tokens for one in answer.delivered)
    return _usage(answer.prompt_tokens, completion_tokens)


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def guidance(answer: Answer) -> dict[str, Any]:
    """The receipt. Candidates are listed only when asked; those that the guard flagged never show their text."""
    chosen = answer.delivered[0] if answer.delivered else None
    receipt: dict[str, Any] = {
        "strategy": answer.plan.strategy,
        "profile": answer.plan.profile.version,
        "policy": answer.plan.policy_version,
        "reward_model": answer.reward_model,
        "safety_model": answer.safety_model,
        "sampled": len(answer.judged),
        "scored": sum(one.reward is not None for one in answer.judged),
        "safe": sum(one.safe(answer.unjudged_passes) for one in answer.judged),
        "pruned": 0,
        "chosen": chosen.candidate.index if chosen else None,
        "reward": chosen.reward if chosen else None,
        "refused": answer.refused,
        "degraded": answer.degraded,
        "usage": _usage(answer.prompt_tokens, answer.sampled_tokens),
        "feedback_token": answer.feedback_token,
    }
    if answer.plan.return_candidates:
        receipt["candidates"] = [_candidate(one, answer.unjudged_passes) for one in answer.judged]
    return receipt


def _candidate(judged: Judged, unjudged_passes: bool) -> dict[str, Any]:
    safe = judged.safe(unjudged_passes)
    return {
        "index": judged.candidate.index,
        "message": _message(judged) if safe else None,
        "finish_reason": judged.candidate.finish_reason,
        "completion_tokens": judged.candidate.completion_tokens,
        "reward": judged.reward,
        "reward_error": judged.reward_error,
        "safe": safe,
        "flagged": judged.verdict.flagged if judged.verdict else [],
    }


def _choice(index: int, judged: Judged, request: ChatRequest) -> dict[str, Any]:
    candidate = judged.candidate
    choice = {
        "index": index,
        "message": _message(judged),
        "logprobs": candidate.logprobs,
        "finish_reason": candidate.finish_reason,
    }
    if candidate.stop_reason is not None:
        choice["stop_reason"] = candidate.stop_reason
    if request.return_token_ids:
        choice["token_ids"] = candidate.token_ids
    return choice


def _message(judged: Judged) -> dict[str, Any]:
    message = {**judged.candidate.message, "refusal": judged.candidate.message.get("refusal")}
    if message.get("tool_calls") and not message.get("content"):
        message["content"] = None
    return message


def _delta(
    choice: dict[str, Any], delta: dict[str, Any], *, logprobs: Any = None, finish_reason: str | None = None
) -> dict[str, Any]:
    return {"index": choice["index"], "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _content_delta(message: dict[str, Any]) -> dict[str, Any]:
    """All of a message in one delta; the parts of tool calls carry their index there."""
    delta = {key: value for key, value in message.items() if key != "role" and value is not None}
    if "tool_calls" in delta:
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(delta["tool_calls"])]
    return delta
