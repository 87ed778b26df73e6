"""Batches and imports of votes: checked a line at a time, stored once, noted in the audit log."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from gateway.access.cache import cache_file, save
from gateway.access.caller import Scope
from gateway.access.keys import make_key
from gateway.access.snapshot import Snapshot, Tenant
from gateway.errors import StartError
from gateway.feedback import import_command
from gateway.feedback.commands import feedback_app
from gateway.feedback.import_command import Batch, read, send
from gateway.ids import new_completion_id, new_uuid7, unix_seconds, uuid7_at
from gateway.log.keys import audit_key, votes_key
from gateway.log.records import Feedback
from gateway.log.streams import feedback
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer, redis_server, stopped_redis  # noqa: F401
from tests.waiting import until


def issued(gateway: Harness, tenant: str = "default") -> str:
    return new_completion_id(gateway.service.signer.tag(tenant))


async def post(
    gateway: Harness, body: Any, query: str = "", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with gateway.session.post(f"/v1/feedback/batch{query}", data=data, headers=headers) as reply:
        return reply.status, await reply.json()


def lines(*votes: Any) -> bytes:
    return b"\n".join(vote if isinstance(vote, bytes) else json.dumps(vote).encode() for vote in votes)


def thumb(identifier: str, **fields: Any) -> dict[str, Any]:
    return {"id": identifier, "kind": "thumbs", "value": True, **fields}


def votes(gateway: Harness) -> list[Feedback]:
    return [record for record in gateway.accepted if isinstance(record, Feedback)]


def test_an_id_of_a_moment_tells_it_and_sorts_by_it() -> None:
    moment = 1_700_000_000.123_456
    assert uuid7_at(moment, b"12345678") == uuid7_at(moment, b"12345678") != uuid7_at(moment, b"other..8")
    assert abs(unix_seconds(uuid7_at(moment, b"12345678")) - moment) < 0.001
    assert uuid7_at(moment, b"\xff" * 8) < uuid7_at(moment + 0.000_01, b"\x00" * 8) < new_uuid7()


async def test_a_bad_line_is_named_and_loses_no_other(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        first, second = issued(gateway), issued(gateway)
        body = lines(
            thumb(first),
            b"",
            b'{"id": ',
            {"id": first, "kind": "rating", "value": 9},
            {"id": second, "kind": "flag", "value": "boring"},
            thumb(new_completion_id()),
            [1],
            thumb(second, colour="red"),
            thumb(second, token="bft_x.y"),
            {"id": second, "kind": "rating", "value": 8, "retracted": True},
        )
        status, answer = await post(gateway, body)
        assert (status, answer["accepted"], answer["failed"]) == (202, 2, 7)
        said = {one["line"]: one["status"] for one in answer["data"]}
        assert said == {1: "accepted", **dict.fromkeys(range(3, 10), "error"), 10: "retracted"}
        wrong = {one["line"]: (one["error"]["param"], one["error"]["code"]) for one in answer["data"] if "error" in one}
        assert wrong[3][1] == "invalid_json"
        assert [wrong[line][0] for line in (4, 5, 6, 8, 9)] == ["value", "value", "id", "colour", "token"]
        message = next(one["error"]["message"] for one in answer["data"] if one["line"] == 5)
        assert "hallucination" in message and "feedback.flag_reasons" in message
        assert [(vote.interaction, vote.retracted) for vote in votes(gateway)] == [(first, False), (second, True)]


async def test_an_object_with_data_is_a_batch_too(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        status, answer = await post(gateway, {"data": [thumb(issued(gateway)), "nothing"]})
        assert status == 202
        assert [one["status"] for one in answer["data"]] == ["accepted", "error"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b" \n ", "no body"),
        (b'{"data": []}', "at least one"),
        (b'{"data": {}}', "a list"),
        (b'{"data": [], "more": 1}', "one field"),
        (b"{}\n" * 1001, "at most 1000"),
    ],
)
async def test_what_is_no_batch_is_a_400(tmp_path: Path, body: bytes, says: str) -> None:
    async with running_gateway(tmp_path) as gateway:
        status, answer = await post(gateway, body)
        assert status == 400
        assert says in answer["error"]["message"]


async def test_a_dry_run_says_the_same_and_stores_nothing(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        body = lines(thumb(issued(gateway)), thumb("chatcmpl-1"))
        status, answer = await post(gateway, body, "?dry_run=true")
        assert (status, answer["dry_run"]) == (202, True)
        assert [one["status"] for one in answer["data"]] == ["valid", "error"]
        assert not votes(gateway)
        assert (await post(gateway, body, "?dry_run=maybe"))[0] == 400


@pytest.mark.parametrize(
    ("created", "says"),
    [
        (timedelta(hours=1), "future"),
        (timedelta(days=-1), "before the answer"),
        ("yesterday", "no time"),
        ("2026-01-31T12:00:00", "no time"),
        (1e300, "future"),
        ("0001-01-01T00:00:00+23:59", "no time|before"),
    ],
)
async def test_when_it_was_said_is_checked(tmp_path: Path, created: Any, says: str) -> None:
    """A timedelta: from now on."""
    said = time.time() + created.total_seconds() if isinstance(created, timedelta) else created
    async with running_gateway(tmp_path) as gateway:
        _, answer = await post(gateway, lines(thumb(issued(gateway), created=said)))
        [line] = answer["data"]
        assert line["error"]["param"] == "created"
        assert any(word in line["error"]["message"] for word in says.split("|"))


async def test_another_tenants_answers_need_an_admin(tmp_path: Path) -> None:
    def key(name: str, tenant: str, scope: Scope) -> tuple[Any, str]:
        return make_key(name=name, tenant=tenant, scopes=(scope,), expires=None, created_by="", now=time.time())

    made = [key("app", "shop", "feedback"), key("root", "default", "admin"), key("chat", "shop", "chat")]
    save(cache_file(tmp_path), Snapshot(1, {record.id: record for record, _ in made}, {"shop": Tenant("shop")}))
    app, root, chat = ({"authorization": f"Bearer {secret}"} for _, secret in made)
    async with running_gateway(tmp_path) as gateway:
        body = lines(thumb(issued(gateway, "shop")))
        assert (await post(gateway, body))[0] == 401
        assert (await post(gateway, body, headers=chat))[0] == 403
        assert (await post(gateway, body, headers=app))[1]["accepted"] == 1
        assert (await post(gateway, body, "?tenant=default", headers=app))[0] == 403
        assert (await post(gateway, body, headers=root))[1]["failed"] == 1
        # An import is noted before it is done, and there is no Redis to note it in.
        status, answer = await post(gateway, body, "?tenant=shop", headers=root)
        assert (status, answer["error"]["code"]) == (503, "audit_unavailable")
        assert [vote.tenant for vote in votes(gateway)] == ["shop"]


async def test_an_import_twice_is_one_record_a_line_and_the_later_vote_wins(
    tmp_path: Path,
    redis_server: RedisServer,  # noqa: F811
) -> None:
    async with running_gateway(tmp_path / "data", redis_url=redis_server.url) as gateway:
        redis: Redis = gateway.app.state.redis
        identifier = issued(gateway)
        said = unix_seconds(identifier)
        earlier = [
            thumb(identifier, user="ann", created=said + 0.001),
            thumb(identifier, user="bob", created=said + 0.002),
        ]
        async with gateway.session.post("/v1/feedback", json=thumb(identifier, user="ann", value=False)) as reply:
            assert reply.status == 202
        # The live vote's id has the gateway's time, which is behind what the lines say.
        first = (await post(gateway, lines(*earlier)))[1]
        again = (await post(gateway, {"data": earlier}))[1]
        assert [one["feedback_id"] for one in first["data"]] == [one["feedback_id"] for one in again["data"]]

        async def shipped() -> bool:
            return await feedback(redis, "0").length() == 5

        await until(shipped)
        records = [logged.record async for logged in feedback(redis, "0").after()]
        assert len(records) == 3
        assert await redis.hlen(votes_key("0", identifier)) == 2
        async with gateway.session.get(f"/v1/feedback/{identifier}") as reply:
            standing = {vote["user"]: vote["value"] for vote in (await reply.json())["data"]}
        signer = gateway.service.signer
        assert standing == {signer.hash_user("ann"): False, signer.hash_user("bob"): True}
        entries: Any = await redis.xrange(audit_key("0"))
        noted = [json.loads(fields[b"d"]) for _, fields in entries]
        assert [(one["action"], one["count"], one["tenant"]) for one in noted] == [("import", 2, "default")] * 2


async def test_votes_of_now_are_no_import(tmp_path: Path) -> None:
    """An app's own batches are taken while Redis is away, as single votes are."""
    async with running_gateway(tmp_path) as gateway:
        body = lines(thumb(issued(gateway)))
        assert (await post(gateway, body))[1]["accepted"] == 1
        old = lines(thumb(issued(gateway), created=time.time()))
        assert (await post(gateway, old))[0] == 503


