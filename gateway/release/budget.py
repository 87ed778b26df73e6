"""How the errors of a canary are shared out. Pure.

A challenger that is as good shall be rolled back with a probability of at most alpha: over all stages, all signals and
all times at which anybody looks. Each stage and signal gets a part, and the parts add up to alpha (the union bound, so
it does not matter how signals hang together; within a stage a weighted mean of e-values does a little better than
that, see `reading`). A part costs little, since a threshold grows with the logarithm of 1 /
part. Later stages get more, as (1, 2, ..., the watch); thumbs get the most where tastes are compared.
"""

from gateway.release.counts import Signal
from gateway.release.settings import ReleaseConfig
from gateway.release.state import Canary

THUMBS = "thumbs"
THUMBS_PART = 0.4

# What is wrong at any number of users, and what needs more of them to be told from tastes.
OPERATIONS: tuple[Signal, ...] = ("error", "unsafe", "complaint")
OPINIONS: tuple[Signal, ...] = ("regenerated", "up")
# Of these, harm is that fewer users have them.
FEWER: frozenset[Signal] = frozenset({"up"})


def compares(config: ReleaseConfig, canary: Canary) -> bool:
    """Whether the stage has users enough to tell tastes, not operations alone."""
    if canary.phase == "watch":
        return True
    return config.stages[min(canary.stage, len(config.stages) - 1)] >= config.compare_from


def is_last(config: ReleaseConfig, canary: Canary) -> bool:
    """Whether a promotion follows the stage: the one before the last, where all but the hold-back group get it."""
    return canary.stage >= len(config.stages) - 2


def signals(config: ReleaseConfig, canary: Canary) -> tuple[Signal, ...]:
    """Whose first events a stage watches for harm."""
    slow: tuple[Signal, ...] = ("slow",) if config.slow_ms is not None else ()
    return (*OPERATIONS, *slow, *(OPINIONS if compares(config, canary) else ()))


def stage_part(config: ReleaseConfig, canary: Canary) -> float:
    """The stage's part of alpha. All stages' parts, with the watch as the last, add up to 1."""
    looked_at = max(len(config.stages), 2)
    place = looked_at if canary.phase == "watch" else min(canary.stage + 1, looked_at - 1)
    return place / (looked_at * (looked_at + 1) / 2)


def alphas(config: ReleaseConfig, canary: Canary) -> dict[str, float]:
    """By signal, and for `thumbs` where tastes are compared: how often a stage may take it for harm by mistake."""
    here = config.alpha * stage_part(config, canary)
    watched = signals(config, canary)
    thumbs = THUMBS_PART if compares(config, canary) else 0.0
    parts: dict[str, float] = {signal: here * (1.0 - thumbs) / len(watched) for signal in watched}
    return {THUMBS: here * thumbs, **parts} if thumbs else parts
