"""`bestow train schedule`: a turn whenever one is due, by one scheduler among all that are started."""

import asyncio
import contextlib
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.launch.process import Child
from gateway.log.source import ConfigOption, Source, run, source_of
from gateway.release.leader import Leader
from training.cycle.cycle_command import SettingsOption, config_arguments, told, whole
from training.cycle.due import Due, counted_from, due
from training.cycle.feedback import feedback_since
from training.cycle.settings import CycleSettings
from training.cycle.turn import read_turns, turns_of
from training.data.places import home_of, make_folder

LOCK = "training"
# A turn goes on for so long after its scheduler has died, before another one may begin.
_HOLD_S = 30.0
_LOOK_S = 60.0
_STILL_MINE_S = 1.0
_GRACE_S = 20.0


def schedule(
    settings: SettingsOption = None,
    once: Annotated[bool, typer.Option("--once", help="Do what is due now, and end.")] = False,
    config: ConfigOption = None,
) -> None:
    """Begin a turn (bestow train cycle) whenever one is due: by time and by the amount of new feedback.

    \b
    Of several schedulers, on any machines, one leads, by a lock in Redis; the others wait to take over. A turn that
    fails changes nothing that serves; it is kept with its reason (bestow train turns) and tried again. Example:
      bestow train schedule --settings cycle.yaml         runs until it is stopped
      bestow train schedule --settings cycle.yaml --once  for a CronJob: a turn, if one is due
    """
    source = source_of(config, None, None)
    assert source.settings is not None
    wanted = whole(settings, source.settings)
    home = home_of(source.settings)
    command = ["train", "cycle", *(["--settings", str(settings)] if settings else []), *config_arguments(config)]
    run(source, lambda redis: _schedule(redis, source, wanted, home, command, once))


async def _schedule(
    redis: Redis, source: Source, settings: CycleSettings, home: Path, command: list[str], once: bool
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    leader = Leader(redis, LOCK, hold_s=_HOLD_S)
    said = ""
    try:
        while not stop.is_set():
            what = await _look(redis, source, settings, home, leader)
            if what.why != said:
                _say(what.why)
                said = what.why
            if what.now:
                await _turn(home, command, leader, stop)
                said = ""
            if once:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await stop.wait()
    finally:
        await leader.close()


async def _look(redis: Redis, source: Source, settings: CycleSettings, home: Path, leader: Leader) -> Due:
    """Whether a turn is due here and now."""
    try:
        if await leader.lead() is None:
            return Due(False, "another scheduler leads; this one waits to take over")
        turns = read_turns(turns_of(home))
        new = await feedback_since(redis, source.shard, source.archive, counted_from(turns), settings.min_feedback)
    except (RedisError, TimeoutError, OSError) as error:
        return Due(False, f"Redis or the archive does not answer, so nobody knows what is due: {error}")
    return due(turns, new, settings, time.time())


async def _turn(home: Path, command: list[str], leader: Leader, stop: asyncio.Event) -> None:
    """One turn as a process of its own. It is ended where this scheduler has to stop, or leads no longer."""
    turns = turns_of(home)
    make_folder(turns)
    log = turns / "schedule.log"
    child = await Child.start([sys.executable, "-m", "gateway.cli", *command], {}, log, _GRACE_S)
    ended = asyncio.create_task(child.wait())
    while not ended.done():
        await asyncio.wait({ended}, timeout=_STILL_MINE_S)
        if not ended.done() and (stop.is_set() or leader.fence is None):
            why = "it is being stopped" if stop.is_set() else "another scheduler leads now"
            _say(f"the turn is interrupted, since {why}; it goes on where it was")
            await child.stop()
    await ended
    if found := read_turns(turns):
        _say(told(found[-1]) if found[-1].ending else f"turn {found[-1].number} was interrupted (see {log})")
    else:
        _say(f"no turn could be begun (see {log})")


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}  {text}", flush=True)
