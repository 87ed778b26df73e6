"""Where a run is, as it says itself."""

from collections.abc import Callable
from pathlib import Path

import msgspec


class Step(msgspec.Struct, frozen=True):
    """A step that was done. seconds: since this attempt began. to_go: seconds, or None where it is not known yet."""

    step: int
    steps: int
    loss: float
    seconds: float
    to_go: float | None


Progress = Callable[[Step], None]


def appending(path: Path) -> Progress:
    """Writes each step as a line, for whoever follows the job."""

    def append(step: Step) -> None:
        with path.open("ab") as opened:
            opened.write(msgspec.json.encode(step) + b"\n")

    return append
