"""A real redis-server of one's own, as the log's tests use it."""

from tests.gateway.log.conftest import redis, redis_server, stopped_redis

__all__ = ["redis", "redis_server", "stopped_redis"]
