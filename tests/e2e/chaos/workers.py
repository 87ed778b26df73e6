"""Real vLLM workers that a test can kill, freeze, end and start again on the same port."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from gateway.config import PolicyConfig
from gateway.launch.machine import look
from gateway.launch.parts import Part, worker_part
from gateway.launch.priority import give_way
from gateway.launch.process import GUARDIAN, tail

READY_WITHIN_S = 240.0
ENDED_WITHIN_S = 30.0


class RealWorker:
    """A vLLM server as `bestow up` would start it, under a guardian, in a process group of its own.

    core: the one it computes on; vLLM would have every worker of a machine choose the same.
    """

    def __init__(self, policy_name: str, policy: PolicyConfig, port: int, core: int, log: Path) -> None:
        engine = policy.engine.model_copy(update={"port": port})
        self._part: Part = worker_part(policy_name, policy.model_copy(update={"engine": engine}), look(), shared=True)
        self._env = {**os.environ, **self._part.env, "VLLM_CPU_OMP_THREADS_BIND": str(core)}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline = -1
        self.url = self._part.address

    def start(self) -> None:
        """Start it; `until_ready` waits. The guardian ends it where this process goes first, however it went."""
        read_end, self._lifeline = os.pipe()
        guardian = (sys.executable, "-I", "-S", str(GUARDIAN), str(read_end), str(self._part.grace_s))
        try:
            with self._log.open("ab") as output:
                self._process = subprocess.Popen(
                    (*guardian, *self._part.command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self._env,
                    pass_fds=(read_end,),
                    start_new_session=True,
                )
        finally:
            os.close(read_end)

    async def until_ready(self) -> float:
        """Wait until it answers; how many seconds that took. Fails with what it printed."""
        begun = time.monotonic()
        while not await self._part.ready():
            printed = "\n".join(tail(self._log, 30))
            assert self._process is not None and self._process.poll() is None, f"the worker ended:\n{printed}"
            assert time.monotonic() - begun < READY_WITHIN_S, f"the worker did not start:\n{printed}"
            await asyncio.sleep(0.25)
        if self._part.gives_way:
            give_way(self._running.pid, self._part.gives_way)
        return time.monotonic() - begun

    @property
    def pid(self) -> int:
        """The guardian's; the API server is its child."""
        return self._running.pid

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the worker was not started"
        return self._process

    async def kill(self) -> None:
        """kill -9 of the whole group: its API server alone would leave its engine behind."""
        os.killpg(self._running.pid, signal.SIGKILL)
        await self._ended()

    async def end(self) -> None:
        """SIGTERM, as an orchestrator ends it: vLLM aborts what it samples and leaves."""
        self._running.terminate()
        await self._ended()

    def freeze(self) -> None:
        """SIGSTOP to all of it: its socket stays open, and nothing answers."""
        os.killpg(self._running.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self._running.pid, signal.SIGCONT)

    def close(self) -> None:
        """Leave nothing of it, whatever state it is in."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(ENDED_WITHIN_S)
            self._release()

    async def _ended(self) -> None:
        await asyncio.to_thread(self._running.wait, ENDED_WITHIN_S)
        self._release()

    def _release(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    async def finished(self) -> float:
        """How many sequences it has finished since it was started, by its own count."""
        return await self.metric("vllm:request_success_total", without='finished_reason="abort"')

    async def sampling(self) -> float:
        """How many sequences it samples now."""
        return await self.metric("vllm:num_requests_running")

    async def metric(self, name: str, without: str = "no such label") -> float:
        """The sum of a metric's lines on its /metrics."""
        async with httpx.AsyncClient(timeout=10) as http:
            text = (await http.get(f"{self.url}/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith(f"{name}{{") and without not in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def start_workers(policy_name: str, policy: PolicyConfig, ports: Sequence[int], folder: Path) -> list[RealWorker]:
    """One worker on each port, each on a core of its own while there are cores; started, and ready."""
    cores = sorted(os.sched_getaffinity(0))
    workers = [
        RealWorker(policy_name, policy, port, cores[index % len(cores)], folder / f"worker-{index}.log")
        for index, port in enumerate(ports)
    ]

    async def all_ready() -> None:
        await asyncio.gather(*(worker.until_ready() for worker in workers))

    try:
        for worker in workers:
            worker.start()
        asyncio.run(all_ready())
    except BaseException:
        for worker in workers:
            worker.close()
        raise
    return workers
