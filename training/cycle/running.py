"""A turn from its beginning, or from where it was stopped, to its end."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from training.cycle.child import Answer
from training.cycle.settings import CycleSettings
from training.cycle.stages import Step, refusal, steps
from training.cycle.turn import Ending, Stage, Turn, folder_of, read_turns, turns_of, write_turn
from training.data.places import make_folder
from training.errors import TrainingError

_ENDINGS: dict[str, Ending] = {"canary": "released", "create": "created", "none": "registered"}


class Do(Protocol):
    """Gives a command behind `bestow`; see `child.run_bestow`."""

    def __call__(self, arguments: list[str], log: Path) -> Answer: ...


Tell = Callable[[str], None]


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """One turn at a time in a home. Raises TrainingError."""
    turns = turns_of(home)
    make_folder(turns)
    with (turns / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrainingError(
                f"A turn is running already ({turns}): wait for it, or look at what it says in its logs."
            ) from None
        yield


def begun(home: Path, settings: CycleSettings, now: float, *, anew: bool = False) -> Turn:
    """The turn to go on with, else a new one. anew: give up one that was interrupted or failed.

    Raises TrainingError where there is one of those with other settings.
    """
    turns = turns_of(home)
    before = read_turns(turns)
    wanted = settings.model_dump(mode="json")
    last = before[-1] if before else None
    if last is not None and last.unfinished:
        if last.settings == wanted and not anew:
            return last.resumed()
        if not anew:
            raise TrainingError(
                f"Turn {last.number} was not finished, and had other settings: give it those to go on, or begin "
                "another one with --anew."
            )
        write_turn(turns, last.over("abandoned", "another one was begun", now))
    turn = Turn(number=last.number + 1 if last else 1, began=now, settings=wanted)
    write_turn(turns, turn)
    return turn


def run_turn(
    home: Path,
    turn: Turn,
    do: Do,
    arguments: list[str],
    tell: Tell,
    still_mine: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.time,
) -> Turn:
    """Each stage behind the last that was done. arguments: behind every command, such as --config FILE.

    still_mine: raises where another scheduler has taken over. The turn is over when this returns; what ends it early is
    in `ending` and `why`, and nothing that serves has changed then.
    """
    turns = turns_of(home)
    settings = CycleSettings.model_validate(turn.settings)
    todo = steps(settings)
    for number, step in enumerate(todo, 1):
        if turn.said(step.name) is not None:
            continue
        still_mine()
        tell(f"{number}/{len(todo)}  {step.about}")
        start = clock()
        command = [*step.command(settings, turn), *arguments]
        answer = do(command, folder_of(turns, turn) / f"{step.name.replace(' ', '-')}.log")
        if over := _ended_by(step, answer):
            turn = turn.over(*over, clock())
            write_turn(turns, turn)
            return turn
        said = answer.said or {}
        kept = {key: said[key] for key in step.kept if key in said}
        turn = turn.after(Stage(step.name, kept, round(clock() - start, 1)))
        write_turn(turns, turn)
    turn = turn.over(_ENDINGS[settings.release], _last_words(turn), clock())
    write_turn(turns, turn)
    return turn


def _ended_by(step: Step, answer: Answer) -> tuple[Ending, str] | None:
    """Whether the turn ends here, and how."""
    if answer.code == 0 and answer.said is not None and all(key in answer.said for key in step.kept):
        return None
    if step.gate and answer.code == 1 and answer.said is not None:
        return "stopped", f"{step.name}: {refusal(answer.said)}"
    why = f"{step.name}: {answer.words or f'its command ended with exit code {answer.code}'}"
    # The release is there: whoever is on the way to users already, or a gateway that is away, does not undo that.
    return ("created" if step.name == "start" else "failed"), why


def _last_words(turn: Turn) -> str:
    made = [str(said["ref"]) for stage in ("reward", "policy") if (said := turn.said(stage))]
    number = (turn.said("create") or {}).get("number")
    what = " and ".join(made) or "nothing new"
    return f"release {number}: {what}" if number is not None else what
