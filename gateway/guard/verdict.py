"""From safety classifiers' probabilities to a verdict: pure.

A category at or over its threshold has an action: refuse and block keep the text back (they differ in what the client
is told), flag lets it out and is noted. Categories of the same name, of several guards, are one category: its
probability is the largest, and each guard's is held against that guard's own threshold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from gateway.log.records import Verdict
from gateway.profile_settings import Action
from scorers.contract import Score

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rules:
    """A profile's thresholds and actions: general ones, and those of single categories over them.

    The keys of the two mappings are `category`, or `guard:category` for what one guard says, which comes first.
    """

    threshold: float
    thresholds: Mapping[str, float] = field(default_factory=dict)
    action: Action = "refuse"
    actions: Mapping[str, Action] = field(default_factory=dict)

    def threshold_of(self, guard: str, category: str) -> float:
        """The probability at which the category flags a text."""
        return _narrowest(self.thresholds, guard, category, self.threshold)

    def action_of(self, guard: str, category: str) -> Action:
        """What becomes of a text that it flags."""
        return _narrowest(self.actions, guard, category, self.action)


def verdict_of(score: Score, rules: Rules, guard: str) -> Verdict:
    """One guard's verdict on one text. A score without categories is a guard that did not answer, never a pass."""
    if score.error is not None:
        return Verdict(error=score.error, unreadable=score.unreadable)
    if not score.categories:
        return Verdict(error="the safety classifier gave no categories")
    flagged: list[str] = []
    blocked: list[str] = []
    noted: list[str] = []
    for name, probability in score.categories.items():
        if probability >= rules.threshold_of(guard, name):
            action = rules.action_of(guard, name)
            (noted if action == "flag" else flagged).append(name)
            if action == "block":
                blocked.append(name)
    return Verdict(categories=score.categories, flagged=flagged, blocked=blocked, noted=noted)


def _narrowest(single: Mapping[str, T], guard: str, category: str, general: T) -> T:
    return single.get(f"{guard}:{category}", single.get(category, general)) if single else general


def nearness(verdict: Verdict, rules: Rules, guard: str) -> float:
    """The largest share of its threshold that a category's probability is; 1 and more flags. 0 without categories.

    guard: whose verdict it is, where it is that of one alone.
    """
    guards = {version.partition("@")[0]: found for version, found in verdict.guards.items()}
    guards = guards or {guard: verdict.categories}
    return max(
        (
            probability / rules.threshold_of(guard, name)
            for guard, categories in guards.items()
            for name, probability in categories.items()
        ),
        default=0.0,
    )


def by_guard(verdict: Verdict, version: str) -> Verdict:
    """The verdict with its guard's name, as it is kept where there are several."""
    return msgspec.structs.replace(verdict, guards={version: verdict.categories}) if verdict.categories else verdict


def merged(before: Verdict | None, after: Verdict) -> Verdict:
    """One verdict of two, by two guards or on two stretches of a text.

    Each category's larger probability; flags and errors of both.
    """
    if before is None:
        return after
    guards = {**before.guards}
    for version, categories in after.guards.items():
        guards[version] = _larger(guards.get(version, {}), categories)
    return Verdict(
        categories=_larger(before.categories, after.categories),
        flagged=_union(before.flagged, after.flagged),
        blocked=_union(before.blocked, after.blocked),
        noted=_union(before.noted, after.noted),
        guards=guards,
        error=before.error or after.error,
        unreadable=before.unreadable or after.unreadable,
    )


def _larger(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {**before, **{name: max(value, before.get(name, 0.0)) for name, value in after.items()}}


def _union(before: list[str], after: list[str]) -> list[str]:
    return list(dict.fromkeys([*before, *after]))
