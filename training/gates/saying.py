"""From a bound and a limit to a verdict with its sentence. Pure."""

from collections.abc import Callable
from typing import Any, Literal

from training.gates.bounds import Bound
from training.gates.verdicts import Gate, Outcome, Verdict

Number = Callable[[float], str]
Side = Literal["below", "above"]


def percent(value: float) -> str:
    return f"{value:.1%}"


def points(value: float) -> str:
    """A difference of shares."""
    return f"{100 * value:+.2f} pp"


def plain(value: float) -> str:
    return f"{value:.3f}"


def held(
    gate: Gate,
    check: str,
    bound: Bound,
    side: Side,
    limit: float,
    alpha: float,
    *,
    margin: float,
    what: str,
    of: str,
    tell: Number = percent,
    facts: dict[str, Any] | None = None,
) -> Verdict:
    """below: passes where the upper bound is below the limit; above: where the lower one is above it.

    margin: the distance from the limit that the data should tell. what: was measured, as a sentence begins. of: units.
    """
    below, above = bound.high < limit, bound.low > limit
    passed, wrong = (below, above) if side == "below" else (above, below)
    resolves, needed = bound.resolves(alpha), bound.needed(alpha, margin)
    outcome: Outcome = "pass" if passed else "fail" if wrong or resolves <= margin else "unmeasured"
    ends = {
        "pass": f"which is {side} {tell(limit)}",
        "fail": f"which {'is not' if wrong else 'was not shown to be'} {side} {tell(limit)}",
        "unmeasured": f"which may be {side} {tell(limit)} or not: so much data tells {tell(resolves)}, and "
        f"{tell(margin)} is asked for",
    }
    reason = (
        f"{what} is {tell(bound.value)} ({tell(bound.low)} to {tell(bound.high)}, {bound.units:,} {of}), "
        f"{ends[outcome]}."
    )
    if outcome == "unmeasured":
        reason = f"Unmeasured: {needed:,} {of} needed. {reason}" if needed else f"Unmeasured. {reason}"
    return Verdict(
        gate=gate,
        check=check,
        outcome=outcome,
        reason=reason,
        value=bound.value,
        low=bound.low,
        high=bound.high,
        limit=limit,
        n=bound.units,
        resolves=resolves,
        needed=needed,
        alpha=alpha,
        facts=facts or {},
    )


def counted(
    gate: Gate, check: str, value: float, limit: float, *, n: int, reason: str, facts: dict[str, Any] | None = None
) -> Verdict:
    """Of what is known without error: passes where the value is at most the limit."""
    return Verdict(
        gate=gate,
        check=check,
        outcome="pass" if value <= limit else "fail",
        reason=reason,
        value=value,
        low=value,
        high=value,
        limit=limit,
        n=n,
        facts=facts or {},
    )


def unmeasured(gate: Gate, check: str, why: str, *, needed: int | None = None, n: int = 0) -> Verdict:
    """why: a sentence that says what to do."""
    told = f"Unmeasured: {needed:,} needed. {why}" if needed else f"Unmeasured. {why}"
    return Verdict(gate=gate, check=check, outcome="unmeasured", reason=told, needed=needed, n=n)
