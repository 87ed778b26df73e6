import time
from pathlib import Path
from typing import Any

import pytest

from gateway.access.cache import cache_file, save
from gateway.access.keys import make_key
from gateway.access.snapshot import Snapshot, Tenant
from gateway.ids import new_completion_id
from gateway.log.records import Feedback
from tests.gateway.harness import Harness, running_gateway


def issued(gateway: Harness, tenant: str = "default") -> str:
    """An id as the gateway gives it to an answer of this tenant."""
    return new_completion_id(gateway.service.signer.tag(tenant))


async def post(gateway: Harness, headers: dict[str, str] | None = None, **body: Any) -> tuple[int, dict[str, Any]]:
    async with gateway.session.post("/v1/feedback", json=body, headers=headers) as reply:
        return reply.status, await reply.json()


async def stored(gateway: Harness, identifier: str) -> list[dict[str, Any]]:
    async with gateway.session.get(f"/v1/feedback/{identifier}") as reply:
        assert reply.status == 200
        data: list[dict[str, Any]] = (await reply.json())["data"]
        return data


async def test_a_thumb_is_accepted_and_can_be_read_back_at_once(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        _, _, answer = await gateway.chat()
        status, body = await post(gateway, id=answer["id"], kind="thumbs", value=True)
        assert (status, body["status"]) == (202, "accepted")
        [vote] = await stored(gateway, answer["id"])
        assert (vote["kind"], vote["value"]) == ("thumbs", True)
        assert gateway.metric("bestow_feedback_total", kind="thumbs") == 1


async def test_a_changed_mind_replaces_the_vote_and_delete_takes_it_back(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        identifier = issued(gateway)
        await post(gateway, id=identifier, kind="thumbs", value=True, user="ann")
        await post(gateway, id=identifier, kind="thumbs", value=False, user="ann")
        await post(gateway, id=identifier, kind="thumbs", value=True, user="bob")
        assert sorted(vote["value"] for vote in await stored(gateway, identifier)) == [False, True]
        async with gateway.session.delete(f"/v1/feedback/{identifier}?kind=thumbs&user=ann") as reply:
            assert reply.status == 202
        assert [vote["value"] for vote in await stored(gateway, identifier)] == [True]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"kind": "thumbs", "value": 1}, "value"),
        ({"kind": "thumbs"}, "value"),
        ({"kind": "rating", "value": 9}, "value"),
        ({"kind": "rating", "value": True}, "value"),
        ({"kind": "preference", "value": 2, "candidate": 0}, "over"),
        ({"kind": "preference", "value": 2, "candidate": 1, "over": 1}, "candidate"),
        ({"kind": "preference", "value": 5, "candidate": 1, "over": 0}, "value"),
        ({"kind": "thumbs", "value": True, "over": 0}, "over"),
        ({"kind": "correction", "value": ""}, "value"),
        ({"kind": "comment", "value": "x" * 40_000}, "value"),
        ({"kind": "flag", "value": 3}, "value"),
        ({"kind": "flag", "value": "boring"}, "value"),
        ({"kind": "applause", "value": 3}, "kind"),
        ({"kind": "thumbs", "value": True, "candidate": -1}, "candidate"),
        ({"kind": "thumbs", "value": True, "tags": ["x"] * 17}, "tags"),
        ({"kind": "thumbs", "value": True, "colour": "red"}, "colour"),
        ({"kind": "thumbs", "value": True, "id": "chatcmpl-1"}, "id"),
        ({"kind": "thumbs", "value": True, "id": "chatcmpl-fffffa85-3a2f-7d11-a4e6-7dbea84c17a8"}, "id"),
    ],
)
async def test_bad_feedback_is_a_400_that_names_the_field(tmp_path: Path, body: dict[str, Any], param: str) -> None:
    async with running_gateway(tmp_path) as gateway:
        status, reply = await post(gateway, **{"id": issued(gateway), **body})
        assert status == 400
        assert reply["error"]["param"] == param
        assert not any(isinstance(record, Feedback) for record in gateway.accepted)


