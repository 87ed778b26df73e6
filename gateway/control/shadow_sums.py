"""The sums of agreement in Redis: what each gateway process has counted, by the versions that it counted for.

Each process writes its own sums whole, so that a write which is sent twice counts once; readers add them up.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec
from redis.asyncio import Redis

from gateway.control.agreement import Agreement

# Of a scorer that nothing was counted for in so long, what was counted is forgotten.
KEPT_S = 90 * 86_400


class Pair(msgspec.Struct, frozen=True):
    """What was compared: a scorer's version with what decided by a profile's version. All name@N; decided: or none."""

    scorer: str
    profile: str
    decided: str

    @property
    def name(self) -> str:
        """The scorer's, without its version."""
        return self.scorer.rpartition("@")[0]


def key_of(name: str) -> str:
    return f"bestow:{{shadow}}:{name}"


async def write(redis: Redis, run: str, sums: Mapping[Pair, Agreement]) -> None:
    """run: of this process, like no other's. Raises RedisError."""
    async with redis.pipeline(transaction=False) as pipe:
        for pair, agreement in sums.items():
            field = msgspec.json.encode([run, pair.scorer, pair.profile, pair.decided])
            pipe.hset(key_of(pair.name), field, msgspec.json.encode(agreement))
            pipe.expire(key_of(pair.name), KEPT_S)
        await pipe.execute()


async def read(redis: Redis, names: Iterable[str], but: str) -> dict[Pair, Agreement]:
    """What all processes but the run `but` have counted for these scorers. Raises RedisError."""
    wanted = list(names)
    async with redis.pipeline(transaction=False) as pipe:
        for name in wanted:
            pipe.hgetall(key_of(name))
        found = await pipe.execute()
    sums: defaultdict[Pair, Agreement] = defaultdict(Agreement)
    for fields in found:
        for field, value in fields.items():
            try:
                run, scorer, profile, decided = msgspec.json.decode(field, type=tuple[str, str, str, str])
                agreement = msgspec.json.decode(value, type=Agreement)
            except msgspec.DecodeError:  # of another release
                continue
            if run != but:
                sums[Pair(scorer, profile, decided)] += agreement
    return dict(sums)
