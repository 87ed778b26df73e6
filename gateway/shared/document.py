"""Something small that all gateways share, kept in Redis as one document with a version.

It is changed in one transaction from what is stored to what shall be. A Redis that lost it, all or its last second,
gets back what a gateway knows: `line` is drawn with the first change, so that a document which somebody began anew is
told from an older copy of the same.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from redis.asyncio import Redis

from gateway.shared.replica import Shared
from gateway.shared.transaction import transact


class Versioned(msgspec.Struct, frozen=True, omit_defaults=True):
    """What every such document has. version: grows with each change; 0: nothing was ever changed."""

    version: int = 0
    line: str = ""


D = TypeVar("D", bound=Versioned)


@dataclass(frozen=True, slots=True)
class Document(Generic[D]):
    """name: in keys and metrics. what: in sentences. kind: its type, whose defaults are what stands before a change."""

    name: str
    what: str
    kind: type[D]

    @property
    def _state(self) -> str:
        return f"bestow:{{{self.name}}}:state"

    @property
    def _version(self) -> str:
        return f"bestow:{{{self.name}}}:version"

    async def read_version(self, redis: Redis) -> int:
        """0 where nothing was ever changed."""
        return int(await redis.get(self._version) or 0)

    async def read(self, redis: Redis) -> D:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.get(self._version)
            pipe.get(self._state)
            version, state = await pipe.execute()
        return self._decoded(version, state)

    async def change(self, redis: Redis, known: D | None, decide: Callable[[D], D]) -> D:
        """Make `decide` true, as if nobody else were changing anything, and return what is stored then.

        known: what this gateway holds, from which Redis gets back what it lost. Raises RedisError and what `decide`
        raises.
        """

        async def attempt(pipe: Any) -> D:
            stored = self._decoded(await pipe.get(self._version), await pipe.get(self._state))
            base, _ = self.succeed(known, stored)
            decided = decide(base)
            if decided == stored:
                return stored
            following = msgspec.structs.replace(
                decided, version=base.version + (decided != base), line=base.line or secrets.token_hex(8)
            )
            pipe.multi()
            pipe.set(self._state, msgspec.json.encode(following))
            pipe.set(self._version, following.version)
            return following

        return await transact(redis, self._version, attempt, f"the {self.what}")

    async def restore(self, redis: Redis, known: D) -> None:
        """Give Redis back what it has lost."""
        await self.change(redis, known, lambda state: state)

    def succeed(self, known: D | None, found: D) -> tuple[D, str | None]:
        """What to hold after reading `found` where `known` was held, and what is odd about it.

        A Redis that lost its data, all or its last second, takes nothing away.
        """
        lost = known is not None and known.version > found.version and found.line in ("", known.line)
        if known is None or not lost:
            return found, None
        return known, f"Redis has lost changes of {self.what} that this gateway knows; it gets them back"

    def shared(self) -> Shared[D]:
        """How a replica of it is kept."""
        read: Callable[[Redis], Awaitable[D]] = self.read
        return Shared(self.name, self.what, self.kind, self.read_version, read, self.succeed, self.restore)

    def _decoded(self, version: bytes | None, state: bytes | None) -> D:
        found = msgspec.json.decode(state, type=self.kind) if state else self.kind()
        return msgspec.structs.replace(found, version=int(version or 0))
