"""A turn of the loop as a folder: what was done, what came of it, and why it ended.

    <home>/turns/<number>/turn.json       rewritten after each stage, whole or not at all
    <home>/turns/<number>/<stage>.log     what the stage's command said

A turn that was killed has no `ended`. It, and one that failed, goes on behind its last stage with the same command.
"""

from pathlib import Path
from typing import Any, Literal

import msgspec

from training.data.places import make_folder, write_durably
from training.errors import TrainingError

FORMAT = 1
TURN = "turn.json"

Ending = Literal[
    "released",  # the release is on its way to users
    "created",  # the release waits for somebody to start it
    "registered",  # versions passed, and were not to be released
    "stopped",  # a gate said no; nothing that serves has changed
    "failed",  # a stage could not be done; nothing that serves has changed
    "abandoned",  # an operator began another one
]


class Stage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stage that was done. said: what its command printed as JSON, as far as later stages need it."""

    name: str
    said: dict[str, Any] = {}
    seconds: float = 0.0


class Turn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """settings: of the whole turn, as they were when it began. ended: seconds since 1970."""

    format: int = FORMAT
    number: int
    began: float
    settings: dict[str, Any]
    stages: list[Stage] = []
    ended: float | None = None
    ending: Ending | None = None
    why: str = ""

    def said(self, stage: str) -> dict[str, Any] | None:
        """What a stage came to; None where it was not done."""
        return next((one.said for one in self.stages if one.name == stage), None)

    def after(self, stage: Stage) -> "Turn":
        return msgspec.structs.replace(self, stages=[*self.stages, stage])

    @property
    def unfinished(self) -> bool:
        return self.ended is None or self.ending == "failed"

    def resumed(self) -> "Turn":
        return msgspec.structs.replace(self, ended=None, ending=None, why="")

    def over(self, ending: Ending, why: str, now: float) -> "Turn":
        return msgspec.structs.replace(self, ending=ending, why=why, ended=now)


def turns_of(home: Path) -> Path:
    return home / "turns"


def folder_of(turns: Path, turn: Turn) -> Path:
    return turns / f"{turn.number:04}"


def write_turn(turns: Path, turn: Turn) -> None:
    folder = folder_of(turns, turn)
    make_folder(folder)
    data = msgspec.json.format(msgspec.json.encode(msgspec.to_builtins(turn)), indent=2)
    write_durably(folder / TURN, data + b"\n")


def read_turns(turns: Path) -> list[Turn]:
    """Oldest first. Raises TrainingError where one cannot be read."""
    found = []
    for path in sorted(turns.glob(f"[0-9]*/{TURN}")):
        try:
            turn = msgspec.json.decode(path.read_bytes(), type=Turn)
        except msgspec.DecodeError as error:
            raise TrainingError(f"{path} cannot be read: {error}.") from None
        if turn.format != FORMAT:
            raise TrainingError(f"{path} has format {turn.format}, this Bestow reads {FORMAT}: read it with its own.")
        found.append(turn)
    return sorted(found, key=lambda turn: turn.number)