# The command.


def test_a_file_is_read_in_batches_with_its_line_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_command, "_LINES", 2)
    file = tmp_path / "votes.jsonl"
    file.write_bytes(
        lines({"id": "a", "created": 1}, b"", b"{", {"id": "b"}, {"id": "c", "created": 2}, b"\xff", b"[]")
    )
    first, last = read(file, None)
    assert (first.numbers, [vote["id"] for vote in first.votes]) == ([1, 5], ["a", "c"])
    assert [number for number, _ in first.errors] == [3, 4]
    assert "--created" in first.errors[1][1]
    assert [number for number, _ in last.errors] == [6, 7]
    assert last.bytes == file.stat().st_size
    with_time = [vote["created"] for batch in read(file, "2026-01-31T12:00:00Z") for vote in batch.votes]
    assert with_time == [1, "2026-01-31T12:00:00Z", 2]


def test_what_cannot_be_stored_just_now_is_sent_again() -> None:
    sent: list[list[str]] = []

    def call(method: str, path: str, body: dict[str, Any]) -> Any:
        sent.append([vote["id"] for vote in body["data"]])
        full = {"line": 1, "status": "error", "error": {"code": "unavailable", "message": "later"}}
        wrong = {"line": 2, "status": "error", "error": {"code": "invalid_request", "message": "value: no"}}
        return {"data": [full, wrong, {"line": 3, "status": "accepted"}] if len(sent) == 1 else []}

    slept: list[float] = []
    batch = Batch(10, [4, 5, 6], [{"id": "a"}, {"id": "b"}, {"id": "c"}])
    summary = send(iter([batch]), "/", call, lambda _: None, slept.append)
    assert sent == [["a", "b", "c"], ["a"]]
    assert (summary.accepted, summary.errors, len(slept)) == (2, [(5, "value: no")], 1)


