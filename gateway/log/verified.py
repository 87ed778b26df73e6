"""TLS to Redis by a context made once: redis-py's own reads the files at each connection and trusts the system too."""

from ssl import SSLContext
from typing import Any

from redis.asyncio import SSLConnection


class VerifiedConnection(SSLConnection):
    def __init__(self, *, context: SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = context
