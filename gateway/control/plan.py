"""The plan of a request: what its model, its profile and its own wishes make of it. Pure.

A request's wishes are bounded by the profile; beyond a bound is a 400 that names the field and the limit.
"""

from dataclasses import dataclass
from typing import Any

from gateway.api.protocol import ChatRequest
from gateway.control.profiles import ModelDirectory, Profile, ProfileStore
from gateway.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Plan:
    """How one request will be answered.

    model: the public name. n: candidates sampled in a wave. deliver: choices the client gets, best first.
    seed: candidate i gets seed + i. budget_s: seconds until the best so far is delivered.
    max_tokens: output limit of each candidate; max_tokens_given: the client asked for it.
    sampling: the body for the worker, without model, n and seed.
    """

    model: str
    policy: str
    policy_version: str
    profile: Profile
    strategy: str
    n: int
    deliver: int
    seed: int | None
    budget_s: float
    max_tokens: int
    max_tokens_given: bool
    return_candidates: bool
    sampling: dict[str, Any]


def make_plan(
    request: ChatRequest,
    models: ModelDirectory,
    profiles: ProfileStore,
    policy_versions: dict[str, int],
    request_timeout_s: float,
) -> Plan:
    """Raises ModelNotFound, or BadRequest naming the field and the limit."""
    model = models.get(request.model)
    wishes = request.guidance
    profile = profiles.get(wishes.profile or model.profile)
    settings = profile.settings
    if wishes.strategy not in (None, settings.strategy):
        raise BadRequest(
            f"guidance.strategy: {wishes.strategy!r} is not served; this profile allows {settings.strategy}",
            param="guidance.strategy",
        )
    if wishes.stream_mode not in (None, settings.stream_mode):
        raise BadRequest(
            f"guidance.stream_mode: {wishes.stream_mode!r} is not served yet; use {settings.stream_mode!r}",
            param="guidance.stream_mode",
            code="unsupported_parameter",
        )
    if wishes.return_candidates and not settings.show_candidates:
        raise BadRequest(
            "guidance.return_candidates: this profile does not allow it", param="guidance.return_candidates"
        )
    temperature = request.temperature if request.temperature is not None else settings.temperature
    greedy = temperature == 0
    max_tokens = _bounded(request.max_tokens, settings.max_tokens_limit, "max_tokens") or settings.max_tokens
    sampling = {key: value for key, value in request.passed_on.items() if key != "max_completion_tokens"}
    if temperature is not None:
        sampling["temperature"] = temperature
    return Plan(
        model=request.model,
        policy=model.policy,
        policy_version=f"{model.policy}@{policy_versions[model.policy]}",
        profile=profile,
        strategy="greedy" if greedy else settings.strategy,
        n=_candidates(request, profile, greedy),
        deliver=request.n,
        seed=wishes.seed if wishes.seed is not None else request.seed,
        budget_s=_budget_s(request, request_timeout_s),
        max_tokens=max_tokens,
        max_tokens_given=request.max_tokens is not None,
        return_candidates=wishes.return_candidates,
        sampling=sampling,
    )


def _candidates(request: ChatRequest, profile: Profile, greedy: bool) -> int:
    """Sampled are max(the strategy's n, the client's n), one at temperature 0."""
    settings = profile.settings
    wished = _bounded(request.guidance.n, settings.max_n, "guidance.n")
    client = _bounded(request.n, settings.max_n, "n") or 1
    if greedy:
        if client > 1:
            raise BadRequest(
                f"n: {client} choices at temperature 0 would all be the same; use n = 1 or a higher temperature",
                param="n",
            )
        return 1
    return max(wished or settings.n, client)


def _bounded(value: int | None, limit: int, name: str) -> int | None:
    if value is None:
        return None
    if not 1 <= value <= limit:
        raise BadRequest(f"{name}: {value} is out of bounds; this profile allows 1 to {limit}", param=name)
    return value


def _budget_s(request: ChatRequest, request_timeout_s: float) -> float:
    budget = request.guidance.budget
    if budget is None or budget.ms is None:
        return request_timeout_s
    limit = int(request_timeout_s * 1000)
    if not 1 <= budget.ms <= limit:
        raise BadRequest(
            f"guidance.budget.ms: {budget.ms} is out of bounds; allowed is 1 to {limit}", param="guidance.budget.ms"
        )
    return budget.ms / 1000
