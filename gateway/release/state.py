"""What is released to whom, all of it at one version, shared by all gateways: champion, challenger, hold-back, moves.

    Bundle         a release as gateways serve it: an adapter (or the alias of full weights), and a scorer
    ModelRelease   of one public model: who serves it, who is being tried, what can be rolled back to, and every move

A gateway reads it to route (`routes.py`); the leader alone moves canaries on (`controller.py`), and operators may at
any time. `fence` keeps a leader that has lost its lock from writing.
"""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from gateway.shared.document import Document, Versioned
from gateway.shared.note import Note

MOVES_KEPT = 200
PREVIOUS_KEPT = 5

Arm = Literal["challenger", "control"]

Phase = Literal[
    "preparing",  # its scorer and its weights are being brought to every worker; nobody gets it
    "shadow",  # its reward model scores beside the one that decides; nobody gets it
    "canary",  # the stage's share of users gets it
    "watch",  # it is the champion; the hold-back group still has the one before
]

Act = Literal[
    "submitted",
    "prepared",
    "rejected",
    "shadowed",
    "stage",
    "held",
    "resumed",
    "promoted",
    "rolled back",
    "expired",
    "vetoed",
    "approved",
    "watched",
    "safe mode on",
    "safe mode off",
]


class Bundle(msgspec.Struct, frozen=True, omit_defaults=True):
    """release: its number in the registry; 0: what the configuration says. policy: name@N, as on receipts.

    served_as: the name that workers know it by, an adapter's or an alias of full weights, always `name-vN`; None: the
    policy's own weights. path: of the LoRA adapter, where workers read it; None with an alias.
    reward: the scorer that ranks in place of the profile's; None: the profile's own. scorer: its settings, as the
    scorer server gets them. settings: laid over the profile: what was calibrated for this reward model.
    digest: of the release in the registry.
    """

    release: int = 0
    policy: str = ""
    served_as: str | None = None
    path: str | None = None
    reward: str | None = None
    scorer: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    digest: str = ""


class Canary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A challenger on its way. salt: of the hash that says which users get it. stage: an index into the stages.

    began, stage_began: seconds since 1970; began: when the first users got it, before that when it was submitted.
    held: why it does not go on by itself. held_by: the operator who wants that, and who alone takes it off; empty: the
    leader. approvals: who wants it promoted. control: what the others get meanwhile.
    """

    bundle: Bundle
    control: Bundle
    salt: str
    phase: Phase
    began: float
    stage: int = 0
    stage_began: float = 0.0
    held: str = ""
    held_by: str = ""
    approvals: tuple[str, ...] = ()


class Move(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was done, to which release, by whom and why. facts: the figures that it was decided by."""

    act: Act
    release: int
    note: Note
    facts: dict[str, Any] = {}


class ModelRelease(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """previous: what can be rolled back to, newest first. moves: oldest first."""

    champion: Bundle = Bundle()
    canary: Canary | None = None
    previous: tuple[Bundle, ...] = ()
    moves: tuple[Move, ...] = ()


class ReleaseState(Versioned, frozen=True, omit_defaults=True):
    """models: by public name. safe_mode: base policies, no exploring, nothing for training; who wanted it and why.

    fence: the highest token of a leader that wrote.
    """

    models: dict[str, ModelRelease] = msgspec.field(default_factory=dict)
    safe_mode: Note | None = None
    fence: int = 0

    def of(self, model: str) -> ModelRelease:
        return self.models.get(model) or ModelRelease()


Decide = Callable[[ReleaseState], ReleaseState]

RELEASES = Document("release", "releases", ReleaseState)
