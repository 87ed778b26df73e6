"""A running stack: its parts started side by side, kept running, and stopped in order."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

from gateway.errors import StartError
from gateway.launch.parts import Given, Part
from gateway.launch.priority import give_way
from gateway.launch.process import Child, Ended, tail
from gateway.launch.progress import Progress
from gateway.launch.reason import telling_line, without_frames

PROBE_S = 0.25
GIVEN_LIMIT_S = 30.0
SHOWN_LINES = 15
RESTARTS = 5
RESTART_WINDOW_S = 600.0
FIRST_BACKOFF_S = 1.0


class Stack:
    """The parts of a plan as processes. `run` starts and keeps them; `stop` ends them, however far they came."""

    def __init__(
        self, parts: Iterable[Part], given: Iterable[Given], logs: Path, progress: Progress, hint: str
    ) -> None:
        self._parts = tuple(parts)
        self._given = tuple(given)
        self._logs = logs
        self._progress = progress
        self._hint = hint
        self._children: dict[str, Child] = {}
        self._up = {part.name: asyncio.Event() for part in self._parts}

    def log_of(self, part: Part) -> Path:
        return self._logs / f"{part.name}.log"

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Start everything, say when all is ready, then keep it running.

        Raises StartError when a part fails at start, or keeps failing later. Never returns otherwise.
        """
        await _all([*(self._start(part) for part in self._parts), *(self._find(one) for one in self._given)])
        on_ready()
        await _all([self._keep(part) for part in self._parts])

    async def stop(self) -> None:
        """Stop all parts, in order; each may first finish what it is doing."""
        for order in sorted({part.stop_order for part in self._parts}):
            batch = [part for part in self._parts if part.stop_order == order and part.name in self._children]
            running = [part for part in batch if self._children[part.name].running]
            if running:
                self._progress.say(f"stopping {', '.join(part.title for part in running)}")
            await asyncio.gather(*(self._children[part.name].stop() for part in batch))

    def kill(self) -> None:
        """End everything at once."""
        for child in self._children.values():
            if child.running:
                child.kill()

    async def _start(self, part: Part) -> None:
        for name in part.after:
            await self._up[name].wait()
        self._progress.show(part.name, part.title, part.doing, self._expectation(part))
        await self._until_ready(part, await self._spawn(part))
        self._progress.ready(part.name)
        self._up[part.name].set()

    async def _spawn(self, part: Part) -> Child:
        env = {"PYTHONUNBUFFERED": "1", **part.env, "BESTOW_PART": part.title}
        child = await Child.start(part.command, env, self.log_of(part), part.grace_s)
        self._children[part.name] = child
        return child

    async def _until_ready(self, part: Part, child: Child) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + part.limit_s
        while not await part.ready():
            if not child.running:
                raise StartError(self._failure(part, await child.wait(), "did not start"))
            if loop.time() > end:
                text = f"{_sentence(part.title)} was not ready after {part.limit_s:.0f} s; it is stopped."
                raise StartError(f"{text}\n{self._log_excerpt(part)}")
            if stage := self._stage(part):
                self._progress.show(part.name, part.title, stage, self._expectation(part))
            self._progress.heartbeat()
            await asyncio.sleep(PROBE_S)
        if not child.running:
            # Something else answered at its address.
            raise StartError(self._failure(part, await child.wait(), "did not start"))
        if part.gives_way:
            give_way(child.pid, part.gives_way)

    async def _find(self, given: Given) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + GIVEN_LIMIT_S
        self._progress.show(given.address, f"{given.title} at {given.address}", "asking for it", "at most 30 s")
        while not await given.ready():
            if loop.time() > end:
                raise StartError(
                    f"The {given.title} at {given.address}, which the configuration names, does not answer. Start it, "
                    f"or correct its address; `bestow doctor --config FILE` tells more."
                )
            await asyncio.sleep(PROBE_S)
        self._progress.ready(given.address)

    async def _keep(self, part: Part) -> None:
        """Report a part that ends, and start it again, later each time, until that is hopeless."""
        loop = asyncio.get_running_loop()
        restarts: list[float] = []
        while True:
            ended = await self._children[part.name].wait()
            restarts = [when for when in restarts if loop.time() - when < RESTART_WINDOW_S]
            report = self._failure(part, ended, "stopped")
            if len(restarts) >= RESTARTS:
                raise StartError(f"{report}\nIt ended {RESTARTS + 1} times in ten minutes; everything is stopped.")
            pause = FIRST_BACKOFF_S * 2 ** len(restarts)
            self._progress.say(f"{report}\nIt is started again in {pause:.0f} s.")
            restarts.append(loop.time())
            await asyncio.sleep(pause)
            child = await self._spawn(part)
            try:
                await self._until_ready(part, child)
            except StartError:
                # Reported by the next turn of this loop; one that hangs is ended first.
                await child.stop()
                continue
            self._progress.say(f"{part.title}: ready again")

    def _stage(self, part: Part) -> str | None:
        if not part.stages:
            return None
        text = "\n".join(tail(self.log_of(part), 400))
        found = [(match.end(), stage) for pattern, stage in part.stages for match in re.finditer(pattern, text)]
        return max(found)[1] if found else None

    def _expectation(self, part: Part) -> str:
        return f"usually {part.expected_s:.0f} s {self._hint}".rstrip() if part.expected_s > 5 else ""

    def _failure(self, part: Part, ended: Ended, what: str) -> str:
        reason = telling_line(tail(self.log_of(part), 200))
        return f"{_sentence(part.title)} {what}: it {ended}. {reason}\n{self._log_excerpt(part)}"

    def _log_excerpt(self, part: Part) -> str:
        last = without_frames(tail(self.log_of(part), 200))[-SHOWN_LINES:]
        lines = [f"    | {line[:200]}" for line in last]
        return "\n".join(["  The last lines of its log:", *lines, f"  The whole log: {self.log_of(part)}"])


def _sentence(title: str) -> str:
    return title[0].upper() + title[1:]


async def _all(work: list[Coroutine[Any, Any, None]]) -> None:
    """Run side by side; the first failure ends the others and is raised as itself, not as a group."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
