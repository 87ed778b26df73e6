"""An `Answer` as OpenAI's chat completion, with the receipt (`guidance`, headers); and as the pieces of a stream."""

from collections.abc import Iterator
from typing import Any

from gateway.answers import Answer, Piece
from gateway.api.protocol import ChatRequest
from gateway.control.plan import Plan
from gateway.decoding.candidate import Judged
from scorers.contract import Score

REFUSED_FINISH = "content_filter"


def start_headers(plan: Plan, reward_model: str | None) -> dict[str, str]:
    """What is known before anything was sampled: all that a stream's headers can say."""
    return {
        "x-bestow-profile": plan.profile.version,
        "x-bestow-policy": plan.policy_version,
        "x-bestow-reward-model": reward_model or "none",
        **({"x-bestow-release": str(plan.route.release)} if plan.route.release else {}),
        **({"x-bestow-safe-mode": "on"} if plan.route.safe_mode else {}),
    }


def headers(answer: Answer) -> dict[str, str]:
    """The receipt in headers."""
    reward = answer.delivered[0].reward if answer.delivered and not _blind(answer) else None
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
    """The whole answer as a `chat.completion` object. Nulls are only where OpenAI's schema wants them."""
    choices = [_choice(index, one, request) for index, one in enumerate(answer.choices)]
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
        **tier_said(answer.plan, request),
        **extras_of(answer.extras, request),
        "guidance": guidance(answer),
    }


def tier_said(plan: Plan, request: ChatRequest) -> dict[str, Any]:
    """The class that the request got: OpenAI says it where the request asked for one."""
    return {} if request.service_tier is None else {"service_tier": plan.tier}


def extras_of(extras: dict[str, Any], request: ChatRequest) -> dict[str, Any]:
    """What the worker said of the request as a whole. The prompt's ids are read always, and shown when asked for."""
    return {key: value for key, value in extras.items() if key != "prompt_token_ids" or request.return_token_ids}


def pieces(answer: Answer) -> Iterator[Piece]:
    """An answer that was held until now, as the pieces of a stream: each choice whole, in their order."""
    if answer.refused:
        yield Piece(0, {"content": answer.plan.profile.settings.refusal}, None, None, 0)
    for index, one in enumerate(answer.choices):
        candidate = one.candidate
        yield Piece(index, _content_delta(one), candidate.logprobs, candidate.token_ids, candidate.completion_tokens)


def usage(answer: Answer) -> dict[str, Any]:
    """OpenAI's usage: what was delivered. What was sampled is in `guidance.usage`."""
    return usage_of(answer.prompt_tokens, answer.completion_tokens) | answer.usage_details


def usage_of(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def guidance(answer: Answer) -> dict[str, Any]:
    """The receipt. Candidates are listed only when asked; those that the guard flagged never show their text."""
    delivered = answer.delivered[0] if answer.delivered else None
    chosen = None if _blind(answer) else delivered
    receipt: dict[str, Any] = {
        "strategy": answer.strategy,
        "profile": answer.plan.profile.version,
        "policy": answer.plan.policy_version,
        "reward_model": answer.reward_model,
        "safety_model": answer.safety_model,
        "second_check": answer.second_check,
        "sampled": len(answer.judged),
        "scored": sum(one.reward is not None for one in answer.judged),
        "safe": sum(one.safe(answer.unjudged_passes) for one in answer.judged),
        "pruned": sum(one.pruned_by is not None for one in answer.judged),
        "chosen": chosen.candidate.index if chosen else None,
        "reward": chosen.reward if chosen else None,
        "calibrated": chosen.calibrated if chosen else None,
        "propensity": answer.propensity if chosen else None,
        "kl_bound": answer.kl_bound,
        "flagged": delivered.flagged_in if delivered else [],
        "flags": list(dict.fromkeys([*answer.noted, *(name for one in answer.delivered for name in one.noted)])),
        "refused": answer.refused,
        "degraded": answer.degraded,
        "usage": usage_of(answer.prompt_tokens, answer.sampled_tokens),
        "feedback_token": answer.feedback_token,
    }
    route = answer.plan.route
    if route.release:
        receipt["release"] = route.release
    if route.safe_mode:
        receipt["safe_mode"] = True
    if answer.comparison:
        receipt["comparison"] = {
            "token": answer.comparison.token,
            "choices": [
                {"index": index, "candidate": one.candidate.index} for index, one in enumerate(answer.comparison.shown)
            ],
        }
    if answer.plan.return_candidates:
        receipt["candidates"] = [_candidate(one, answer) for one in answer.judged]
    return receipt


def _blind(answer: Answer) -> bool:
    """Whether a person is to judge without knowing what was chosen, and by which reward."""
    return answer.comparison is not None and not answer.plan.return_candidates


def _candidate(judged: Judged, answer: Answer) -> dict[str, Any]:
    safe = judged.safe(answer.unjudged_passes)
    # With a second check, what it has not read is not shown: it is there for what the guard misses.
    shown = safe and (answer.second_check is None or judged.second_check is not None)
    return {
        "index": judged.candidate.index,
        "message": _message(judged) if shown else None,
        "finish_reason": judged.candidate.finish_reason,
        "completion_tokens": judged.candidate.completion_tokens,
        "reward": judged.reward,
        "reward_error": judged.reward_error,
        "calibrated": judged.calibrated,
        "scores": {version: _score(score) for version, score in judged.scores.items()},
        "pruned_by": judged.pruned_by,
        "broken": judged.broken,
        "safe": safe,
        "flagged": judged.flagged_in,
        "flags": judged.noted,
    }


def _score(score: Score) -> dict[str, Any]:
    return {
        "value": score.value,
        "calibrated": score.calibrated,
        "parts": score.parts,
        "steps": score.steps,
        "error": score.error,
    }


def _choice(index: int, judged: Judged, request: ChatRequest) -> dict[str, Any]:
    candidate = judged.candidate
    choice = {
        "index": index,
        "message": _message(judged),
        "logprobs": logprobs_of(candidate.logprobs),
        **finish_of(judged),
    }
    if request.return_token_ids:
        choice["token_ids"] = candidate.token_ids or []
    return choice | {key: value for key, value in candidate.extras.items() if key != "prompt_token_ids"}


_FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})


def finish_of(judged: Judged) -> dict[str, Any]:
    """finish_reason, and stop_reason where there is one. OpenAI knows fewer reasons than vLLM (`repetition`)."""
    finish, stop = judged.candidate.finish_reason, judged.candidate.stop_reason
    if finish not in _FINISHES:
        finish, stop = "stop", stop if stop is not None else finish
    return {"finish_reason": finish} if stop is None else {"finish_reason": finish, "stop_reason": stop}


def logprobs_of(logprobs: dict[str, Any] | None) -> dict[str, Any] | None:
    """Chat log-probabilities as OpenAI's schema has them: with `refusal`."""
    return None if logprobs is None else {"refusal": None, **logprobs}


def _message(judged: Judged) -> dict[str, Any]:
    message = {key: value for key, value in judged.candidate.message.items() if value is not None}
    content = message.get("content")
    if not content and (message.get("tool_calls") or message.get("reasoning")):
        # A stream opens with an empty text, whatever follows.
        content = None
    return message | {"content": content, "refusal": message.get("refusal")}


def _content_delta(judged: Judged) -> dict[str, Any]:
    """All of a message in one delta; the parts of tool calls carry their index there."""
    delta = {key: value for key, value in _message(judged).items() if key != "role" and value is not None}
    if "tool_calls" in delta:
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(delta["tool_calls"])]
    return delta
