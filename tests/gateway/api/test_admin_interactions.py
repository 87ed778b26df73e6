"""/admin/v1/interactions in front of a real Redis, stream and archive."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.api.admin import interactions
from gateway.ids import new_completion_id
from gateway.log import audit
from gateway.log.audit import AuditEntry
from gateway.log.keys import audit_key, interactions_key
from gateway.log.records import Interaction
from tests.gateway.api.test_admin_keys import call, make
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.archive.archiving import archive, send, store_in
from tests.gateway.log.conftest import RedisServer, redis, redis_server, stopped_redis
from tests.gateway.log.log_samples import SHARD, interaction, thumb

__all__ = ["redis", "redis_server", "stopped_redis"]

PATH = "/admin/v1/interactions"


async def found(gateway: Harness, key: str | None = None, **query: Any) -> list[str]:
    status, answer = await call(gateway, "GET", PATH, key, params=query)
    assert status == 200, answer
    return [one["id"] for one in answer["data"]]


async def noted(redis: Redis) -> list[AuditEntry]:
    read = [audit.decode(data) async for _, data in audit.entries(redis, SHARD)]
    return [one for one in read if one is not None]


def spoken(text: str, **changes: Any) -> Interaction:
    return interaction(messages=[{"role": "user", "content": text}], **changes)


async def test_a_chat_is_found_read_and_noted(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        answer = (await gateway.chat("Where is Rome?", user="ada@x.org"))[2]
        await gateway.chat("Where is Oslo?", user="bob")
        vote = {"id": answer["id"], "kind": "thumbs", "value": False, "user": "ada@x.org", "comment": "Too short."}
        assert (await call(gateway, "POST", "/v1/feedback", json=vote))[0] == 202
        assert await gateway.service.log.drained(10)
        assert await found(gateway, text="ROME where") == [answer["id"]]
        assert await found(gateway, user="ada@x.org") == [answer["id"]]
        assert await found(gateway, feedback="down", text="too short") == [answer["id"]]
        assert await found(gateway, user="nobody") == []
        for identifier in (answer["id"], answer["id"].replace("chatcmpl-", "resp_")):
            status, read = await call(gateway, "GET", f"{PATH}/{identifier}")
            assert (status, read["object"], read["id"]) == (200, "interaction", answer["id"])
            assert read["interaction"]["messages"] == [{"role": "user", "content": "Where is Rome?"}]
            assert [one["comment"] for one in read["feedback"]] == ["Too short."]
    entries = await noted(redis)
    assert [(one.actor, one.action, one.count) for one in entries[:4]] == [
        ("anonymous", "search", 1),
        ("anonymous", "search", 1),
        ("anonymous", "search", 1),
        ("anonymous", "search", 0),
    ]
    assert [(one.action, one.target, one.tenant) for one in entries[4:]] == [("read", answer["id"], "default")] * 2
    assert entries[1].target.startswith("subject ") and "ada@" not in entries[1].target


async def test_pages_join_without_gap_or_double(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    records = [interaction() for _ in range(12)]
    await send(redis, *records[:7])
    await archive(redis, store_in(tmp_path))
    await send(redis, *records[7:])
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        read: list[str] = []
        after: str | None = None
        while True:
            query = {"limit": "3"} | ({"after": after} if after else {})
            _, page = await call(gateway, "GET", PATH, params=query)
            read += [one["id"] for one in page["data"]]
            after = page["after"]
            assert page["has_more"] == (after is not None)
            if after is None:
                break
    assert read == [record.id for record in reversed(records)]


async def test_a_long_search_answers_in_parts(
    redis_server: RedisServer, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactions, "LOOK_S", 0.0)
    await send(redis, first := spoken("needle"), *[interaction() for _ in range(150)])
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        _, page = await call(gateway, "GET", PATH, params={"text": "needle"})
        assert (page["data"], page["has_more"]) == ([], True)
        assert await found(gateway, text="needle", after=page["after"]) == [first.id]


async def test_a_key_sees_its_own_tenants_records(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> None:
    await send(redis, own := interaction(tenant="acme"), other := interaction())
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        admin = (await make(gateway, None, scopes=["admin"]))["key"]
        assert (await call(gateway, "PUT", "/admin/v1/tenants/acme", admin, json={}))[0] == 200
        reader = await make(gateway, admin, scopes=["read-logs"], tenant="acme")
        tenants_admin = (await make(gateway, admin, scopes=["admin"], tenant="acme"))["key"]
        defaults_reader = (await make(gateway, admin, scopes=["read-logs"]))["key"]
        chatter = (await make(gateway, admin, scopes=["chat"], tenant="acme"))["key"]
        assert await found(gateway, admin) == [other.id, own.id]
        assert await found(gateway, admin, tenant="acme") == [own.id]
        for key in (reader["key"], tenants_admin):
            assert await found(gateway, key) == [own.id]
            assert (await call(gateway, "GET", f"{PATH}/{own.id}", key))[0] == 200
            status, said = await call(gateway, "GET", f"{PATH}/{other.id}", key)
            assert (status, said["error"]["code"]) == (404, "interaction_not_found")
            status, said = await call(gateway, "GET", PATH, key, params={"tenant": "default"})
            assert (status, said["error"]["param"]) == (403, "tenant")
        assert await found(gateway, defaults_reader) == [other.id]
        assert (await call(gateway, "GET", PATH, chatter))[0] == 403
        assert (await call(gateway, "GET", f"{PATH}/{own.id}", chatter))[0] == 403
    assert f"key:{reader['id']}" in {one.actor for one in await noted(redis)}


@pytest.mark.parametrize(
    ("param", "value", "said"),
    [
        ("limit", "0", ">= 1"),
        ("limit", "101", "<= 100"),
        ("limit", "many", "int"),
        ("after", "0-0", "regex"),
        ("after", "yesterday", "regex"),
        ("outcome", "good", "good"),
        ("feedback", "sideways", "sideways"),
        ("degraded", "perhaps", "bool"),
        ("min_reward", "high", "float"),
        ("min_reward", "nan", "finite"),
        ("since", "yesterday", "2027-03-01"),
        ("regex", "(", "RE2"),
        ("text", " ", "empty"),
        ("user", "", "empty"),
        ("colour", "red", "unknown field"),
    ],
)
async def test_a_wrong_parameter_is_named(tmp_path: Path, param: str, value: str, said: str) -> None:
    async with running_gateway(tmp_path) as gateway:
        status, answer = await call(gateway, "GET", PATH, params={param: value})
    assert (status, answer["error"]["param"]) == (400, param)
    assert said in answer["error"]["message"]


async def test_an_id_that_is_none_and_one_that_is_not_there(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        status, said = await call(gateway, "GET", f"{PATH}/4711")
        assert (status, said["error"]["param"]) == (400, "interaction")
        status, said = await call(gateway, "GET", f"{PATH}/{new_completion_id()}")
        assert (status, said["error"]["code"]) == (404, "interaction_not_found")


async def test_without_redis_or_without_the_audit_log_nothing_is_shown(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    await send(redis, record := spoken("secret"))
    await redis.set(audit_key(SHARD), "no stream")
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        for path in (PATH, f"{PATH}/{record.id}"):
            status, said = await call(gateway, "GET", path)
            assert (status, said["error"]["code"]) == (503, "audit_unavailable")
            assert "secret" not in str(said)
        redis_server.kill()
        for path in (PATH, f"{PATH}/{record.id}"):
            assert (await call(gateway, "GET", path))[1]["error"]["code"] == "log_unavailable"


async def test_what_is_in_the_archive_alone_is_read_by_its_id(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    await send(redis, record := interaction(), vote := thumb(record.id))
    await archive(redis, store_in(tmp_path))
    assert await redis.xlen(interactions_key(SHARD)) == 0
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        status, read = await call(gateway, "GET", f"{PATH}/{record.id}")
    assert (status, read["interaction"]) == (200, msgspec.to_builtins(record))
    assert [one["id"] for one in read["feedback"]] == [vote.id]
