"""The plan of a request: what its model, its profile and its own wishes make of it. Pure.

A request's wishes are bounded by the profile; beyond a bound is a 400 that names the field and the limit.
"""

from dataclasses import dataclass
from typing import Any, Literal

from gateway.access.caller import Caller
from gateway.admission.tiers import Tier, tier_of
from gateway.api.protocol import UNJUDGEABLE, ChatRequest
from gateway.config import ModelConfig
from gateway.control.profiles import Profile, ProfileStore
from gateway.decoding.registry import strategy
from gateway.decoding.selection.settings import SelectionConfig
from gateway.errors import BadRequest, Forbidden
from gateway.profile_settings import ProfileConfig
from gateway.release.route import Route

Live = Literal["block", "first"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How one request will be answered.

    model: the public name. route: the release that answers, and by which weights; profile: as it holds for that.
    n: candidates sampled in a wave; least: how few that may become while the workers are full.
    deliver: choices the client gets, best first. tier: the class of the request.
    live: what leaves before the answer is whole: one sample as it comes (first), or each block of it as it is chosen.
    seed: candidate i gets seed + i. budget_s: seconds until the best so far is delivered. token_limit: how many may be
    sampled in all.
    max_tokens: output limit of each candidate; max_tokens_given: the client asked for it.
    comparable: two answers may be shown side by side, where the profile asks for a comparison.
    sampling: the body for the worker, without model, n and seed. streamable: whether vLLM streams what it asks for.
    """

    model: str
    policy: str
    route: Route
    profile: Profile
    strategy: str
    n: int
    least: int
    deliver: int
    tier: Tier
    live: Live | None
    seed: int | None
    budget_s: float
    token_limit: int | None
    max_tokens: int
    max_tokens_given: bool
    return_candidates: bool
    comparable: bool
    sampling: dict[str, Any]
    streamable: bool

    @property
    def policy_version(self) -> str:
        """As on the receipt: name@N."""
        return self.route.policy_version

    @property
    def adapter(self) -> str | None:
        """The name by which workers know the weights that sample; None: the policy's own."""
        return self.route.served_as

    @property
    def selection(self) -> SelectionConfig:
        """The profile's rule. With a seed nothing is explored: whoever asks for the same again wants no surprise.

        Nor in safe mode.
        """
        selection = self.profile.settings.selection
        return selection if self.seed is None and not self.route.safe_mode else selection.without_exploring


def make_plan(
    request: ChatRequest,
    caller: Caller,
    model: ModelConfig,
    route: Route,
    profiles: ProfileStore,
    request_timeout_s: float,
) -> Plan:
    """Raises Forbidden, or BadRequest naming the field and the limit."""
    wishes = request.guidance
    if wishes.profile is not None and not caller.may_use_profile(wishes.profile):
        raise Forbidden(
            f"guidance.profile: your key may not use {wishes.profile!r}",
            param="guidance.profile",
            code="profile_forbidden",
        )
    profile = route.overlay(profiles.get(wishes.profile or model.profile))
    settings = profile.settings
    if wishes.strategy not in (None, settings.strategy):
        raise BadRequest(
            f"guidance.strategy: {wishes.strategy!r} is not served; this profile allows {settings.strategy}",
            param="guidance.strategy",
        )
    if wishes.return_candidates and not settings.show_candidates:
        raise BadRequest(
            "guidance.return_candidates: this profile does not allow it", param="guidance.return_candidates"
        )
    temperature = request.temperature if request.temperature is not None else settings.temperature
    greedy = temperature == 0
    live = _live(request, settings, greedy)
    n = 1 if live == "first" else _candidates(request, settings, greedy)
    if (n > 1 or settings.guards or settings.second_check) and request.unjudgeable:
        name = request.unjudgeable[0]
        raise BadRequest(f"{name} is not supported here: {UNJUDGEABLE[name]}", param=name, code="unsupported_parameter")
    max_tokens = _bounded(request.max_tokens, settings.max_tokens_limit, "max_tokens") or settings.max_tokens
    sampling = {key: value for key, value in request.passed_on.items() if key != "max_completion_tokens"}
    if temperature is not None:
        sampling["temperature"] = temperature
    return Plan(
        model=request.model,
        policy=model.policy,
        route=route,
        profile=profile,
        strategy="greedy" if greedy else settings.strategy,
        n=n,
        least=max(min(settings.min_n, n), request.n),
        deliver=request.n,
        tier=tier_of(request.service_tier, caller.tier),
        live=live,
        seed=wishes.seed if wishes.seed is not None else request.seed,
        budget_s=_budget_s(request, settings, request_timeout_s),
        token_limit=_token_limit(request, settings),
        max_tokens=max_tokens,
        max_tokens_given=request.max_tokens is not None,
        return_candidates=wishes.return_candidates,
        comparable=live is None and not (greedy or route.safe_mode) and _comparable(request, settings),
        sampling=sampling,
        streamable=not (
            set(request.unjudgeable) & (_WHOLE if request.endpoint == "chat" and not request.stream else _UNSTREAMABLE)
        ),
    )


# vLLM refuses to stream these; one choice is asked for then, and answered whole.
_UNSTREAMABLE = {"prompt_logprobs", "use_beam_search"}
# What it answers more fully whole: with echo come the log-probabilities of the prompt.
_WHOLE = {*_UNSTREAMABLE, "echo"}


def _comparable(request: ChatRequest, settings: ProfileConfig) -> bool:
    """Whether the client can show two answers; one that wants several choices anyway, or tool calls, is left alone."""
    wish = request.guidance.comparison
    shows = settings.comparison.ask == "all" if wish is None else wish
    return shows and settings.comparison.share > 0 and request.endpoint == "chat" and request.n == 1


def _live(request: ChatRequest, settings: ProfileConfig, greedy: bool) -> Live | None:
    """What is streamed before the answer is whole. A client that wants several choices gets them held."""
    wish = request.guidance.stream_mode
    if wish == "block" and not strategy(settings.strategy).streams:
        raise BadRequest(
            f"guidance.stream_mode: 'block' needs a profile whose strategy chooses blocks; {settings.strategy} chooses "
            "whole answers",
            param="guidance.stream_mode",
            code="unsupported_parameter",
        )
    if wish in ("block", "first") and request.n > 1:
        raise BadRequest(
            f"n: stream mode {wish!r} streams one answer, not {request.n}; use stream mode 'hold'", param="n"
        )
    if wish == "first" and request.guidance.n not in (None, 1):
        raise BadRequest(
            f"guidance.n: stream mode 'first' takes one sample, not {request.guidance.n}; use stream mode 'hold'",
            param="guidance.n",
        )
    mode = wish or settings.stream_mode
    if not request.stream or request.n > 1 or mode == "hold":
        return None
    # There is one candidate at temperature 0, and nothing to choose a block from.
    return "first" if greedy else mode


def _candidates(request: ChatRequest, settings: ProfileConfig, greedy: bool) -> int:
    """Sampled are max(the strategy's n, the client's n), one at temperature 0."""
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


def _budget_s(request: ChatRequest, settings: ProfileConfig, request_timeout_s: float) -> float:
    """The client's budget within the profile's, and the profile's within what any request may take."""
    limit_ms = int(request_timeout_s * 1000)
    if settings.budget_ms is not None:
        limit_ms = min(limit_ms, settings.budget_ms)
    wish = request.guidance.budget.ms if request.guidance.budget else None
    if wish is None:
        return limit_ms / 1000
    if not 1 <= wish <= limit_ms:
        raise BadRequest(
            f"guidance.budget.ms: {wish} is out of bounds; allowed is 1 to {limit_ms}", param="guidance.budget.ms"
        )
    return wish / 1000


def _token_limit(request: ChatRequest, settings: ProfileConfig) -> int | None:
    """The client's budget of tokens within the profile's."""
    wish = request.guidance.budget.tokens if request.guidance.budget else None
    if wish is None:
        return settings.budget_tokens
    if wish < 1 or (settings.budget_tokens is not None and wish > settings.budget_tokens):
        allowed = f"1 to {settings.budget_tokens}" if settings.budget_tokens else "1 or more"
        raise BadRequest(
            f"guidance.budget.tokens: {wish} is out of bounds; allowed is {allowed}", param="guidance.budget.tokens"
        )
    return wish
