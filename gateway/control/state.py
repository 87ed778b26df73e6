"""What operators tune while everything runs: profiles with their history, and scorers beside those of the file.

All of it is one document, so that a profile and the scorers that it names change together or not at all.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gateway.decoding.card import ModelCard
from gateway.shared.document import Document, Versioned
from gateway.shared.note import Note
from scorers.errors import WrongSetting
from scorers.live_settings import fingerprint, parse_scorer
from scorers.scorer_settings import ScorerConfig

Settings = dict[str, Any]


class LiveScorer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A scorer that was added. settings: as the scorer server gets them, their `version` included.

    proven: it has been loaded. before: the proven one that answers until then, and after it where that fails.
    """

    settings: Settings
    note: Note
    proven: bool = False
    before: "LiveScorer | None" = None

    @property
    def number(self) -> int:
        """The N of name@N."""
        return int(self.settings["version"])

    @property
    def print(self) -> str:
        """Equal for equal settings."""
        return fingerprint(self.settings)

    @property
    def answering(self) -> "LiveScorer | None":
        """The version of it that can be asked."""
        return self if self.proven else self.before


class Failure(msgspec.Struct, frozen=True):
    """A version of a scorer that could not be loaded, and why."""

    number: int
    reason: str
    note: Note


class ProfileVersion(msgspec.Struct, frozen=True):
    """settings: what differs from the defaults."""

    number: int
    settings: Settings
    note: Note


class LiveProfile(msgspec.Struct, frozen=True):
    """versions: oldest first, the last is in force. seed: fingerprint of what the file said when it was followed."""

    versions: tuple[ProfileVersion, ...]
    seed: str = ""

    @property
    def current(self) -> ProfileVersion:
        return self.versions[-1]


class ControlState(Versioned, frozen=True, omit_defaults=True):
    """used: by scorer, the last number it had; no version is given twice. failed: what was given up, until it works.

    cards: what was measured, by public model. card_notes: who published it.
    """

    scorers: dict[str, LiveScorer] = msgspec.field(default_factory=dict)
    used: dict[str, int] = msgspec.field(default_factory=dict)
    failed: dict[str, Failure] = msgspec.field(default_factory=dict)
    profiles: dict[str, LiveProfile] = msgspec.field(default_factory=dict)
    cards: dict[str, ModelCard] = msgspec.field(default_factory=dict)
    card_notes: dict[str, Note] = msgspec.field(default_factory=dict)


Decide = Callable[[ControlState], ControlState]

CONTROL = Document("control", "profiles and scorers", ControlState)


def known_scorers(state: ControlState, seeds: Mapping[str, ScorerConfig]) -> dict[str, ScorerConfig]:
    """The scorers that can be asked. seeds: the file's, which win where both have a name."""
    found = {name: read_scorer(name, live.answering) for name, live in state.scorers.items() if live.answering}
    return {name: config for name, config in found.items() if config is not None} | dict(seeds)


def read_scorer(name: str, live: LiveScorer) -> ScorerConfig | None:
    """Its settings; None where this release cannot read them."""
    try:
        return parse_scorer(name, live.settings)
    except WrongSetting:
        return None
