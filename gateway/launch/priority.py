"""Lets a part's computing processes run only when nobody else wants the CPU.

vLLM on a CPU computes on one core and polls on another with sched_yield. On Linux 6.18 whatever wakes up beside these
two can wait for seconds; a yield seems to move the run queue's virtual time ahead of who computes (measured: a process
that sleeps 10 ms slept 4.7 s, and a live stream of 1,900 tokens came all at its end). Under SCHED_IDLE they give way at
once, for about 5 % of their speed.
"""

import contextlib
import os

import psutil


def give_way(pid: int, names: str) -> int:
    """Put the processes below `pid` whose name begins with `names` into the idle class. Returns how many threads."""
    if not hasattr(os, "SCHED_IDLE"):
        return 0
    moved = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
                if _title(process).startswith(names):
                    moved += sum(_move(thread.id) for thread in process.threads())
    return moved


def _title(process: psutil.Process) -> str:
    """What it calls itself: vLLM renames its processes."""
    return " ".join(process.cmdline()) or process.name()


def _move(thread: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
        return True
    return False
