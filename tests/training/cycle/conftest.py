"""A real Redis for the scheduler."""

from tests.gateway.log.conftest import redis, redis_server, stopped_redis

__all__ = ["redis", "redis_server", "stopped_redis"]
