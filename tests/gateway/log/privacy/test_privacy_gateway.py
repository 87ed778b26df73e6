"""Through a whole gateway: what is sent to it and must not be kept is in no byte of its journal."""

from pathlib import Path
from typing import Any

import pytest

from gateway.access.changes import set_tenant
from gateway.api.protocol import parse_chat
from gateway.errors import BadRequest
from gateway.log.frames import parse as parse_frames
from gateway.log.records import Feedback, Interaction, decode_feedback, decode_interaction, plain
from tests.fakes import FakeWorker
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer, redis_server, stopped_redis
from tests.gateway.log.privacy.corpus import LANGUAGES, samples

__all__ = ["redis_server", "stopped_redis"]

SECRETS = [one.text[one.spans[0].start : one.spans[0].end] for one in samples(1) if one.format == "chat"]
MARKS = [secret.encode() for secret in SECRETS]


def journal(data_dir: Path) -> bytes:
    """After the gateway has stopped: all bytes, and what compressed records say."""
    files = [path.read_bytes() for path in sorted((data_dir / "journal").glob("*.seg"))]
    entries = [entry for file in files for entry in parse_frames(file[8:], final=True).entries]
    return b"".join([*files, *(plain(entry.payload) for entry in entries)])


def journaled(data_dir: Path) -> tuple[list[Interaction], list[Feedback]]:
    interactions, votes = [], []
    for path in sorted((data_dir / "journal").glob("*.seg")):
        for entry in parse_frames(path.read_bytes()[8:], final=True).entries:
            if entry.kind == 1:
                interactions.append(decode_interaction(plain(entry.payload)))
            if entry.kind == 2:
                votes.append(decode_feedback(entry.payload))
    return interactions, votes


async def feedback(gateway: Harness, **body: Any) -> tuple[int, dict[str, Any]]:
    async with gateway.session.post("/v1/feedback", json=body) as reply:
        return reply.status, await reply.json()


async def test_no_byte_of_any_of_it_is_in_the_journal(tmp_path: Path) -> None:
    assert len(SECRETS) == 6 * len(LANGUAGES)
    worker = FakeWorker(texts=[f"it is {secret} ." for secret in SECRETS[:8]], lenient=True)
    many = "; ".join(SECRETS)
    short = [secret for secret in SECRETS if len(secret) <= 64]
    async with running_gateway(tmp_path, worker, n=8, feedback={"flag_reasons": short}) as gateway:
        status, _, answer = await gateway.chat(
            many,
            user="ada-4711",
            safety_identifier="ada-4712",
            prompt_cache_key="ada-4712",
            metadata={"user_id": "ada-4713", "who": "ada-4712", "note": many},
            stop=SECRETS[:4],
            tools=[{"type": "function", "function": {"name": "f", "description": many, "parameters": {}}}],
            guidance={"reference": many},
        )
        assert status == 200, answer
        # Who asked gets it all; only the log does not.
        assert any(secret in answer["choices"][0]["message"]["content"] for secret in SECRETS)
        for kind in ("correction", "comment"):
            assert (await feedback(gateway, id=answer["id"], kind=kind, value=many, comment=many))[0] == 202
        for number, secret in enumerate(short):
            flag = {"kind": "flag", "value": secret, "tags": [secret], "user": f"ada-{number}"}
            assert (await feedback(gateway, id=answer["id"], **flag))[0] == 202
        assert len(gateway.accepted) == 3 + len(short)
    raw = journal(tmp_path)
    assert [mark for mark in MARKS if mark in raw] == []
    assert b"ada-47" not in raw
    assert b"[EMAIL]" in raw and b"[CARD]" in raw and b"[IP]" in raw
    [interaction], votes = journaled(tmp_path)
    assert len(interaction.candidates) == 8 and interaction.user and len(votes) == 2 + len(short)
    assert [one.token_ids for one in interaction.candidates] == [None] * 8
    assert interaction.redacted["email"] >= 6


async def test_what_is_taken_out_is_counted_by_kind(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, n=1) as gateway:
        await gateway.chat("ada@example.com and bob@example.com, 10.1.2.3")
        assert await gateway.service.log.drained(0.2) is False  # There is no Redis, but it is in the journal now.
        assert gateway.metric("bestow_log_redactions_total", kind="email") == 2
        assert gateway.metric("bestow_log_redactions_total", kind="ip") == 1


