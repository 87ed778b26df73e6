"""Who gets a challenger, and who is compared with whom. Pure: any gateway says the same of the same user.

    bucket(salt, user) in [0, 1): a keyed hash, uniform and stable; another salt draws anew

    0        share before     share of the stage              1 - hold_back        1
    |  challenger  |  challenger  |            control             |  hold-back: control always
    |  not counted |   compared   |            compared            |

Stages are nested: whoever has the challenger keeps it until the canary ends. Those who had it in an earlier stage are
not counted again, for three reasons. Whether the earlier stage went well, and when it ended, depended on which of them
had drawn it, while among all others the draw says nothing of that yet: so a stage's group is a fresh draw whatever
went before, and the stages' errors add up exactly. Who comes for the first time is not changed by what a challenger
has done to him: so the ratio of the groups is known. And nobody's earlier answers carry over.

All others are the control group, not a mirror of the challenger's size: the variance of a difference is
p q (1 / n1 + 1 / n0), least where everybody is counted.
"""

from hashlib import blake2b

from gateway.release.settings import ReleaseConfig
from gateway.release.state import Arm, Canary

# As many as a float's mantissa has: the quotient is exact, and never rounds to 1.
_BITS = 53


def bucket(salt: str, user: str) -> float:
    """Where a user lies in [0, 1): uniform over users, the same each time, independent of the one by another salt."""
    key = blake2b(salt.encode(), digest_size=32).digest()
    digest = blake2b(user.encode(), key=key, digest_size=8).digest()
    return (int.from_bytes(digest) >> (64 - _BITS)) / (1 << _BITS)


def arm_of(canary: Canary, config: ReleaseConfig, user: str | None) -> Arm | None:
    """What a user gets; None: no part of it (nobody known, or nobody gets the challenger yet)."""
    if user is None or canary.phase not in ("canary", "watch"):
        return None
    return "challenger" if bucket(canary.salt, user) < reach(canary, config) else "control"


def group_of(canary: Canary, config: ReleaseConfig, user: str | None) -> Arm | None:
    """The group in which the stage counts a user; None: in neither, also those who had the challenger before it."""
    arm = arm_of(canary, config, user)
    if arm == "challenger" and user is not None and bucket(canary.salt, user) < reached_before(canary, config):
        return None
    return arm


def reach(canary: Canary, config: ReleaseConfig) -> float:
    """The share of users that get the challenger; 0 before the first stage."""
    if canary.phase == "watch":
        return 1.0 - config.hold_back
    return _share(config, canary.stage) if canary.phase == "canary" else 0.0


def reached_before(canary: Canary, config: ReleaseConfig) -> float:
    """The share that had it in the stage before. 0 where this stage adds nobody: then all are counted once more."""
    before = _share(config, canary.stage - 1) if canary.stage > 0 else 0.0
    return before if before < reach(canary, config) else 0.0


def challenger_share(canary: Canary, config: ReleaseConfig) -> float:
    """Which share of the users that a stage counts have the challenger, if the hash alone decides. 1: no control."""
    before = reached_before(canary, config)
    return (reach(canary, config) - before) / (1.0 - before)


def _share(config: ReleaseConfig, stage: int) -> float:
    """Of a stage; one that the settings no longer have is the last."""
    return min(config.stages[min(stage, len(config.stages) - 1)], 1.0 - config.hold_back)
