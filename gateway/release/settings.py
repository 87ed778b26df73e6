"""How a new version reaches users, and what stops it."""

from pydantic import Field, field_validator

from gateway.feedback.settings import Receiver
from scorers.settings import Section


class ReleaseConfig(Section):
    """The canary. Error rates are of the whole canary, over all its stages and signals together."""

    stages: list[float] = Field(
        [0.01, 0.05, 0.25, 1.0],
        min_length=1,
        max_length=10,
        description="Shares of users that get a challenger, one stage after the other; the last is all but hold_back.",
    )
    hold_back: float = Field(
        0.05, ge=0, le=0.5, description="Share of users that keep the version before, to compare with."
    )
    alpha: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Chance that a challenger which is as good is rolled back, or a worse one promoted.",
    )
    margin: float = Field(
        0.02, gt=0, lt=1, description="How much worse a challenger's share of thumbs up may be and still be promoted."
    )
    compare_from: float = Field(
        0.25, gt=0, le=1, description="Stages below this share check operations alone: too few users to tell tastes."
    )
    min_users: int = Field(50, ge=1, description="Users in either group before a stage ends.")
    min_votes: int = Field(200, ge=2, description="First votes in either group before a challenger is promoted.")
    min_hours: float = Field(24.0, ge=0, description="Shortest time of a stage: a day has its hours.")
    min_days: float = Field(3.0, ge=0, description="Shortest time from the first user to the promotion.")
    expire_days: float = Field(
        21.0, gt=0, description="A challenger that could not show by then that it is as good goes away."
    )
    watch_days: float = Field(
        7.0, gt=0, description="How long a promoted challenger is watched against the hold-back group."
    )
    shadow_hours: float = Field(
        1.0, ge=0, description="How long a new reward model scores beside the old one before anybody gets its choice."
    )
    slow_ms: float | None = Field(None, gt=0, description="Answers that take longer count as slow; empty: not watched.")
    two_person: bool = Field(
        False, description="A promotion waits for two operators who approve it (bestow release promote)."
    )
    poll_s: float = Field(1.0, gt=0, description="How often the leader looks at what came in.")
    webhooks: list[Receiver] = Field([], description="Who is told of each move: promoted, rolled back, held, ...")

    @field_validator("stages")
    @classmethod
    def _rising(cls, stages: list[float]) -> list[float]:
        if sorted(set(stages)) != stages or not all(0 < share <= 1 for share in stages):
            raise ValueError("shares must rise, each over 0 and at most 1")
        return stages
