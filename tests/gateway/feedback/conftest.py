"""A real redis-server of one's own, as the log's tests use it; and what the tests measure, where a reader sees it."""

from collections.abc import Callable

import pytest

from tests.gateway.log.conftest import redis, redis_server, stopped_redis

__all__ = ["redis", "redis_server", "stopped_redis"]

FIGURES: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("measured on simulated votes")
        for line in FIGURES:
            terminalreporter.line(line)


@pytest.fixture
def report() -> Callable[[str], None]:
    """Puts a line into the summary of the test run."""
    return FIGURES.append
