"""A chat answer as OpenAI's Response object."""

from collections.abc import Mapping
from typing import Any

from gateway.admission.tiers import Tier
from gateway.api.responses.items import Item
from gateway.api.responses.output import Output
from gateway.api.responses.protocol import ResponsesRequest
from gateway.ids import COMPLETION_PREFIX, RESPONSE_PREFIX

# Chat's finish_reason -> why the response is incomplete. Other reasons complete it.
_CUT_OFF = {"length": "max_output_tokens", "content_filter": "content_filter"}

# Chat's own fields; others are a worker's extras (system_fingerprint, stop_reason, token_ids, ...), which are kept.
_OF_COMPLETION = frozenset({"id", "object", "created", "model", "choices", "usage", "guidance", "service_tier"})
_OF_CHOICE = frozenset({"index", "message", "logprobs", "finish_reason"})


def response_id(completion_id: str) -> str:
    """`resp_<uuid>` of `chatcmpl-<uuid>`: the same interaction."""
    return RESPONSE_PREFIX + uuid_part(completion_id)


def uuid_part(identifier: str) -> str:
    return identifier.removeprefix(COMPLETION_PREFIX).removeprefix(RESPONSE_PREFIX)


def started(
    request: ResponsesRequest, completion_id: str, created: int, sampling: Mapping[str, Any], tier: Tier
) -> dict[str, Any]:
    """The response before anything is known of its output: what was asked for, as OpenAI says it back.

    sampling: what is sent to the worker. Its temperature may be the profile's; none: the model's own. tier: the class
    that the request got.
    """
    body = request.body
    response: dict[str, Any] = {
        "id": response_id(completion_id),
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "model": body.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {
            "effort": body.reasoning.effort if body.reasoning else None,
            "summary": body.reasoning.summary if body.reasoning else None,
        },
        "safety_identifier": body.safety_identifier,
        "store": request.store,
        "temperature": sampling.get("temperature"),
        "text": _text(request),
        "tool_choice": body.tool_choice or "auto",
        "tools": [_tool(tool) for tool in body.tools or []],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": "disabled",
    }
    if body.service_tier is not None:
        response["service_tier"] = tier
    if body.user is not None:
        response["user"] = body.user
    return response


def _text(request: ResponsesRequest) -> dict[str, Any]:
    wanted = request.body.text
    text: dict[str, Any] = {"format": (wanted.format if wanted else None) or {"type": "text"}}
    if wanted and wanted.verbosity:
        text["verbosity"] = wanted.verbosity
    return text


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's description wants `strict` and `parameters` there."""
    return {**tool, "parameters": tool.get("parameters"), "strict": tool.get("strict")}


def whole(response: dict[str, Any], completion: dict[str, Any], now: int) -> dict[str, Any]:
    """The finished response of a chat completion object. now: seconds since 1970."""
    [choice] = completion["choices"]
    output = Output(uuid_part(response["id"]))
    output.add(choice["message"], choice.get("logprobs"))
    output.finish(incomplete=is_cut_off(choice["finish_reason"]))
    return finished(response, output.items, completion, now)


def is_cut_off(finish_reason: str) -> bool:
    return finish_reason in _CUT_OFF


def finished(response: dict[str, Any], items: list[Item], completion: dict[str, Any], now: int) -> dict[str, Any]:
    """`response` with its output, its end and its receipt, which come from the chat completion object."""
    [choice] = completion["choices"]
    reason = _CUT_OFF.get(choice["finish_reason"])
    return {
        **{key: value for key, value in completion.items() if key not in _OF_COMPLETION},
        **{key: value for key, value in choice.items() if key not in _OF_CHOICE},
        **response,
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "completed_at": None if reason else now,
        "output": items,
        "usage": usage(completion["usage"]),
        "guidance": completion["guidance"],
    }


def usage(of_chat: dict[str, Any]) -> dict[str, Any]:
    """Responses' usage from chat's; the details that a worker does not tell are 0, since the schema demands them."""
    prompt = of_chat.get("prompt_tokens_details") or {}
    completion = of_chat.get("completion_tokens_details") or {}
    return {
        "input_tokens": of_chat["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": prompt.get("cached_tokens") or 0, "cache_write_tokens": 0},
        "output_tokens": of_chat["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": completion.get("reasoning_tokens") or 0},
        "total_tokens": of_chat["total_tokens"],
    }
