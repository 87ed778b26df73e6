"""One part as a process: started under its guardian, its output in a log file, ended without a trace."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GUARDIAN = Path(__file__).with_name("guardian.py")
TAIL_BYTES = 65_536
# Longer than the guardian needs to sweep up after its part; beyond it the whole group is killed from here.
SWEEP_S = 5.0


@dataclass(frozen=True)
class Ended:
    """How a part ended."""

    code: int

    def __str__(self) -> str:
        if self.code == 128 + signal.SIGKILL:
            return "was killed (the kernel does that when memory runs out)"
        if self.code > 128 and self.code - 128 in signal.valid_signals():
            return f"was ended by {signal.Signals(self.code - 128).name}"
        return f"ended with exit code {self.code}"


class Child:
    """A running part. `start` makes one."""

    def __init__(self, process: asyncio.subprocess.Process, lifeline: int, grace_s: float) -> None:
        self._process = process
        self._lifeline = lifeline
        self._grace_s = grace_s

    @classmethod
    async def start(cls, command: Sequence[str], env: Mapping[str, str], log: Path, grace_s: float) -> "Child":
        """Start the command under a guardian; `env` is added to this process's environment.

        The log of the run before is kept beside the new one as `<name>.1`.
        """
        _rotate(log)
        read_end, write_end = os.pipe()
        try:
            with log.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-I", "-S", str(GUARDIAN), str(read_end), str(grace_s)),
                    *command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **env},
                    pass_fds=(read_end,),
                    start_new_session=True,
                )
        except BaseException:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
        return cls(process, write_end, grace_s)

    @property
    def pid(self) -> int:
        """The guardian's, which is also the process group's."""
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> Ended:
        """Wait for the end. The guardian leaves only when nothing of the part is left."""
        code = await self._process.wait()
        self._release()
        return Ended(code if code >= 0 else 128 - code)

    async def stop(self) -> Ended:
        """SIGTERM, the part's own time to drain, then SIGKILL to the whole group."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(self._grace_s + SWEEP_S):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
        return await self.wait()

    def kill(self) -> None:
        """End the whole group at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _release(self) -> None:
        # A guardian that was itself killed leaves its group behind.
        self.kill()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


def _rotate(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log file, without the empty ones; nothing when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
