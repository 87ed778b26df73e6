"""Redis behind Sentinels: they are asked who is master before each new connection, and once a second while any is used.

Once a second, since a master that lives on after a failover takes, for ten seconds more, what it loses when its
Sentinel tells it. Idle connections to it are closed when another is named; one in use shows a lost connection in the
end, when it is cut or when replies say that its server is master no more (READONLY).
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.log.redis_url import Node
from gateway.log.verified import VerifiedConnection
from gateway.tasks import end

LOOK_EVERY_S = 1.0


class _VerifiedManaged(SentinelManagedConnection, VerifiedConnection):
    """Whoever is master, over TLS."""


class _Pool(SentinelConnectionPool):
    """Looks once in a while whether its connections still lead to the master, without keeping anybody waiting."""

    _looked_at = 0.0
    _looking: asyncio.Task[None] | None = None

    async def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> Any:
        now = time.monotonic()
        if now - self._looked_at > LOOK_EVERY_S and (self._looking is None or self._looking.done()):
            self._looked_at = now
            self._looking = asyncio.create_task(self._look(), name="bestow-sentinel")
        return await super().get_connection()  # type: ignore[no-untyped-call]

    async def aclose(self) -> None:
        await end(self._looking)
        await super().aclose()

    async def ensure_connection(self, connection: Any) -> None:
        # One that was in use when another master was named is connected to the old one.
        if connection.is_connected and self.master_address not in (None, (connection.host, connection.port)):
            await connection.disconnect()
        await super().ensure_connection(connection)

    async def _look(self) -> None:
        with suppress(RedisError, OSError):  # New connections find out.
            await self.get_master_address()  # type: ignore[no-untyped-call]


class _Sentinels(Sentinel):
    def __init__(self, sentinels: list[Redis], names: Sequence[str]) -> None:
        super().__init__([], sentinel_kwargs={})  # type: ignore[no-untyped-call]
        self.sentinels = sentinels
        self._names = names

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """The first answer wins. Raises ConnectionError where there is none, or none that can be used."""
        failures = []
        for sentinel in list(self.sentinels):
            try:
                masters = cast("Mapping[str, Any]", await sentinel.sentinel_masters())
            except (RedisConnectionError, RedisTimeoutError) as error:
                failures.append(str(error))
                continue
            except asyncio.CancelledError:  # Whoever asked has waited long enough: for it perhaps.
                self.sentinels = [*(other for other in self.sentinels if other is not sentinel), sentinel]
                raise
            state = masters.get(service_name)
            if state is None:
                known = ", ".join(sorted(masters)) or "none"
                failures.append(f"a Sentinel watches no master {service_name!r} (it watches {known})")
            elif not self.check_master_state(state, service_name):
                failures.append(f"the master {service_name!r} is down, and no other has taken over yet")
            else:
                self.sentinels = [sentinel, *(other for other in self.sentinels if other is not sentinel)]
                return str(state["ip"]), int(state["port"])
        raise RedisConnectionError(f"the Sentinels at {', '.join(self._names)} name no master: {'; '.join(failures)}")


class SentinelRedis(Redis):
    """The master, whoever it is; closes the connections to the Sentinels with its own."""

    sentinels: _Sentinels

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        await self.sentinels.aclose()


def master_of(nodes: Sequence[Node], service: str, options: Mapping[str, Any], password: str | None) -> SentinelRedis:
    """options: of a connection to the master. password: the Sentinels' own."""
    secure = issubclass(options.get("connection_class", Connection), VerifiedConnection)
    asking = {key: options[key] for key in ("socket_connect_timeout", "socket_timeout", "retry")}
    if secure:
        asking |= {key: options[key] for key in ("connection_class", "context")}
    sentinels = _Sentinels(
        [
            Redis.from_pool(ConnectionPool(**asking, host=host, port=port, password=password, decode_responses=True))
            for host, port in nodes
        ],
        [f"{host}:{port}" for host, port in nodes],
    )
    managed = dict(options) | {"connection_class": _VerifiedManaged if secure else SentinelManagedConnection}
    pool = _Pool(service, sentinels, **managed)  # type: ignore[no-untyped-call]
    client = SentinelRedis(connection_pool=pool)
    client.auto_close_connection_pool = True
    client.sentinels = sentinels
    return client
