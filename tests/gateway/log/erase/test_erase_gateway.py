"""A whole gateway: a person who uses it is erased from it, by its own hand."""

import time
from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis

from gateway.log import streams
from gateway.log.erase.erasing import order_erasure
from gateway.log.erase.ledger import Ledger
from gateway.log.erase.runner import EraseRunner
from gateway.log.keys import interactions_key
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.erase.people import ledger_of, traces
from tests.gateway.log.log_samples import SHARD
from tests.waiting import until


async def ask(harness: Harness, user: str, key: str | None = None) -> dict[str, Any]:
    headers = {"idempotency-key": key} if key else {}
    body = {"model": "m", "messages": [{"role": "user", "content": f"prompt-of-{user}"}], "user": user}
    async with harness.session.post("/v1/chat/completions", json=body, headers=headers) as reply:
        assert reply.status == 200
        found: dict[str, Any] = await reply.json()
        return found


async def respond(session: aiohttp.ClientSession, user: str, previous: str | None = None) -> dict[str, Any]:
    body = {"model": "m", "input": f"prompt-of-{user}", "user": user, "previous_response_id": previous}
    async with session.post("/v1/responses", json={key: value for key, value in body.items() if value}) as reply:
        assert reply.status == 200
        found: dict[str, Any] = await reply.json()
        return found


async def erase(redis: Redis, harness: Harness, folder: Path, user: str) -> None:
    """Order it, and let the gateway do it."""
    hashed = harness.app.state.signer.hash_user(user)
    log = harness.service.config.log
    await order_erasure(redis, log, folder, "default", hashed, by="test", now=time.time())
    erasing: EraseRunner = harness.app.state.erasing
    erasing.look_now()
    await until(lambda: all_done(ledger_of(redis, folder)), 60.0)


async def all_done(ledger: Ledger) -> bool:
    return [one.status for one in await ledger.orders()] == ["done"]


async def test_a_gateway_carries_out_an_order_and_forgets_what_it_holds_in_memory(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as harness:
        for user in ("ada", "bob"):
            await ask(harness, user, key=f"key-of-{user}")
            first = await respond(harness.session, user)
            await respond(harness.session, user, first["id"])
        nobodys = await respond(harness.session, "", first["id"])
        assert await harness.service.log.drained(10)
        sampled = len(harness.worker.requests)
        assert await ask(harness, "ada", key="key-of-ada")
        assert len(harness.worker.requests) == sampled  # Replayed.
        await erase(redis, harness, tmp_path, "ada")
        hashed = harness.app.state.signer.hash_user("ada").encode()
        assert await traces(redis, [tmp_path / "journal", tmp_path / "archive"], [hashed, b"prompt-of-ada"]) == []
        read = [one.record async for one in streams.interactions(redis, SHARD).after()]
        assert len(read) == 4
        async with harness.session.get(f"/v1/responses/{nobodys['id']}") as reply:
            assert reply.status == 200
        await ask(harness, "ada", key="key-of-ada")
        assert len(harness.worker.requests) == sampled + 1  # Not replayed: it is forgotten here, too.
        await until(lambda: harness.metric("bestow_erasures_total", status="done") == 1)
        assert harness.metric("bestow_log_erased_total") == 3


async def test_a_response_that_continues_an_erased_one_goes_whoever_made_it(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as harness:
        first = await respond(harness.session, "ada")
        await respond(harness.session, "", first["id"])
        await respond(harness.session, "bob")
        assert len([key async for key in redis.scan_iter(match="bestow:{responses}:*")]) == 3
        await erase(redis, harness, tmp_path, "ada")
        assert len([key async for key in redis.scan_iter(match="bestow:{responses}:*")]) == 1


async def test_a_gateway_that_starts_on_an_old_copy_of_redis_erases_again(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    ledger = ledger_of(redis, tmp_path)
    async with running_gateway(tmp_path, redis_url=redis_server.url) as harness:
        for user in ("ada", "bob"):
            await ask(harness, user)
        assert await harness.service.log.drained(10)
        old = {key: await redis.dump(key) async for key in redis.scan_iter()}
        await erase(redis, harness, tmp_path, "ada")
        # Redis hears of it before the archive does, from which it comes back.
        await until(lambda: harness.metric("bestow_erasures_total", status="done") == 1)
    await redis.flushall()
    for key, value in old.items():
        await redis.restore(key, 0, value or b"")
    assert await redis.xlen(interactions_key(SHARD)) == 2
    async with running_gateway(tmp_path, redis_url=redis_server.url):
        await until(lambda: all_done(ledger), 60.0)
        assert await redis.xlen(interactions_key(SHARD)) == 1
        assert [one.replays for one in await ledger.orders()] == [1]
