"""Whether a new reward model has read along for long enough, and can be asked: pure.

It shadow-scores what the old one decides (`control/shadow.py`), for `release.shadow_hours` and at least
`release.min_users` requests. One that gives no score to many of the candidates would leave their requests degraded, so
it goes; how far it agrees with the old one is shown and decides nothing, since a better one shall disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.control.agreement import Agreement
from gateway.control.shadow_sums import Pair
from gateway.release.settings import ReleaseConfig
from gateway.release.state import Bundle, Canary

MOST_FAILURES = 0.02


@dataclass(frozen=True, slots=True)
class Shadowed:
    """act: what becomes of the challenger. why: a sentence. facts: the figures."""

    act: Literal["stay", "next", "reject"]
    why: str
    facts: dict[str, Any]


def reads_along(bundle: Bundle, control: Bundle, settings: ReleaseConfig) -> bool:
    """Whether its reward model is a new one, which scores beside the old before anybody gets its choice."""
    new = bundle.reward is not None and (bundle.reward, bundle.scorer) != (control.reward, control.scorer)
    return new and settings.shadow_hours > 0


def judge_shadow(settings: ReleaseConfig, canary: Canary, sums: Mapping[Pair, Agreement], now: float) -> Shadowed:
    """sums: of the challenger's scorer alone."""
    total = sum(sums.values(), Agreement())
    facts = {"scorer": canary.bundle.reward, **total.figures()}
    hours = (now - canary.stage_began) / 3600
    if total.requests >= settings.min_users and total.failures > MOST_FAILURES * total.candidates:
        return Shadowed(
            "reject",
            f"its reward model gave no score to {total.failures} of {total.candidates} candidates, more than "
            f"{MOST_FAILURES:.0%}",
            facts,
        )
    if hours < settings.shadow_hours:
        return Shadowed("stay", f"its reward model reads along for {settings.shadow_hours - hours:.1f} h yet", facts)
    if total.requests < settings.min_users:
        return Shadowed(
            "stay", f"its reward model has read along in {total.requests} requests; {settings.min_users} needed", facts
        )
    return Shadowed("next", f"its reward model has read along in {total.requests} requests", facts)