async def test_where_redaction_is_off_the_text_is_kept_and_its_token_ids_too(tmp_path: Path) -> None:
    worker = FakeWorker(texts=["write to ada@example.com"])
    async with running_gateway(tmp_path, worker, n=1, log={"keep": {"redact": []}}) as gateway:
        await gateway.chat("who?")
    [interaction], _ = journaled(tmp_path)
    assert interaction.candidates[0].message["content"] == "write to ada@example.com"
    assert interaction.candidates[0].token_ids


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
@pytest.mark.parametrize("stream", [False, True])
async def test_store_false_is_counted_and_not_stored_and_feedback_is_told_so(
    tmp_path: Path, endpoint: str, stream: bool
) -> None:
    prompts: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi there"}]},
        "/v1/completions": {"prompt": "hi there"},
        "/v1/responses": {"input": "hi there"},
    }
    async with running_gateway(tmp_path) as gateway:
        body = {"model": "m", "store": False, "stream": stream, **prompts[endpoint]}
        async with gateway.session.post(endpoint, json=body) as reply:
            assert reply.status == 200
            identifier, text = reply.headers["x-request-id"], await reply.text()
        assert '"feedback_token":null' in text.replace(" ", "")
        for told in (identifier, identifier.replace("chatcmpl-", "resp_")):
            status, answer = await feedback(gateway, id=told, kind="thumbs", value=True)
            assert (status, answer["error"]["code"]) == (409, "interaction_not_stored")
        async with gateway.session.get(f"/v1/feedback/{identifier}") as reply:
            assert reply.status == 409
        assert gateway.metric("bestow_outcomes_total", model="m", outcome="delivered") == 1
        assert gateway.metric("bestow_log_unstored_total", reason="request") == 1
        assert gateway.accepted == [] and all("store" not in one for one in gateway.worker.requests)
    assert b"hi there" not in journal(tmp_path)


async def test_left_out_or_true_store_means_stored(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, n=1) as gateway:
        for fields in ({}, {"store": True}, {"store": None}):
            _, _, answer = await gateway.chat(**fields)
            assert (await feedback(gateway, id=answer["id"], kind="thumbs", value=True))[0] == 202
    assert [len(found) for found in journaled(tmp_path)] == [3, 3]


async def test_only_a_share_is_stored_and_the_ids_tell_which(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, n=1, log={"keep": {"share": 0.5}}) as gateway:
        ids = [(await gateway.chat())[2]["id"] for _ in range(40)]
        told = [(await feedback(gateway, id=one, kind="thumbs", value=True))[0] for one in ids]
        kept = [one.id for one in gateway.interactions]
    assert {identifier for identifier, status in zip(ids, told, strict=True) if status == 202} == set(kept)
    assert 0 < len(kept) < 40 and set(told) == {202, 409}


async def test_a_tenant_that_opted_out_leaves_nothing_and_its_scope_is_on_the_records_of_others(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running_gateway(tmp_path, n=1, redis_url=redis_server.url) as gateway:
        access = gateway.app.state.access
        await access.change(set_tenant("default", None, None, log={"training": "shared"}))
        _, _, first = await gateway.chat("kept")
        await feedback(gateway, id=first["id"], kind="thumbs", value=True)
        await access.change(set_tenant("default", None, None, log={"store": False}))
        await gateway.chat("not kept")
        async with gateway.session.post("/v1/responses", json={"model": "m", "input": "not kept"}) as reply:
            response = await reply.json()
        assert response["store"] is False
        async with gateway.session.get(f"/v1/responses/{response['id']}") as reply:
            assert reply.status == 404
        assert gateway.metric("bestow_log_unstored_total", reason="tenant") == 2
        # Who changes its tier does not switch storing on again.
        await access.change(set_tenant("default", None, None, tier="priority"))
        await gateway.chat("not kept")
        assert len(gateway.interactions) == 1
        assert gateway.interactions[0].training == "shared"
        votes = await gateway.service.log.votes(first["id"])
        assert [vote.training for vote in votes.feedback] == ["shared"]


def test_store_must_be_a_boolean() -> None:
    with pytest.raises(BadRequest, match="store"):
        parse_chat(b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "store": "no"}')
