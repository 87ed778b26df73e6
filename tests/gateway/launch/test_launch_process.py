"""A part as a process: its group, its guardian, its log."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.launch.process import Child, tail
from tests.gateway.launch.launch_stubs import alive, command, pid_in, wait_for
from tests.ports import free_port

HOLDER = """
import asyncio, json, sys
from pathlib import Path
from gateway.launch.process import Child
async def hold():
    await Child.start(json.loads(sys.argv[1]), {}, Path(sys.argv[2]), 5.0)
    await asyncio.sleep(300)
asyncio.run(hold())
"""


async def test_a_part_leads_a_process_group_that_is_not_ours(tmp_path: Path) -> None:
    child = await Child.start(command(free_port(), tmp_path, "a"), {}, tmp_path / "a.log", 5.0)
    part = await asyncio.to_thread(pid_in, tmp_path / "a.pid")
    assert os.getpgid(part) == child.pid != os.getpgid(0)
    assert (await child.stop()).code == 0
    assert not alive(part)


@pytest.mark.parametrize("mode", ["fork", "new-session"])
async def test_stopping_ends_what_the_part_left_behind(tmp_path: Path, mode: str) -> None:
    child = await Child.start(command(free_port(), tmp_path, "a", mode), {}, tmp_path / "a.log", 5.0)
    forked = await asyncio.to_thread(pid_in, tmp_path / "a.forked")
    await asyncio.to_thread(pid_in, tmp_path / "a.pid")
    await child.stop()
    assert not alive(forked)


async def test_what_a_killed_part_leaves_behind_is_ended(tmp_path: Path) -> None:
    child = await Child.start(command(free_port(), tmp_path, "a", "fork"), {}, tmp_path / "a.log", 5.0)
    forked = await asyncio.to_thread(pid_in, tmp_path / "a.forked")
    os.kill(await asyncio.to_thread(pid_in, tmp_path / "a.pid"), signal.SIGKILL)
    ended = await child.wait()
    assert "was killed" in str(ended)
    assert not alive(forked)


async def test_a_part_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    child = await Child.start(command(free_port(), tmp_path, "a", "stubborn"), {}, tmp_path / "a.log", 0.3)
    part = await asyncio.to_thread(pid_in, tmp_path / "a.pid")
    begun = time.monotonic()
    await child.stop()
    assert 0.3 <= time.monotonic() - begun < 4
    assert not alive(part)


async def test_a_killed_guardian_takes_its_group_along(tmp_path: Path) -> None:
    child = await Child.start(command(free_port(), tmp_path, "a", "fork"), {}, tmp_path / "a.log", 5.0)
    forked = await asyncio.to_thread(pid_in, tmp_path / "a.forked")
    part = await asyncio.to_thread(pid_in, tmp_path / "a.pid")
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    await asyncio.to_thread(wait_for, lambda: not alive(forked) and not alive(part))


def test_parts_end_when_their_starter_is_killed(tmp_path: Path) -> None:
    part = command(free_port(), tmp_path, "a", "fork")
    starter = subprocess.Popen([sys.executable, "-c", HOLDER, json.dumps(part), str(tmp_path / "a.log")])
    pids = [pid_in(tmp_path / "a.forked"), pid_in(tmp_path / "a.pid")]
    starter.kill()
    starter.wait()
    wait_for(lambda: not any(alive(pid) for pid in pids))


async def test_a_command_that_is_not_there_is_said_in_the_log(tmp_path: Path) -> None:
    child = await Child.start(["/no/such/program"], {}, tmp_path / "a.log", 1.0)
    assert (await child.wait()).code == 127
    assert tail(tmp_path / "a.log", 1) == ["/no/such/program cannot be started: No such file or directory"]


async def test_the_log_before_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "a.log"
    for word in ("first", "second"):
        await (await Child.start([sys.executable, "-S", "-c", f"print('{word}')"], {}, log, 1.0)).wait()
    assert log.read_text() == "second\n"
    assert log.with_name("a.log.1").read_text() == "first\n"
