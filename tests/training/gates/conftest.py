"""A real Redis for the tests that need a whole gateway."""

from tests.gateway.log.conftest import redis_server, stopped_redis

__all__ = ["redis_server", "stopped_redis"]
