import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from gateway.launch.priority import give_way

# A child with two threads beside its main one, below a parent that only waits.
BUSY = "import threading, time; [threading.Thread(target=time.sleep, args=(60,)).start() for _ in range(2)]"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"


@pytest.fixture
def family() -> Iterator[tuple[int, psutil.Process]]:
    parent = subprocess.Popen([sys.executable, "-c", PARENT])
    process = psutil.Process(parent.pid)
    deadline = time.monotonic() + 10
    while not (found := process.children()) or found[0].num_threads() < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield parent.pid, found[0]
    found[0].kill()
    parent.wait(10)


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="Linux has this class")
def test_all_threads_of_the_named_processes_give_way_and_nobody_else_does(family: tuple[int, psutil.Process]) -> None:
    pid, child = family
    assert give_way(pid, "VLLM::") == 0
    assert give_way(pid, sys.executable) == 3
    assert {os.sched_getscheduler(thread.id) for thread in child.threads()} == {os.SCHED_IDLE}
    assert os.sched_getscheduler(pid) == os.SCHED_OTHER


def test_a_process_that_has_ended_is_nothing_to_worry_about() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(10)
    assert give_way(ended.pid, "") == 0
