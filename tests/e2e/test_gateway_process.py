"""The gateway process stays small, and says what it is doing."""

import asyncio
import subprocess
import sys
from collections.abc import Callable

import httpx
from openai import AsyncOpenAI

from tests.e2e.stack import Stack


async def test_it_stays_under_150_mib_after_1000_requests(
    many: AsyncOpenAI, stack: Stack, report: Callable[[str], None]
) -> None:
    gate = asyncio.Semaphore(32)

    async def one(index: int) -> None:
        async with gate:
            await many.chat.completions.create(
                model="bestow-demo",
                messages=[{"role": "user", "content": f"Question {index}"}],
                max_tokens=2,
                extra_body={"guidance": {"n": 1}},
            )

    await asyncio.gather(*(one(index) for index in range(1000)))
    resident = stack.gateway_process().memory_info().rss / 2**20
    report(f"the gateway has {resident:.0f} MiB resident after 1,000 requests and all other tests")
    assert resident < 150


def test_health_readiness_and_metrics_of_gateway_and_scorers(stack: Stack) -> None:
    for base in (stack.url, stack.scorer_url):
        assert httpx.get(f"{base}/healthz").status_code == 200
        assert httpx.get(f"{base}/readyz").status_code == 200
        metrics = httpx.get(f"{base}/metrics")
        assert metrics.headers["content-type"].startswith("text/plain")
        assert metrics.text.count("# TYPE") > 10


def test_doctor_finds_nothing_wrong(stack: Stack) -> None:
    command = [sys.executable, "-m", "gateway.cli", "doctor", "--config", str(stack.config_file)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
