"""Ports: free, taken, by whom, wanted twice."""

import asyncio
import os
import socket
import subprocess
from pathlib import Path

from gateway.launch.ports import Need, conflicts, holder, is_free
from gateway.launch.process import Child
from tests.gateway.launch.launch_stubs import command, pid_in, wait_for
from tests.ports import free_port


def test_a_free_port_is_free_and_a_taken_one_is_not() -> None:
    port = free_port()
    assert is_free("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free("127.0.0.1", port)
        assert not is_free("0.0.0.0", port)
    assert is_free("127.0.0.1", port)


def test_a_taken_port_is_named_with_its_holder_and_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (text,) = conflicts([Need("gateway", "127.0.0.1", port, "gateway.port")])
    assert f"Port {port}, which the gateway needs, is taken by" in text
    assert f"(process {os.getpid()})" in text
    assert "--port" in text


def test_the_key_of_another_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        need = Need("local Redis", "127.0.0.1", server.getsockname()[1], "redis.port")
        assert "`redis.port` in the configuration file" in conflicts([need])[0]


def test_a_port_wanted_twice_is_said() -> None:
    port = free_port()
    needs = [Need(name, "127.0.0.1", port, f"policies.{name}.engine.port") for name in ("a", "b")]
    assert conflicts(needs) == [
        f"Port {port} is wanted twice, by policies.a.engine.port and by policies.b.engine.port. "
        "Give one of them another number in the configuration file."
    ]


def test_all_taken_ports_are_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        needs = [Need("part", "127.0.0.1", each.getsockname()[1], "key") for each in (one, two)]
        assert len(conflicts(needs)) == 2


def test_a_part_of_bestow_is_recognised(tmp_path: Path) -> None:
    """By its environment."""
    port = free_port()
    env = {**os.environ, "BESTOW_PART": "gateway"}
    process = subprocess.Popen(command(port, tmp_path, "a"), env=env)
    try:
        pid_in(tmp_path / "a.pid")
        wait_for(lambda: not is_free("127.0.0.1", port))
        held = holder(port)
        assert held is not None
        assert str(held) == f"Bestow's own gateway (process {process.pid}): it is running already"
    finally:
        process.kill()
        process.wait()
    assert holder(port) is None


async def test_a_part_that_writes_over_its_environment_is_recognised_by_its_guardian(tmp_path: Path) -> None:
    port = free_port()
    forgetful = ("/usr/bin/env", "-u", "BESTOW_PART", *command(port, tmp_path, "a"))
    child = await Child.start(forgetful, {"BESTOW_PART": "Redis"}, tmp_path / "a.log", 5.0)
    await asyncio.to_thread(wait_for, lambda: not is_free("127.0.0.1", port))
    held = holder(port)
    await child.stop()
    assert held is not None and held.part == "Redis"
