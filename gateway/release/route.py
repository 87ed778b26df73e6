"""Which release answers a user: a pure choice, made once a request and kept to its end."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from gateway.control.profiles import Profile
from gateway.log.records import ReleaseRecord
from gateway.release.assignment import arm_of, group_of
from gateway.release.settings import ReleaseConfig
from gateway.release.state import Arm, Bundle, Canary, ModelRelease

RELEASE_UNAVAILABLE = "release_unavailable"
# What the configuration says.
OWN = Bundle()
_NOTHING = ReleaseRecord()


def unit_of(tenant: str, user: str | None) -> str | None:
    """Who is one person to a canary: a user of a tenant. user: the keyed hash, as it is logged; None: nobody knows."""
    return None if user is None else f"{tenant}/{user}"


def name_of(canary: Canary) -> str:
    """What tells a canary from others, also of the same release: each has a salt of its own, which is not told."""
    return blake2b(canary.salt.encode(), digest_size=6, person=b"canary").hexdigest()


def period_of(canary: Canary) -> str:
    """What is analysed apart: a stage, or the watch after the promotion."""
    return "watch" if canary.phase == "watch" else str(canary.stage)


def as_it_is(profile: Profile) -> Profile:
    return profile


@dataclass(frozen=True, slots=True)
class Choice:
    """Which bundle answers a user. canary: the one in which they have an arm. counted: the period counts them.

    fallback: they should have got another bundle, which cannot be had.
    """

    bundle: Bundle
    canary: Canary | None = None
    arm: Arm | None = None
    counted: bool = False
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers a request.

    served_as: the name that workers know the weights by; None: the policy's own. policy_version: for receipts and log.
    record: what the log keeps of it. overlay: from a profile to what holds of it with the release's reward model.
    """

    served_as: str | None
    policy_version: str
    record: ReleaseRecord = _NOTHING
    overlay: Callable[[Profile], Profile] = field(default=as_it_is, compare=False)

    @property
    def release(self) -> int:
        """Its number; 0: the configuration's own, or no release at all."""
        return self.record.number

    @property
    def safe_mode(self) -> bool:
        return self.record.safe_mode

    @property
    def fallback(self) -> bool:
        return self.record.fallback


def choose(released: ModelRelease, config: ReleaseConfig, user: str | None, can: Callable[[Bundle], bool]) -> Choice:
    """Who answers this user (`unit_of`). can: whether a bundle is to be had here.

    Where nothing is to be had it is the user's own all the same: that is an error, and no other release's.
    """
    canary = released.canary
    arm = arm_of(canary, config, user) if canary else None
    wanted = Choice(released.champion)
    if canary is not None and arm is not None:
        counted = group_of(canary, config, user) is not None
        wanted = Choice(canary.bundle if arm == "challenger" else canary.control, canary, arm, counted)
    if can(wanted.bundle):
        return wanted
    instead = next((one for one in _others(released) if one != wanted.bundle and can(one)), None)
    return wanted if instead is None else Choice(instead, fallback=True)


def _others(released: ModelRelease) -> Iterator[Bundle]:
    """What has served before or serves others, the nearest first; never a challenger that nobody has found good."""
    if released.canary is not None:
        yield released.canary.control
    yield released.champion
    yield from released.previous
    yield OWN


def record_of(choice: Choice) -> ReleaseRecord:
    canary = choice.canary
    if canary is None:
        return ReleaseRecord(choice.bundle.release, fallback=choice.fallback)
    return ReleaseRecord(
        choice.bundle.release,
        arm=choice.arm,
        stage=canary.stage,
        canary=name_of(canary),
        period=period_of(canary),
        counted=choice.counted,
    )


def shadow_of(released: ModelRelease) -> str | None:
    """The reward model that scores beside the one that decides."""
    canary = released.canary
    return canary.bundle.reward if canary is not None and canary.phase == "shadow" else None
