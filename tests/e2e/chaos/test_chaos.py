"""Workers that die, freeze, fail, stall and restart under 50 concurrent requests: no client sees it while one lives."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.chaos.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.e2e.chaos.load import Load, steady_load, summary
from tests.e2e.chaos.workers import RealWorker
from tests.e2e.gateways import second_gateway
from tests.e2e.stack import Stack
from tests.e2e.test_disconnects import in_thread

pytestmark = pytest.mark.slow

BEFORE_S = 4.0
FAULT_S = 10.0
AFTER_S = 4.0
BUSY_SEQUENCES = 8
RECOVERED_WITHIN_S = 90.0
# Far longer than a worker that is well takes under this load, on two cores.
LIMITS = {"first_token_s": 15.0, "token_s": 5.0}


@asynccontextmanager
async def gateway_before(stack: Stack, folder: Path, urls: Sequence[str]) -> AsyncIterator[str]:
    """A gateway of our own in front of workers at these addresses, and the stack's scorers and Redis."""

    def change(config: Any) -> None:
        config["policies"]["demo-policy"] |= {"workers": [{"url": url} for url in urls], "limits": LIMITS}
        # Two cores: judging would cost as much as sampling, and what is sampled is what the faults meet.
        config["profiles"]["default"]["safety"] = None

    async with in_thread(second_gateway(stack, folder, change)) as url:
        yield url


@pytest.fixture
async def gateway(stack: Stack, workers: list[RealWorker], tmp_path: Path) -> AsyncIterator[str]:
    async with gateway_before(stack, tmp_path, [worker.url for worker in workers]) as url:
        yield url


@pytest.fixture
async def proxies(workers: list[RealWorker]) -> AsyncIterator[list[FaultProxy]]:
    """One before each worker, passing all on."""
    async with AsyncExitStack() as opened:
        yield [await opened.enter_async_context(fault_proxy(worker.url)) for worker in workers]


@pytest.fixture
async def spoilt(stack: Stack, proxies: list[FaultProxy], tmp_path: Path) -> AsyncIterator[str]:
    """A gateway whose workers are behind the proxies."""
    async with gateway_before(stack, tmp_path, [proxy.url for proxy in proxies]) as url:
        yield url


async def all_busy(workers: Sequence[RealWorker]) -> None:
    """Wait until every worker has finished something new: it takes traffic."""
    begun = [await worker.finished() for worker in workers]
    deadline = time.monotonic() + RECOVERED_WITHIN_S
    for worker, before in zip(workers, begun, strict=True):
        while await worker.finished() <= before:
            assert time.monotonic() < deadline, f"{worker.url} is well and gets no traffic"
            await asyncio.sleep(0.25)


async def busy(worker: RealWorker) -> None:
    """Wait until it is in the middle of something: a fault that meets nothing shows nothing."""
    deadline = time.monotonic() + RECOVERED_WITHIN_S
    while await worker.sampling() < BUSY_SEQUENCES:
        assert time.monotonic() < deadline, f"{worker.url} is never busy"


class Incident:
    """A load with a fault in it: when it began, when the workers were well again, when all had traffic again."""

    def __init__(self, name: str, load: Load) -> None:
        self.name = name
        self.load = load
        self.fault = self.well = self.recovered = 0.0

    def figures(self) -> list[str]:
        outcomes = self.load.outcomes
        head = f"{self.name}: well again after {self.well - self.fault:.1f} s, "
        return [
            f"{head}in traffic {self.recovered - self.well:.1f} s later",
            *summary(outcomes, self.fault, self.recovered),
        ]


async def under_load(
    name: str, url: str, workers: Sequence[RealWorker], fault: Callable[[], Awaitable[None]]
) -> Incident:
    """Run the fault under the load, which returns when the workers are well; then wait until all have traffic again."""
    async with steady_load(url) as load:
        incident = Incident(name, load)
        await all_busy(workers)
        await asyncio.sleep(BEFORE_S)
        incident.fault = time.monotonic()
        await fault()
        incident.well = time.monotonic()
        await all_busy(workers)
        incident.recovered = time.monotonic()
        await asyncio.sleep(AFTER_S)
    return incident