async def test_every_kind_is_accepted(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        identifier = issued(gateway)
        for body in (
            {"kind": "thumbs", "value": False},
            {"kind": "rating", "value": 8},
            {"kind": "preference", "value": 4, "candidate": 0, "over": 3},
            {"kind": "correction", "value": "Better so."},
            {"kind": "comment", "value": "Thanks"},
            {"kind": "flag", "value": "hallucination", "comment": "no such plant", "tags": ["plants"]},
        ):
            status, _ = await post(gateway, id=identifier, **body)
            assert status == 202
        assert len(await stored(gateway, identifier)) == 6


async def test_the_reasons_of_a_flag_are_those_that_are_configured(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, feedback={"flag_reasons": ["boring"]}) as gateway:
        identifier = issued(gateway)
        assert (await post(gateway, id=identifier, kind="flag", value="boring"))[0] == 202
        status, reply = await post(gateway, id=identifier, kind="flag", value="unsafe")
        assert status == 400
        assert "one of: boring" in reply["error"]["message"]
        # A flag of a reason that is no longer configured can still be taken back.
        async with gateway.session.delete(f"/v1/feedback/{identifier}?kind=flag&value=unsafe") as deleted:
            assert deleted.status == 202


async def test_the_answers_token_binds_answer_and_user(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        _, _, answer = await gateway.chat(user="ann")
        token = answer["guidance"]["feedback_token"]
        bearer = {"authorization": f"Bearer {token}"}
        status, vote = await post(gateway, bearer, id=answer["id"], kind="thumbs", value=True, user="somebody else")
        assert status == 202
        assert vote["user"] == gateway.service.signer.hash_user("ann")
        status, _ = await post(gateway, id=answer["id"], kind="thumbs", value=False, token=token)
        assert status == 202
        assert [one["value"] for one in await stored(gateway, answer["id"])] == [False]
        status, reply = await post(gateway, bearer, id=issued(gateway), kind="thumbs", value=True)
        assert (status, reply["error"]["type"]) == (401, "authentication_error")
        status, _ = await post(gateway, id=answer["id"], kind="thumbs", value=True, token=token[:-2] + "xx")
        assert status == 401


async def test_feedback_is_for_answers_that_were_given_here_to_this_tenant(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        for identifier in (new_completion_id(), issued(gateway, "another")):
            status, reply = await post(gateway, id=identifier, kind="thumbs", value=True)
            assert (status, reply["error"]["code"]) == (404, "interaction_not_found")
            assert "feedback is for the ids of answers" in reply["error"]["message"]
            async with gateway.session.get(f"/v1/feedback/{identifier}") as got:
                assert got.status == 404
            async with gateway.session.delete(f"/v1/feedback/{identifier}?kind=thumbs") as deleted:
                assert deleted.status == 404
        assert not gateway.accepted


@pytest.mark.parametrize("prefix", ["chatcmpl-", "cmpl-", "resp_"])
async def test_an_answers_id_counts_with_any_prefix_and_is_echoed_as_sent(tmp_path: Path, prefix: str) -> None:
    async with running_gateway(tmp_path) as gateway:
        identifier = issued(gateway)
        sent = prefix + identifier.removeprefix("chatcmpl-")
        status, vote = await post(gateway, id=sent, kind="thumbs", value=True)
        assert (status, vote["id"]) == (202, sent)
        [record] = gateway.accepted
        assert isinstance(record, Feedback)
        assert (record.interaction, record.tenant) == (identifier, "default")
        assert [one["id"] for one in await stored(gateway, sent)] == [sent]
        assert len(await stored(gateway, identifier)) == 1


async def test_a_token_is_enough_for_its_tenants_answer_where_keys_are_needed(tmp_path: Path) -> None:
    record, key = make_key(
        name="k", tenant="shop", scopes=("chat", "feedback"), expires=None, created_by="", now=time.time()
    )
    save(cache_file(tmp_path), Snapshot(1, {record.id: record}, {"shop": Tenant("shop")}))
    async with running_gateway(tmp_path) as gateway:
        signer = gateway.service.signer
        identifier = issued(gateway, "shop")
        token = signer.feedback_token(identifier, "u", time.time(), tenant="shop")
        assert (await post(gateway, id=identifier, kind="thumbs", value=True))[0] == 401
        status, vote = await post(gateway, id=identifier, kind="thumbs", value=True, token=token)
        assert (status, vote["user"]) == (202, "u")
        [stored_vote] = gateway.accepted
        assert stored_vote.tenant == "shop"
        # A token of another tenant for the same interaction could only be ours by mistake; it opens nothing.
        other = signer.feedback_token(identifier, "u", time.time(), tenant="default")
        assert (await post(gateway, id=identifier, kind="thumbs", value=True, token=other))[0] == 404
        bearer = {"authorization": f"Bearer {key}"}
        async with gateway.session.get(f"/v1/feedback/{identifier}", headers=bearer) as reply:
            assert len((await reply.json())["data"]) == 1
