"""What a snapshot is made of: what is joined, and the rows that come of it. No model library, no Parquet.

    Joined (an interaction and what people said of it) -> Rows: TRL's columns, and beside each row its sidecar

A message is {"role", "content"}, both text, as TRL and the chat templates take them; what is not text is left out of
the datasets and counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from gateway.log.records import Feedback, Interaction

Message = dict[str, str]

Dataset = Literal["preference", "unpaired", "prompt", "demonstration", "best_of_n"]
DATASETS: tuple[Dataset, ...] = ("preference", "unpaired", "prompt", "demonstration", "best_of_n")

Split = Literal["train", "calibration", "test", "holdout"]
"""holdout: for a reward model that no policy is ever trained or selected against."""
SPLITS: tuple[Split, ...] = ("train", "calibration", "test", "holdout")

Quadrant = Literal["good-good", "good-bad", "bad-bad"]

Source = Literal[
    "thumbs",
    "rating",
    "preference",  # one candidate over another, as the API takes it
    "comparison",  # two answers were shown side by side
    "flag",
    "correction",
    "best_of_n",  # no person: the reward model's order
    "prompt",  # no person: what was asked
    "curated",
    "ai_preference",  # a judge with a constitution; never counted as people
    "ai_revision",
]


@dataclass(frozen=True, slots=True)
class Weighed:
    """A vote that stands and is not set aside. weight: 0 to 1, from `gateway.feedback.trust` and the defence."""

    vote: Feedback
    weight: float


@dataclass(frozen=True, slots=True)
class Joined:
    """An interaction whose training scope allows it, with the votes on it whose scope does too, oldest first."""

    interaction: Interaction
    votes: tuple[Weighed, ...] = ()


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """The sidecar of a row: where it comes from and what it may be used for.

    id: of the row, the same whenever it is made again. interactions: whose texts or votes are in it. people: the hashed
    users (of its prompts and of its votes) who may ask for it to be erased.
    user: who said it; None for nobody known, and where no person did. weight: 0 to 1.
    quadrant: how good both answers of a pair were called. strength: as the person said it, 1 to 4 (preference), 0.5 to
    3.5 (rating: distance from 4.5), None for others.
    propensity: that the delivered answer was delivered (with a comparison: that these two were shown); None if unknown.
    prompt: digest of the conversation. cluster: of prompts that are nearly the same. strict: its user and its cluster
    are both of this split; otherwise it has the more held-out split of the two.
    for_policy: a policy may be trained on it; never where the better answer was called bad.
    policy, reward_model, profile: name@N, as logged.
    """

    id: str
    interactions: list[str]
    source: Source
    split: Split
    prompt: str
    cluster: str
    people: list[str] = []
    user: str | None = None
    tenant: str = "default"
    weight: float = 1.0
    quadrant: Quadrant | None = None
    strength: float | None = None
    propensity: float | None = None
    strict: bool = True
    for_policy: bool = True
    policy: str | None = None
    reward_model: str | None = None
    profile: str | None = None
    created: float | None = None


class Preference(msgspec.Struct, frozen=True, kw_only=True):
    """TRL's preference format. margin: 0 to 1, on every row (TRL looks at the first row alone)."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    margin: float
    side: Side


class Unpaired(msgspec.Struct, frozen=True, kw_only=True):
    """TRL's unpaired preference format. label: thumbs up."""

    prompt: list[Message]
    completion: list[Message]
    label: bool
    side: Side


class PromptOnly(msgspec.Struct, frozen=True, kw_only=True):
    """TRL's prompt-only format. reference: the expected answer, where the request gave one; for verifiers."""

    prompt: list[Message]
    side: Side
    reference: str | None = None


class Demonstration(msgspec.Struct, frozen=True, kw_only=True):
    """TRL's prompt-completion format."""

    prompt: list[Message]
    completion: list[Message]
    side: Side


class BestOfN(msgspec.Struct, frozen=True, kw_only=True):
    """All scored, safe, whole candidates of a request, best first. For rejection sampling: take the first few.

    rewards: raw, of side.reward_model.
    """

    prompt: list[Message]
    completions: list[list[Message]]
    rewards: list[float]
    side: Side


Row = Preference | Unpaired | PromptOnly | Demonstration | BestOfN


@dataclass
class Rows:
    """What comes of the interactions with one prompt. skipped: why the others gave none, and how many."""

    preference: list[Preference] = field(default_factory=list)
    unpaired: list[Unpaired] = field(default_factory=list)
    prompt: list[PromptOnly] = field(default_factory=list)
    demonstration: list[Demonstration] = field(default_factory=list)
    best_of_n: list[BestOfN] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)

    def of(self, dataset: Dataset) -> Sequence[Row]:
        rows: Sequence[Row] = getattr(self, dataset)
        return rows
