"""Stored responses on a real Redis: tenants apart, expiry, size, and a Redis that is away or silent."""

import signal
import time

import pytest
from redis.asyncio import Redis

from gateway.api.responses import store as stores
from gateway.api.responses.store import ResponseStore, StoredResponse
from gateway.errors import Unavailable
from tests.gateway.log.conftest import RedisServer

UUID = "0199d0a1-7c3e-7abc-8def-0123456789ab"


def stored(text: str = "x", tenant: str = "acme") -> StoredResponse:
    return StoredResponse(tenant, [{"id": "a"}], [{"id": "b"}], {"id": f"resp_{UUID}", "output": [{"text": text}]})


@pytest.fixture
def store(redis_server: RedisServer, redis: Redis) -> ResponseStore:
    return ResponseStore(redis, 60)


async def test_what_was_put_is_got_until_it_expires(store: ResponseStore, redis: Redis) -> None:
    assert await store.put(UUID, stored()) == "stored"
    assert await store.get("acme", UUID) == stored()
    assert 0 < await redis.ttl(f"bestow:{{responses}}:acme:{UUID}") <= 60


async def test_a_conversation_is_history_input_and_output(store: ResponseStore) -> None:
    assert stored().conversation == [{"id": "a"}, {"id": "b"}, {"text": "x"}]


async def test_another_tenants_response_is_not_there(store: ResponseStore) -> None:
    await store.put(UUID, stored())
    assert await store.get("other", UUID) is None
    assert await store.delete("other", UUID) is False
    assert await store.delete("acme", UUID) is True
    assert await store.get("acme", UUID) is None


async def test_one_that_is_too_large_is_not_kept(store: ResponseStore, redis: Redis) -> None:
    assert await store.put(UUID, stored("x" * stores.MAX_BYTES)) == "too_large"
    assert await redis.dbsize() == 0


async def test_without_redis_putting_says_so_and_getting_is_unavailable(redis: Redis) -> None:
    store = ResponseStore(redis, 60)
    assert await store.put(UUID, stored()) == "unavailable"
    with pytest.raises(Unavailable) as caught:
        await store.get("acme", UUID)
    assert caught.value.retry_after is not None


async def test_a_silent_redis_is_waited_for_a_second(store: ResponseStore, redis_server: RedisServer) -> None:
    await store.put(UUID, stored())
    redis_server.signal(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        assert await store.put(UUID, stored()) == "unavailable"
        assert time.monotonic() - begun < stores.WITHIN_S + 0.5
    finally:
        redis_server.signal(signal.SIGCONT)
    assert await store.get("acme", UUID) == stored()