def test_a_gateway_that_leaves_in_the_middle_is_told_with_what_is_in() -> None:
    def batches() -> Iterator[Batch]:
        yield Batch(1, [1], [{"id": "a"}])
        yield Batch(2, [2], [{"id": "b"}])

    answers = iter([{"data": [{"line": 1, "status": "accepted"}]}])

    def call(method: str, path: str, body: dict[str, Any]) -> Any:
        found = next(answers, None)
        if found is None:
            raise StartError("It does not answer.")
        return found

    with pytest.raises(StartError, match="1 votes are in; import the file again: nothing is added twice"):
        send(batches(), "/", call, lambda _: None, lambda _: None)


async def test_the_command_imports_into_a_running_gateway(
    tmp_path: Path,
    redis_server: RedisServer,  # noqa: F811
) -> None:
    async with running_gateway(tmp_path / "data", redis_url=redis_server.url) as gateway:
        file = tmp_path / "votes.jsonl"
        good = thumb(issued(gateway), created=time.time(), user="ann")
        file.write_bytes(lines(good, thumb("chatcmpl-1", created=time.time()), b"{"))

        async def run(*options: str) -> Any:
            arguments = ["import", str(file), "--url", gateway.url, *options]
            return await asyncio.to_thread(CliRunner().invoke, feedback_app, arguments)

        dry = await run("--dry-run")
        assert "1 votes would be accepted, 2 refused." in dry.output
        assert not votes(gateway)
        result = await run()
        assert result.exit_code == 1
        assert f"{file}:2: id: it is not the id of an answer" in result.output
        assert f"{file}:3: it is not valid JSON" in result.output
        assert "1 votes accepted, 2 refused." in result.output
        [vote] = votes(gateway)
        assert vote.user == gateway.service.signer.hash_user("ann")
        file.write_bytes(lines(good))
        again = await run("--json")
        assert (again.exit_code, json.loads(again.stdout)["accepted"]) == (0, 1)
        assert votes(gateway)[1].id == vote.id


def test_a_time_without_its_zone_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(feedback_app, ["import", "votes.jsonl", "--created", "2026-01-31T12:00:00"])
    assert result.exit_code == 2
    assert "time zone" in result.output
