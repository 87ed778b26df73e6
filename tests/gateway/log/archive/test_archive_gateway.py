"""A whole gateway whose log has been archived."""

from pathlib import Path

from redis.asyncio import Redis

from gateway.log.keys import votes_key
from tests.gateway.harness import running_gateway
from tests.gateway.log.archive.archiving import archive, archive_in, interactions_read, store_in
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import SHARD


async def test_feedback_is_told_and_changed_after_its_interaction_was_archived(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:

        async def say(user: str, value: bool) -> None:
            body = {"id": answer, "kind": "thumbs", "user": user, "value": value}
            async with gateway.session.post("/v1/feedback", json=body) as reply:
                assert reply.status == 202

        async def told() -> list[bool]:
            async with gateway.session.get(f"/v1/feedback/{answer}") as reply:
                found = await reply.json()
            assert not found["partial"]
            return [vote["value"] for vote in found["data"]]

        answer = (await gateway.chat())[2]["id"]
        await say("ada", True)
        await say("bob", True)
        assert await gateway.service.log.drained(10)
        await archive(redis, store_in(tmp_path))
        assert not await redis.exists(votes_key(SHARD, answer))
        assert await told() == [True, True]
        await say("ada", False)
        assert await told() == [True, False]
        assert await gateway.service.log.drained(10)
        await archive(redis, store_in(tmp_path))
        assert await told() == [True, False]
        assert gateway.metric("bestow_archive_rounds_total", result="failed") == 0
    assert [one.id for one in (await interactions_read(redis, archive_in(tmp_path)))[0]] == [answer]
