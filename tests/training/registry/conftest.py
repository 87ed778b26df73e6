"""A real Redis, as the log's tests have it."""

from tests.gateway.log.conftest import redis_server, stopped_redis

__all__ = ["redis_server", "stopped_redis"]
