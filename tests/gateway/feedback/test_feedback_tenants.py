"""A thumbs-down on another tenant's answer is impossible: with any key, any token, any id, by any route."""

import time
import uuid
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.access.cache import cache_file, save
from gateway.access.caller import SCOPES, Scope
from gateway.access.keys import make_key
from gateway.access.snapshot import Snapshot, Tenant
from gateway.ids import new_completion_id
from gateway.log.records import Feedback
from tests.gateway.harness import Harness, running_gateway

# Whose key attacks, and what it may do.
ATTACKERS: dict[str, tuple[str, tuple[Scope, ...]]] = {
    "a usual key of another tenant": ("bank", ("chat", "feedback")),
    "an admin of another tenant": ("bank", SCOPES),
    "an admin of the tenant default": ("default", SCOPES),
}


def keys(folder: Path) -> dict[str, str]:
    """The attackers' API keys, and that of the tenant `shop`, whose answers are attacked."""
    holders = {"shop": ("shop", ("chat", "feedback")), **ATTACKERS}
    made = {
        name: make_key(name=name, tenant=tenant, scopes=scopes, expires=None, created_by="", now=time.time())
        for name, (tenant, scopes) in holders.items()
    }
    records = {record.id: record for record, _ in made.values()}
    save(cache_file(folder), Snapshot(1, records, {name: Tenant(name) for name in ("shop", "bank")}))
    return {name: key for name, (_, key) in made.items()}


async def asked(gateway: Harness, key: str) -> tuple[str, str]:
    """An answer's id and its feedback token."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "user": "ann"}
    headers = {"authorization": f"Bearer {key}"}
    async with gateway.session.post("/v1/chat/completions", json=body, headers=headers) as reply:
        answer = await reply.json()
        assert reply.status == 200, answer
        return answer["id"], answer["guidance"]["feedback_token"]


async def tried(gateway: Harness, identifier: str, bearer: str | None, **body: Any) -> list[int]:
    """The statuses of a vote, of taking one back, and of reading them."""
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    down = {"id": identifier, "kind": "thumbs", "value": False, "user": "ann", **body}
    token = f"&token={body['token']}" if "token" in body else ""
    statuses = []
    for method, path, sent in (
        ("POST", "/v1/feedback", down),
        ("DELETE", f"/v1/feedback/{identifier}?kind=thumbs&user=ann{token}", None),
        ("GET", f"/v1/feedback/{identifier}?{token}", None),
    ):
        async with gateway.session.request(method, path, json=sent, headers=headers) as reply:
            statuses.append(reply.status)
    return statuses


def votes(gateway: Harness) -> list[Feedback]:
    return [one for one in gateway.accepted if isinstance(one, Feedback)]


@pytest.mark.parametrize("attacker", list(ATTACKERS))
async def test_no_key_of_another_tenant_opens_an_answer_whatever_its_scopes(tmp_path: Path, attacker: str) -> None:
    held = keys(tmp_path)
    async with running_gateway(tmp_path) as gateway:
        identifier, _ = await asked(gateway, held["shop"])
        for prefix in ("chatcmpl-", "cmpl-", "resp_"):
            sent = prefix + identifier.removeprefix("chatcmpl-")
            assert await tried(gateway, sent, held[attacker]) == [404, 404, 404]
        assert votes(gateway) == []
        # Its own tenant can do all of it.
        assert await tried(gateway, identifier, held["shop"]) == [202, 202, 200]


async def test_no_other_token_opens_an_answer(tmp_path: Path) -> None:
    held = keys(tmp_path)
    async with running_gateway(tmp_path) as gateway:
        identifier, own = await asked(gateway, held["shop"])
        _, others = await asked(gateway, held["a usual key of another tenant"])
        assert await tried(gateway, identifier, others) == [401, 401, 401]
        assert await tried(gateway, identifier, None, token=others) == [401, 401, 401]
        # A key with all scopes beside it changes nothing.
        admin = held["an admin of the tenant default"]
        assert await tried(gateway, identifier, admin, token=others) == [401, 401, 401]
        # One for this very answer in another tenant's name could only be made with our secret; it opens nothing either.
        signer = gateway.service.signer
        for tenant in ("bank", "default"):
            forged = signer.feedback_token(identifier, "u", time.time(), tenant=tenant)
            assert await tried(gateway, identifier, forged) == [404, 404, 404]
        assert await tried(gateway, identifier, own[:-4] + "AAAA") == [401, 401, 401]
        assert votes(gateway) == []
        assert await tried(gateway, identifier, own) == [202, 202, 200]


async def test_guessed_ids_open_nothing(tmp_path: Path) -> None:
    held, random = keys(tmp_path), Random(1)
    async with running_gateway(tmp_path) as gateway:
        identifier, _ = await asked(gateway, held["shop"])
        known = uuid.UUID(identifier.removeprefix("chatcmpl-"))
        guesses = [new_completion_id() for _ in range(20)]
        # The same moment and counter with another end: what an attacker who has seen an id would try.
        guesses += [f"chatcmpl-{uuid.UUID(int=known.int ^ (1 << bit))}" for bit in range(32)]
        guesses += [f"chatcmpl-{uuid.UUID(int=(known.int >> 32 << 32) | random.getrandbits(32))}" for _ in range(20)]
        for guess in guesses:
            assert await tried(gateway, guess, held["an admin of another tenant"]) == [404, 404, 404]
        assert votes(gateway) == []


@pytest.mark.parametrize(
    ("attacker", "status"), [("a usual key of another tenant", 403), ("an admin of another tenant", 403)]
)
async def test_a_batch_for_another_tenant_is_the_installations_operator_alone(
    tmp_path: Path, attacker: str, status: int
) -> None:
    held = keys(tmp_path)
    async with running_gateway(tmp_path) as gateway:
        identifier, _ = await asked(gateway, held["shop"])
        headers = {"authorization": f"Bearer {held[attacker]}"}
        body = {"data": [{"id": identifier, "kind": "thumbs", "value": False}]}
        async with gateway.session.post("/v1/feedback/batch?tenant=shop", json=body, headers=headers) as reply:
            assert reply.status == status
        async with gateway.session.post("/v1/feedback/batch", json=body, headers=headers) as reply:
            found = await reply.json()
            assert (found["accepted"], found["failed"]) == (0, 1)
        assert votes(gateway) == []
