"""One leader at a time, in front of a real Redis, and a number that tells an earlier one off."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.release.leader import Leader
from tests.gateway.log.conftest import RedisServer
from tests.waiting import until

HOLD_S = 0.6


@asynccontextmanager
async def leader(redis: Redis, *, least: int = 0, frozen: bool = False) -> AsyncIterator[Leader]:
    one = Leader(redis, "t", lambda: least, hold_s=HOLD_S)
    try:
        yield one
    finally:
        if frozen:
            one._fence = None
        await one.close()


async def die(one: Leader) -> None:
    """As by kill -9: it renews nothing any more and lets nothing go."""
    assert one._keeping is not None
    one._keeping.cancel()
    await asyncio.gather(one._keeping, return_exceptions=True)


async def test_only_one_leads_for_as_long_as_it_lives(redis_server: RedisServer, redis: Redis) -> None:
    async with leader(redis) as first, leader(redis) as second:
        fence = await first.lead()
        assert fence is not None and await second.lead() is None
        await asyncio.sleep(2 * HOLD_S)  # Longer than the lock alone would last.
        assert await first.lead() == first.fence == fence
        assert await second.lead() is None and second.fence is None


async def test_another_takes_over_from_a_dead_one_within_the_holding_time_and_with_a_higher_number(
    redis_server: RedisServer, redis: Redis
) -> None:
    async with leader(redis, frozen=True) as first, leader(redis) as second:
        fence = await first.lead()
        assert fence is not None
        await die(first)
        died = time.monotonic()

        async def leads() -> bool:
            return await second.lead() is not None

        await until(leads)
        assert time.monotonic() - died < 2 * HOLD_S
        assert second.fence is not None and second.fence > fence
        assert first.fence is None  # By its own clock, before the other could.


async def test_a_leader_that_lets_go_hands_over_at_once(redis_server: RedisServer, redis: Redis) -> None:
    async with leader(redis) as first, leader(redis) as second:
        assert await first.lead()
        await first.close()
        assert await second.lead()


async def test_a_leader_that_cannot_renew_takes_itself_for_none(redis_server: RedisServer, redis: Redis) -> None:
    async with leader(redis, frozen=True) as one:
        assert await one.lead()
        redis_server.kill()
        await until(lambda: one.fence is None)
        with pytest.raises((RedisError, TimeoutError, OSError)):
            await one.lead()


async def test_one_whose_lock_another_has_learns_it_when_it_renews(redis_server: RedisServer, redis: Redis) -> None:
    async with leader(redis, frozen=True) as first, leader(redis) as second:
        assert await first.lead()
        await redis.delete("bestow:{leader-t}:lock")
        fence = await second.lead()
        assert fence is not None
        await until(lambda: first.fence is None)
        assert await first.lead() is None and second.fence == fence


async def test_a_redis_that_lost_the_number_gives_none_that_was_used(redis_server: RedisServer, redis: Redis) -> None:
    async with leader(redis, least=41) as one:
        assert await one.lead() == 42
