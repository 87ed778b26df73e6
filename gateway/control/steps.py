"""What brings a scorer server to what was decided, and what was decided to what the server found out. Pure.

Every gateway takes these steps every few seconds, and taking one twice changes nothing. A gateway that knows an older
document does no lasting harm: the numbers of a scorer's versions only grow, so it leaves alone what is newer than it
knows.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.control.state import ControlState, LiveScorer, Settings
from scorers.contract import ScorerStatus


@dataclass(frozen=True, slots=True)
class Put:
    """Have it loaded. again: it failed before."""

    name: str
    settings: Settings
    again: bool = False


@dataclass(frozen=True, slots=True)
class Remove:
    name: str


@dataclass(frozen=True, slots=True)
class Prove:
    """The server has loaded it."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The server cannot load it, and never could."""

    name: str
    number: int
    reason: str


Step = Put | Remove | Prove | GiveUp


def steps(state: ControlState, added: Iterable[ScorerStatus], *, old: bool) -> list[Step]:
    """In the order in which they are taken: ensembles go before their members, and come after them.

    added: what the server says of those that were added to it. old: Redis is away, so the document may be; nothing is
    removed by it.
    """
    there = {status.id: status for status in added}
    gone: list[Step] = []
    if not old:
        gone = [Remove(name) for name, status in there.items() if name not in state.scorers and _is_past(status, state)]
    wanted = sorted(state.scorers.items(), key=lambda item: _is_ensemble(item[1]))
    # Ensembles were added after their members.
    return [*reversed(gone), *(step for name, live in wanted if (step := _towards(name, live, there.get(name))))]


def number_of(version: str) -> int:
    """The N of name@N; 0 where it is none."""
    number = version.rpartition("@")[2]
    return int(number) if number.isdecimal() else 0


def _towards(name: str, live: LiveScorer, status: ScorerStatus | None) -> Step | None:
    if status is None:
        return Put(name, live.settings)
    if status.settings != live.print:
        lost = status.state == "failed" and not status.serving
        return Put(name, live.settings) if number_of(status.version) <= live.number or lost else None
    if status.state == "failed":
        return Put(name, live.settings, again=True) if live.proven else GiveUp(name, live.number, status.reason)
    if status.state == "ready" and not live.proven:
        return Prove(name, live.number)
    return None


def _is_past(status: ScorerStatus, state: ControlState) -> bool:
    return number_of(status.version) <= state.used.get(status.id, 0)


def _is_ensemble(live: LiveScorer) -> bool:
    return live.settings.get("kind") == "ensemble"
