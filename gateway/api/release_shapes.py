"""What the admin API answers about releases: see `shapes`."""

from typing import Annotated, Any, Literal

from gateway.api.admin_shapes import ChangeNote
from gateway.api.protocol import says
from gateway.api.shapes import Strict
from gateway.release.judging import Verdict
from gateway.release.state import Act, Phase


class BundleObject(Strict):
    """What is served together: weights, reward model, and what was calibrated for it."""

    release: Annotated[int, says("Its number in the registry; 0: as the configuration says.")]
    policy: Annotated[str | None, says("name@N, as on receipts; null: as the configuration says.")]
    served_as: Annotated[str | None, says("What the workers know the weights by.")]
    path: Annotated[str | None, says("Of the LoRA adapter, where the workers read it; null: there is none.")]
    reward: Annotated[str | None, says("The scorer that ranks in place of the profile's.")]
    settings: Annotated[dict[str, Any], says("Laid over the profile.")]
    digest: Annotated[str | None, says("Of the release in the registry.")]


class SignalObject(Strict):
    """One signal of a stage. Shares are of users, each of whom counts once."""

    signal: str
    says: Annotated[str, says("A clause with the numbers.")]
    value: Annotated[float | None, says("The challenger's share less the control's.")]
    low: float | None
    high: Annotated[float | None, says("`low` to `high` hold at all times together.")]
    e_value: float | None
    limit: Annotated[float | None, says("From this e-value on it is harm; of thumbs: what `low` must be above.")]
    harm: bool
    ok: Annotated[bool, says("Nothing here keeps it from going on.")]
    challenger: Annotated[list[int], says("How many, of how many.")]
    control: list[int]


class DecisionObject(Strict):
    """What the leader would do now, and why."""

    act: Annotated[Verdict | Literal["reject"], says("`stay`: nothing yet.")]
    why: str


class GroupsObject(Strict):
    """Of the stage that runs, in either group."""

    challenger: int
    control: int


class OutlookObject(Strict):
    """When it could be promoted, if all goes on as it does."""

    votes: int
    needed: int | None
    a_day: float
    days: float | None
    says: str


class ChallengerObject(Strict):
    """A release on its way to the users."""

    bundle: BundleObject
    control: Annotated[BundleObject, says("What the others get meanwhile.")]
    phase: Phase
    stage: Annotated[int | None, says("Of `stages`, from 1 on; null: nobody gets it yet.")]
    stages: list[float]
    share: Annotated[float, says("Of all users, who get it now.")]
    began: int
    stage_began: int | None
    held: Annotated[str | None, says("Why it does not go on.")]
    held_by: Annotated[str | None, says("The operator who alone takes it off; null: it goes by itself.")]
    approvals: list[str]
    approvals_needed: Annotated[int, says("Before it is promoted.")]
    waits_for: Annotated[str | None, says("What workers or scorers still lack.")]
    users: GroupsObject
    interactions: GroupsObject
    decision: Annotated[DecisionObject | None, says("null: what users did cannot be read now.")]
    signals: list[SignalObject]
    outlook: OutlookObject | None
    shadow: Annotated[dict[str, Any] | None, says("How far its reward model agrees with the deciding one.")]


class MoveObject(Strict):
    """What was done, to which release, by whom and why."""

    act: Act
    release: int
    note: ChangeNote
    facts: Annotated[dict[str, Any], says("The figures that it was decided by.")]


class ReleaseObject(Strict):
    """What a model is answered with, what is being tried on it, and what can be rolled back to."""

    object: Literal["release"]
    model: str
    policy: str
    safe_mode: Annotated[ChangeNote | None, says("On: everybody gets the configuration's own; by whom and why.")]
    champion: BundleObject
    challenger: ChallengerObject | None
    previous: Annotated[list[BundleObject], says("What can be rolled back to, newest first.")]
    moves: Annotated[list[MoveObject], says("Newest first.")]


class ReleaseList(Strict):
    """All models."""

    object: Literal["list"]
    safe_mode: ChangeNote | None
    leads: Annotated[bool, says("Whether the gateway that answers is the one that moves releases on.")]
    data: list[ReleaseObject]


class SafeModeObject(Strict):
    """Safe mode: the configuration's own policies and profiles, nothing explored, nothing kept for training."""

    object: Literal["safe_mode"]
    on: bool
    changed: ChangeNote | None
