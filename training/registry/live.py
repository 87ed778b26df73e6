"""Who serves now, by what all gateways share in Redis."""

import asyncio

from redis.exceptions import RedisError

from gateway.config import Config
from gateway.errors import BestowError
from gateway.log.connection import connect, redis_address
from gateway.release.state import RELEASES, ModelRelease, ReleaseState
from training.errors import TrainingError


def read_state(settings: Config) -> ReleaseState:
    """Raises TrainingError where Redis does not answer, or has what this Bestow cannot read."""
    address = redis_address(settings.redis)

    async def read() -> ReleaseState:
        async with connect(address) as client:
            return await RELEASES.read(client)

    try:
        return asyncio.run(read())
    except (RedisError, OSError, ValueError, BestowError) as error:  # msgspec's errors are ValueErrors
        why = " ".join(str(error).split()) or type(error).__name__
        raise TrainingError(f"Redis at {address.shown} cannot say what serves: {why.rstrip('.')}.") from None


def roles(state: ReleaseState) -> dict[int, list[str]]:
    """By a release's number, what it is to whom: champion of bestow-demo, ..."""
    found: dict[int, list[str]] = {}
    for model, one in sorted(state.models.items()):
        for number, what in _roles_of(one):
            if number:
                found.setdefault(number, []).append(f"{what} of {model}")
    return found


def _roles_of(one: ModelRelease) -> list[tuple[int, str]]:
    named = [(one.champion.release, "champion")]
    if one.canary is not None:
        if one.canary.bundle.release != one.champion.release:
            named.append((one.canary.bundle.release, f"challenger ({one.canary.phase})"))
        if one.canary.control.release != one.champion.release:
            named.append((one.canary.control.release, "hold-back"))
    told = {number for number, _ in named}
    return named + [(bundle.release, "rollback") for bundle in one.previous if bundle.release not in told]
