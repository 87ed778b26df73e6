"""Redis Cluster, as a client that everything here uses like one server.

All that we keep is under hash tags (`keys`), so that each command, pipeline and transaction needs one slot only. A slot
has a pool of its own, whose connections find out who serves it when they connect; a reply that says that somebody else
does (MOVED) closes the connection and is tried once more. So a failover or a moved slot is followed at once.

redis-py's own cluster client is not used: its transactions block the event loop while a thread runs another one (8.1),
and it sends again by itself what may have been done already. What it has and this has not: commands over several slots.
While an operator moves a slot key by key, keys that have gone are refused (ASK) until the slot has moved.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.log.redis_url import Node
from gateway.log.verified import VerifiedConnection

# However many connections are made at once, the cluster is asked this often who serves what, unless something failed.
KNOWN_FOR_S = 1.0

_EVERY_SERVER = {"BGREWRITEAOF", "CONFIG SET", "FLUSHALL", "FLUSHDB", "SCRIPT FLUSH", "SCRIPT LOAD"}
_WITHOUT_KEY = {
    *("ACL", "AUTH", "BGREWRITEAOF", "BGSAVE", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DBSIZE", "DISCARD", "ECHO"),
    *("EXEC", "FLUSHALL", "FLUSHDB", "INFO", "KEYS", "LASTSAVE", "LATENCY", "MODULE", "MULTI", "PING", "RANDOMKEY"),
    *("ROLE", "SAVE", "SCAN", "SCRIPT", "SLOWLOG", "TIME", "UNWATCH", "WAIT"),
}
_OF_SCRIPTS = {"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO"}
_BEHIND_STREAMS = {"XREAD", "XREADGROUP"}


class SlotMoved(RedisConnectionError):
    """Another server has the slot now. Nothing was done."""


@dataclass(frozen=True, slots=True)
class _Range:
    first: int
    last: int
    node: Node


class _Map:
    """Who serves which slot. options: of a connection to any server of the cluster."""

    def __init__(self, seeds: Sequence[Node], options: Mapping[str, Any]) -> None:
        self._seeds = list(seeds)
        self._ask_first: list[Node] = list(seeds)
        self._options = dict(options)
        self._class: type[Connection] = self._options.pop("connection_class", Connection)
        self._ranges: list[_Range] = []
        self._read_at: float | None = None
        self._lock = asyncio.Lock()

    async def owner(self, slot: int) -> Node:
        """Raises RedisError where no server of the cluster tells, or none serves the slot."""
        found = next((one.node for one in await self._known() if one.first <= slot <= one.last), None)
        if found is None:
            self.doubt(None)
            raise RedisConnectionError(f"no server of the cluster has the slot {slot}")
        return found

    def serves(self, slot: int, node: Node) -> bool:
        """As far as is known: what the cluster said last, or nothing."""
        return any(one.node == node and one.first <= slot <= one.last for one in self._ranges) or not self._ranges

    async def masters(self) -> dict[Node, int]:
        """Each server that has slots, and one of these. Raises RedisError."""
        return {one.node: one.first for one in await self._known()}

    def doubt(self, node: Node | None) -> None:
        """Ask again before the next connection; `node`, which failed, last."""
        self._read_at = None
        if node in self._ask_first:
            self._ask_first.remove(node)
            self._ask_first.append(node)

    def prefer(self, node: Node) -> None:
        """Ask again before the next connection; `node` first, since others may not have heard yet that it took over."""
        self._read_at = None
        self._ask_first = [node, *(other for other in self._ask_first if other != node)]

    async def _known(self) -> Sequence[_Range]:
        async with self._lock:
            if self._read_at is None or time.monotonic() - self._read_at > KNOWN_FOR_S:
                self._ranges = await self._read()
                self._read_at = time.monotonic()
                served = list(dict.fromkeys(one.node for one in self._ranges))
                known = [node for node in self._ask_first if node in served]
                others = [node for node in (*served, *self._seeds) if node not in known]
                self._ask_first = list(dict.fromkeys([*known, *others]))
            return self._ranges

    async def _read(self) -> list[_Range]:
        failures = []
        for node in list(self._ask_first):
            try:
                return await self._read_from(node)
            except (RedisConnectionError, RedisTimeoutError) as error:
                failures.append(str(error))
                self.doubt(node)
            except asyncio.CancelledError:  # Whoever asked has waited long enough: for it perhaps.
                self.doubt(node)
                raise
        raise RedisConnectionError(f"no server of the cluster answers: {'; '.join(failures)}")

    async def _read_from(self, node: Node) -> list[_Range]:
        connection = self._class(**self._options, host=node[0], port=node[1])
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("CLUSTER SLOTS")
            reply = await connection.read_response()
        except ResponseError as error:
            if "cluster support disabled" in str(error):
                raise RedisError(
                    f"{node[0]}:{node[1]} is no server of a cluster: leave +cluster out of its address"
                ) from None
            raise
        finally:
            await connection.disconnect()
        return [_range(row, node[0]) for row in reply]


def _range(row: Sequence[Any], asked: str) -> _Range:
    """From a row of CLUSTER SLOTS. A server that does not know its own address is where it was asked."""
    host = row[2][0].decode() if row[2][0] else ""
    return _Range(int(row[0]), int(row[1]), (asked if host in ("", "?") else host, int(row[2][1])))


class _SlotConnection(Connection):
    """To whoever serves a slot."""

    def __init__(self, *, slots: _Map, slot: int, **options: Any) -> None:
        super().__init__(**options)
        self.slots = slots
        self.slot = slot

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if self.is_connected:
            return
        self.host, self.port = node = await self.slots.owner(self.slot)
        try:
            await super().connect_check_health(check_health, retry_socket_connect)
        except (RedisConnectionError, RedisTimeoutError):
            self.slots.doubt(node)
            raise

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*arguments, **options)
        except MovedError as error:
            self.slots.prefer((error.host or self.host, error.port))
            await self.disconnect()
            raise SlotMoved(f"{self.host}:{self.port} has handed over to {error.host}:{error.port}") from error
        except (RedisConnectionError, RedisTimeoutError, asyncio.CancelledError):
            self.slots.doubt((self.host, self.port))
            raise


class _VerifiedSlotConnection(_SlotConnection, VerifiedConnection):
    """To whoever serves a slot, over TLS."""


class _SlotPool(ConnectionPool):
    """Connections to whoever serves a slot.

    Where it is known that another server has taken over, those to the one before are not used: for what has no key
    (INFO, SCRIPT LOAD) it would answer as if it were still the one.
    """

    async def ensure_connection(self, connection: Any) -> None:
        node = (connection.host, connection.port)
        if connection.is_connected and not connection.slots.serves(connection.slot, node):
            await connection.disconnect()
        await super().ensure_connection(connection)


class ClusterRedis(Redis):
    """nodes: some servers of the cluster. options: of a connection to any of them.

    A command without a key goes to one server, or to every master where it changes something (`_EVERY_SERVER`).
    """

    def __init__(self, nodes: Sequence[Node], options: Mapping[str, Any]) -> None:
        secure = issubclass(options.get("connection_class", Connection), VerifiedConnection)
        self._slots = _Map(nodes, options)
        self._options = dict(options) | {
            "connection_class": _VerifiedSlotConnection if secure else _SlotConnection,
            "slots": self._slots,
            "retry": Retry(NoBackoff(), 1, supported_errors=(SlotMoved,)),
        }
        self._by_slot: dict[int, Redis] = {}
        super().__init__(connection_pool=_SlotPool(**self._options, slot=0))
        self.auto_close_connection_pool = True

    def serving(self, key: str | bytes) -> Redis:
        """The server that holds a key."""
        return self._of(key_slot(key.encode() if isinstance(key, str) else key))

    async def servers(self) -> dict[str, Redis]:
        """Every master, by its address. Raises RedisError."""
        return {f"{host}:{port}": self._of(slot) for (host, port), slot in (await self._slots.masters()).items()}

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        key = key_of(args)
        if key is not None:
            return await _executed(self.serving(key), args, options)
        if command_name(args) in _EVERY_SERVER:
            replies = [await _executed(one, args, options) for one in (await self.servers()).values()]
            return replies[0]
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    async def scan_iter(  # type: ignore[override]
        self, *arguments: Any, **options: Any
    ) -> AsyncIterator[Any]:
        for server in (await self.servers()).values():
            async for key in server.scan_iter(*arguments, **options):
                yield key

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return _SlotPipeline(self, transaction, shard_hint)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        for server in self._by_slot.values():
            await server.aclose(close_connection_pool)
        await super().aclose(close_connection_pool)

    def _of(self, slot: int) -> Redis:
        if slot not in self._by_slot:
            self._by_slot[slot] = Redis.from_pool(_SlotPool(**self._options, slot=slot))
        return self._by_slot[slot]


class _SlotPipeline(Pipeline):
    """All its keys are in one slot; it learns which from its first command."""

    def __init__(self, cluster: ClusterRedis, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, transaction, shard_hint)
        self._cluster = cluster
        self._serving: Redis | None = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        key = key_of(args)
        if key is not None:
            serving = self._cluster.serving(key)
            if self._serving not in (None, serving):
                raise RedisError("the keys of one pipeline must have one hash tag: a cluster keeps others elsewhere")
            self._serving, self.connection_pool = serving, serving.connection_pool
        return super().execute_command(*args, **options)

    async def reset(self) -> None:  # type: ignore[override]
        await super().reset()  # type: ignore[no-untyped-call]
        self._serving = None


async def _executed(server: Redis, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    return await server.execute_command(*args, **options)  # type: ignore[no-untyped-call]


def serving(redis: Redis, key: str) -> Redis:
    """The server that holds a key: where it is no cluster, the client itself."""
    return redis.serving(key) if isinstance(redis, ClusterRedis) else redis


async def servers(redis: Redis) -> dict[str, Redis]:
    """Every server that holds keys: of a cluster all masters by their addresses, else the client itself, as "".

    Raises RedisError.
    """
    return await redis.servers() if isinstance(redis, ClusterRedis) else {"": redis}


def command_name(args: Sequence[Any]) -> str:
    """In capitals, with its second word where redis-py has it in the first argument ("SCRIPT LOAD")."""
    return (args[0].decode() if isinstance(args[0], bytes) else str(args[0])).upper()


def key_of(args: Sequence[Any]) -> str | bytes | None:
    """The first key that a command is about; None: it is about none."""
    name = command_name(args)
    if name.partition(" ")[0] in _WITHOUT_KEY or len(args) < 2:
        return None
    if name in _OF_SCRIPTS:
        found = args[3] if len(args) > 3 and int(args[2]) else None
    elif name in _BEHIND_STREAMS:
        words = [one.encode() if isinstance(one, str) else one for one in args]
        found = args[words.index(b"STREAMS") + 1]
    else:
        found = args[1]
    return found if isinstance(found, str | bytes) else None