def judge(incident: Incident, report: Callable[[str], None]) -> None:
    """Report the figures; nobody may have seen a failure, and all must have been as before in the end."""
    for line in incident.figures():
        report(line)
    failures = [f"{one.kind} after {one.seconds:.1f} s: {one.error}" for one in incident.load.outcomes if one.failed]
    assert not failures, "\n".join([f"{len(failures)} failed", *failures[:20]])
    late = [one for one in incident.load.outcomes if one.begun > incident.recovered]
    assert late, "nothing came after the recovery: this test showed nothing"
    assert not [one for one in late if one.in_frame], "live streams still break"


async def test_a_worker_that_is_killed(gateway: str, workers: list[RealWorker], report: Callable[[str], None]) -> None:
    async def kill_one() -> None:
        await busy(workers[1])
        await workers[1].kill()
        workers[1].start()
        await workers[1].until_ready()

    judge(await under_load("kill -9", gateway, workers, kill_one), report)


async def test_a_worker_that_hangs_with_its_socket_open(
    gateway: str, workers: list[RealWorker], report: Callable[[str], None]
) -> None:
    async def freeze_one() -> None:
        await busy(workers[1])
        workers[1].freeze()
        try:
            # Until its requests have been given up, and its health questions too.
            await asyncio.sleep(LIMITS["first_token_s"] + FAULT_S)
        finally:
            workers[1].thaw()

    judge(await under_load("SIGSTOP", gateway, workers, freeze_one), report)


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.RESET, Fault.TRICKLE, Fault.HANG])
async def test_a_worker_whose_health_looks_good(
    spoilt: str, workers: list[RealWorker], proxies: list[FaultProxy], fault: Fault, report: Callable[[str], None]
) -> None:
    async def spoil_one() -> None:
        await busy(workers[0])
        proxies[0].fault = fault
        await asyncio.sleep(FAULT_S + (LIMITS["first_token_s"] if fault is Fault.HANG else 0))
        proxies[0].heal()

    incident = await under_load(fault.value, spoilt, workers, spoil_one)
    report(f"{fault.value}: {proxies[0].spoiled} requests of the gateway met it")
    judge(incident, report)
    assert proxies[0].spoiled > 0, "no request met the fault: this test showed nothing"


async def test_a_rolling_restart_of_all_workers(
    gateway: str, workers: list[RealWorker], report: Callable[[str], None]
) -> None:
    async def restart_each() -> None:
        for worker in workers:
            await busy(worker)
            await worker.end()
            worker.start()
            await worker.until_ready()
            await all_busy([worker])

    judge(await under_load("rolling restart", gateway, workers, restart_each), report)


async def test_a_live_stream_goes_on_elsewhere_from_its_token_ids(
    spoilt: str, proxies: list[FaultProxy], report: Callable[[str], None]
) -> None:
    body: dict[str, Any] = {
        "model": "bestow-demo",
        "messages": [{"role": "user", "content": "How do I keep a houseplant healthy?"}],
        "temperature": 0,
        "max_tokens": 200,
        "min_tokens": 200,
        "stream": True,
        "stream_options": {"include_usage": True},
        "guidance": {"stream_mode": "first"},
    }

    async def text_of(broken_after: int | None) -> tuple[str, int, str | None]:
        """(text, tokens, error) of the stream, whose worker is lost once that many characters were seen."""
        said, tokens, error = "", 0, None
        async with (
            httpx.AsyncClient(timeout=60) as http,
            http.stream("POST", f"{spoilt}/v1/chat/completions", json=body) as reply,
        ):
            async for line in reply.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                frame = json.loads(line[6:])
                if "error" in frame:
                    error = frame["error"]["message"]
                    break
                said += "".join(choice["delta"].get("content") or "" for choice in frame["choices"])
                tokens = (frame.get("usage") or {}).get("completion_tokens", tokens)
                if broken_after is not None and len(said) > broken_after:
                    broken_after = None
                    for proxy in proxies:
                        proxy.reset_streams()
        return said, tokens, error

    whole, tokens, _ = await text_of(None)
    assert tokens == 200
    broken = [await text_of(len(whole) * tenths // 10) for tenths in (1, 3, 5, 7)]
    report(
        f"live streams reset midway: {sum(text == whole for text, _, _ in broken)} of 4 word for word as undisturbed"
    )
    for text, sampled, error in broken:
        assert error is None
        assert (text, sampled) == (whole, tokens)
