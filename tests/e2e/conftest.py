from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from openai import AsyncOpenAI, OpenAI
from redis.asyncio import Redis

from tests.conftest import MEASURED
from tests.e2e import stack as stacks
from tests.e2e.stack import Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """vLLM, Redis, scorers and gateway on the demo models; Ctrl-C at the end must leave nothing behind."""
    running = stacks.start(tmp_path_factory.mktemp("stack"))
    try:
        yield running
    finally:
        left = stacks.stop(running)
    assert running.process.returncode == 0, running.log_file.read_text()[-2000:]
    assert left == []


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Puts a line into the summary of the test run."""
    return partial(record_property, f"{MEASURED}on the real stack")


@pytest.fixture
def client(stack: Stack) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{stack.url}/v1", api_key="none needed", max_retries=0) as opened:
        yield opened


@pytest.fixture
async def many(stack: Stack) -> AsyncIterator[AsyncOpenAI]:
    """A client for many requests at once."""
    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none needed", max_retries=0, timeout=300) as opened:
        yield opened


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    opened = Redis.from_url(stack.redis_url)
    yield opened
    await opened.aclose()
