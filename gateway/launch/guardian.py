"""A small parent for one part: it passes the part's exit on, and ends all that the part started.

    python -I -S guardian.py LIFELINE_FD GRACE_S COMMAND...

It leads a session and process group of its own, in which the part runs, and it adopts what the part leaves behind
(vLLM's EngineCore outlives its API server otherwise). It ends them all when
  - SIGTERM arrives: the part gets SIGTERM and GRACE_S seconds to finish, then everything left is killed;
  - the part exits by itself;
  - the lifeline, a pipe held open by `bestow up`, closes: `bestow up` is gone, however it died.
Standard library only, started with -I -S: one sits beside every part, so it must cost little.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LEFTOVER_GRACE_S = 2.0
PARENT_GONE_GRACE_S = 10.0
POLL_S = 0.05


def _prctl(option: int, value: int) -> None:
    """Best effort: elsewhere than on Linux there is no prctl, and the process group alone has to do."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _die_with_guardian() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def leftovers(own: int) -> list[int]:
    """Living processes in this group or descended from this process, without itself."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for entry in Path("/proc").iterdir() if Path("/proc/self").exists() else ():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name, in parentheses, may hold spaces: state, ppid and pgrp follow the last one.
            state, parent, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            pid = int(entry.name)
            parents[pid] = int(parent)
            if state not in "ZX" and int(group) == own:
                found.add(pid)
    for pid in parents:
        above = pid
        while above in parents and above != own:
            above = parents[above]
        if above == own and _alive(pid):
            found.add(pid)
    return sorted(found - {own})


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def sweep(own: int, grace_s: float = LEFTOVER_GRACE_S) -> None:
    """End what is left: SIGTERM, a moment, SIGKILL until nothing is."""
    _signal(leftovers(own), signal.SIGTERM)
    end = time.monotonic() + grace_s
    while leftovers(own) and time.monotonic() < end:
        time.sleep(POLL_S)
    while left := leftovers(own):
        _signal(left, signal.SIGKILL)
        time.sleep(POLL_S)


def _reap_strangers(part: int) -> None:
    """Collect adopted processes that have ended, but leave the part itself to its Popen."""
    with contextlib.suppress(ChildProcessError):
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid == part:
                return
            os.waitpid(ended.si_pid, 0)


def guard(lifeline: int, grace_s: float, command: list[str]) -> int:
    """Run the command until it ends or has to; the exit code, 128 + the signal where one ended it."""
    own = os.getpid()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: asked.append(got))
    signal.signal(signal.SIGCHLD, lambda _got, _frame: None)  # only so that it wakes the select below
    try:
        part = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_guardian)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", file=sys.stderr, flush=True)
        return 127
    deadline: float | None = None
    watched = [lifeline, wake]
    while part.poll() is None:
        _reap_strangers(part.pid)
        ready, _, _ = select.select(watched, [], [], 0.5 if deadline else 5.0)
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
        orphaned = lifeline in ready and not os.read(lifeline, 1)
        if orphaned:
            watched.remove(lifeline)
        if (asked or orphaned) and deadline is None:
            deadline = time.monotonic() + (min(grace_s, PARENT_GONE_GRACE_S) if orphaned else grace_s)
            _signal([part.pid], signal.SIGTERM)
        if deadline is not None and time.monotonic() > deadline:
            _signal([part.pid], signal.SIGKILL)
    sweep(own)
    return part.returncode if part.returncode >= 0 else 128 - part.returncode


if __name__ == "__main__":
    sys.exit(guard(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
