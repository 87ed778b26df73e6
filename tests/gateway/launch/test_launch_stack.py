"""A stack of real processes: started side by side, kept, and stopped in order."""

import asyncio
import io
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from gateway.errors import StartError
from gateway.launch import stack as stack_module
from gateway.launch.parts import Given, Part
from gateway.launch.probe import HttpReady, get
from gateway.launch.progress import Progress
from gateway.launch.stack import Stack
from gateway.launch.up import supervise
from tests.gateway.launch.launch_stubs import alive, pid_in, stub_part, wait_for


class Running:
    """A stack under test, with what it said."""

    def __init__(self, folder: Path, *parts: Part, given: tuple[Given, ...] = ()) -> None:
        self.said = io.StringIO()
        self.progress = Progress(Console(file=self.said))
        self.stack = Stack(parts, given, folder / "logs", self.progress, "here")
        self.ready = asyncio.Event()

    async def failure(self) -> str:
        """The reason why it cannot run; everything is stopped."""
        with pytest.raises(StartError) as caught:
            await asyncio.wait_for(self.stack.run(self.ready.set), 20)
        await self.stack.stop()
        return str(caught.value)

    async def supervised(self, *signals: signal.Signals) -> int:
        """Its exit code when these signals come, the first once it is ready."""
        work = asyncio.create_task(supervise(self.stack, self.progress, lambda: "READY"))
        await asyncio.to_thread(wait_for, lambda: self.said.getvalue().count("ready after") == len(self.stack._parts))
        await asyncio.sleep(0.1)
        for number in signals:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.3)
        return await asyncio.wait_for(work, 15)


def living(notes: Path) -> list[int]:
    """The stubs, and what they forked, that still run."""
    return [pid for file in [*notes.glob("*.pid"), *notes.glob("*.forked")] if alive(pid := int(file.read_text()))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_the_gateway_first_and_redis_last(tmp_path: Path, number: signal.Signals) -> None:
    running = Running(
        tmp_path,
        stub_part(tmp_path, "redis", stop_order=2),
        stub_part(tmp_path, "worker", stop_order=1),
        stub_part(tmp_path, "gateway", stop_order=0, after=("redis",)),
    )
    assert await running.supervised(number) == 0
    assert (tmp_path / "order").read_text().split() == ["gateway", "worker", "redis"]
    assert not living(tmp_path)
    assert "all stopped" in running.said.getvalue()


async def test_a_second_signal_ends_everything_at_once(tmp_path: Path) -> None:
    running = Running(tmp_path, stub_part(tmp_path, "gateway", "stubborn", "fork", grace_s=60))
    assert await running.supervised(signal.SIGINT, signal.SIGINT) == 0
    assert not living(tmp_path)


async def test_a_part_that_fails_at_start_is_named_with_reason_and_log_and_all_is_stopped(tmp_path: Path) -> None:
    running = Running(tmp_path, stub_part(tmp_path, "good"), stub_part(tmp_path, "bad", "fail-start"))
    text = await running.failure()
    assert text.startswith("Stub bad did not start: it ended with exit code 1. ValueError: the weights of this stub")
    assert str(tmp_path / "logs" / "bad.log") in text
    assert not living(tmp_path)
    assert not running.ready.is_set()


async def test_a_failure_at_start_is_exit_code_1(tmp_path: Path) -> None:
    running = Running(tmp_path, stub_part(tmp_path, "bad", "fail-start"))
    assert await supervise(running.stack, running.progress, lambda: "READY") == 1
    assert "the weights of this stub are broken" in running.said.getvalue()


async def test_a_part_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    slow = stub_part(tmp_path, "slow", limit_s=0.5)
    never = Part(**{**slow.__dict__, "ready": HttpReady("http://127.0.0.1:9/")})
    assert "was not ready after 0 s" in await Running(tmp_path, never).failure()


async def test_an_address_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_module, "GIVEN_LIMIT_S", 0.3)
    given = Given("worker of p", "http://127.0.0.1:9", HttpReady("http://127.0.0.1:9/health"))
    text = await Running(tmp_path, given=(given,)).failure()
    assert "worker of p at http://127.0.0.1:9, which the configuration names, does not answer" in text


async def test_a_part_that_dies_later_is_reported_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_module, "FIRST_BACKOFF_S", 0.05)
    part = stub_part(tmp_path, "a", "fork")
    running = Running(tmp_path, part)
    work = asyncio.create_task(running.stack.run(running.ready.set))
    await asyncio.wait_for(running.ready.wait(), 15)
    forked = pid_in(tmp_path / "a.forked")
    await get(f"{part.address}/die")
    await asyncio.to_thread(wait_for, lambda: "ready again" in running.said.getvalue())
    work.cancel()
    await running.stack.stop()
    said = running.said.getvalue()
    assert "Stub a stopped: it ended with exit code 3. RuntimeError: asked to die" in said
    assert not alive(forked)


async def test_a_part_that_keeps_dying_ends_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_module, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(stack_module, "RESTARTS", 1)
    part = stub_part(tmp_path, "a")
    running = Running(tmp_path, part)
    work = asyncio.create_task(running.failure())
    await asyncio.wait_for(running.ready.wait(), 15)
    await get(f"{part.address}/die")
    await asyncio.to_thread(wait_for, lambda: "ready again" in running.said.getvalue())
    await get(f"{part.address}/die")
    assert "everything is stopped" in await asyncio.wait_for(work, 15)


async def test_a_stop_while_parts_are_starting_leaves_nothing(tmp_path: Path) -> None:
    slow = stub_part(tmp_path, "slow", "fork")
    never = Part(**{**slow.__dict__, "ready": HttpReady("http://127.0.0.1:9/")})
    running = Running(tmp_path, never)
    work = asyncio.create_task(supervise(running.stack, running.progress, lambda: "READY"))
    pid = await asyncio.to_thread(pid_in, tmp_path / "slow.pid")
    os.kill(os.getpid(), signal.SIGINT)
    assert await asyncio.wait_for(work, 15) == 0
    assert not alive(pid) and not alive(pid_in(tmp_path / "slow.forked"))
