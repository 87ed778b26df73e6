"""A real redis-server of one's own, as the log's tests use it; and what the tests measure, where a reader sees it."""

from collections.abc import Callable
from functools import partial

import pytest

from tests.conftest import MEASURED
from tests.gateway.log.conftest import redis, redis_server, stopped_redis

__all__ = ["redis", "redis_server", "stopped_redis"]


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Puts a line into the summary of the test run."""
    return partial(record_property, f"{MEASURED}on simulated votes")
