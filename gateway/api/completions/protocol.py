"""The wire types of a text completion request, and reading one: each prompt becomes a request of its own."""

from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import msgspec

from gateway.admission.tiers import ServiceTier
from gateway.api.protocol import (
    OWNED,
    ChatRequest,
    GuidanceRequest,
    StreamOptions,
    at_least_one,
    convert,
    refuse_unsupported,
)
from gateway.api.session import named_in
from gateway.errors import BadRequest
from gateway.workers.client import COMPLETIONS_PATH

Prompt = str | list[int]
"""Text, or token ids."""

# What a tokenizer may add to a text of its own: a start, an end, a leading blank.
_ADDED_TOKENS = 8
_MOST_ID = 2**63 - 1


class CompletionBody(msgspec.Struct, frozen=True):
    """The fields that Bestow acts on, in the order of OpenAI's documentation; all others pass to the worker.

    prompt: a text, a list of texts, token ids, or a list of lists of these. max_tokens: the profile's default where it
    is absent, not OpenAI's 16. service_tier, store: as a chat completion has them.
    """

    model: str
    prompt: str | list[str | int | list[int]] | None = None
    best_of: int | None = None
    echo: bool | None = None
    logprobs: int | None = None
    max_tokens: int | None = None
    n: int | None = None
    seed: int | None = None
    service_tier: ServiceTier | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    suffix: str | None = None
    temperature: float | None = None
    safety_identifier: str | None = None
    user: str | None = None
    guidance: GuidanceRequest | None = None


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A checked request.

    echo: the prompt stands before each text. prompt_only: with `max_tokens: 0`, it is all that is wanted.
    common: what all prompts have in common; `of_prompt` completes it.
    """

    prompts: list[Prompt]
    echo: bool
    prompt_only: bool
    common: ChatRequest

    def of_prompt(self, prompt: Prompt, text: str) -> ChatRequest:
        """The request for one of the prompts; `text` is how a guard, a scorer and the log read it."""
        return replace(
            self.common,
            messages=[{"role": "user", "content": text}],
            passed_on={**self.common.passed_on, "prompt": prompt},
            body_bytes=len(prompt) if isinstance(prompt, list) else len(prompt.encode()) + _ADDED_TOKENS,
        )


def completion_request(body: dict[str, Any], max_prompts: int) -> CompletionRequest:
    """A text completion request from its decoded body. Raises BadRequest naming the field and the limit."""
    fields = convert(body, CompletionBody)
    if fields.best_of == 1:
        # OpenAI's default, which some clients send.
        body = {key: value for key, value in body.items() if key != "best_of"}
    _refuse(fields, body)
    prompts = _prompts(fields.prompt)
    if len(prompts) > max_prompts:
        raise BadRequest(f"prompt: there are {len(prompts)}; at most {max_prompts} a request", param="prompt")
    echo = bool(fields.echo)
    prompt_only = echo and fields.max_tokens == 0
    at_least_one(fields.n, "n")
    if not prompt_only:
        at_least_one(fields.max_tokens, "max_tokens")
    options = fields.stream_options or StreamOptions()
    common = ChatRequest(
        model=fields.model,
        messages=[],
        tools=[],
        passed_on={key: value for key, value in body.items() if key not in OWNED and key not in ("prompt", "suffix")},
        n=1 if fields.n is None else fields.n,
        seed=fields.seed,
        stream=bool(fields.stream),
        include_usage=bool(options.include_usage),
        continuous_usage=bool(options.continuous_usage_stats),
        temperature=fields.temperature,
        # vLLM samples one token too where only the prompt is wanted.
        max_tokens=1 if prompt_only else fields.max_tokens,
        user=fields.safety_identifier or fields.user,
        return_token_ids=body.get("return_token_ids") is True,
        guidance=fields.guidance or GuidanceRequest(),
        body_bytes=0,
        service_tier=fields.service_tier,
        store=fields.store is not False,
        path=COMPLETIONS_PATH,
        endpoint="completions",
        session=named_in(body),
    )
    return CompletionRequest(prompts, echo, prompt_only, common)


def _refuse(fields: CompletionBody, body: dict[str, Any]) -> None:
    refuse_unsupported(body)
    if fields.suffix:
        raise BadRequest(
            "suffix is not supported here: put the text around the gap into the prompt, as the model was trained to "
            "read it",
            param="suffix",
            code="unsupported_parameter",
        )
    if body.get("prompt_embeds") is not None:
        raise BadRequest(
            "prompt_embeds is not supported here: neither a guard nor the log can read it; send text or token ids",
            param="prompt_embeds",
            code="unsupported_parameter",
        )


def _prompts(given: str | list[str | int | list[int]] | None) -> list[Prompt]:
    """The prompts one by one. Raises BadRequest."""
    if given is None:
        raise _bad("it is missing; send a text, token ids, or a list of these (OpenAI's default is not taken here)")
    if isinstance(given, str):
        found: list[Prompt] = [given]
    elif _all_ids(given):
        found = [given] if given else []
    elif all(isinstance(one, str) for one in given) or all(isinstance(one, list) for one in given):
        found = [one for one in given if not isinstance(one, int)]
    else:
        raise _bad("it mixes texts and token ids; send one kind")
    if not found or not all(found):
        raise _bad("it is empty" if len(found) < 2 else f"prompt number {found.index(_first_empty(found))} is empty")
    for prompt in found:
        if isinstance(prompt, list) and not all(0 <= token <= _MOST_ID for token in prompt):
            raise _bad("a token id is out of bounds")
    return found


def _all_ids(given: list[str | int | list[int]]) -> TypeGuard[list[int]]:
    return all(isinstance(one, int) for one in given)


def _first_empty(prompts: list[Prompt]) -> Prompt:
    return next(prompt for prompt in prompts if not prompt)


def _bad(reason: str) -> BadRequest:
    return BadRequest(f"prompt: {reason}", param="prompt")
