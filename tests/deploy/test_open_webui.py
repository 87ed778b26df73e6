"""The glue for Open WebUI, against a whole gateway and the shapes of Open WebUI 0.12: its events, chunks and feedback.

Open WebUI itself is not installed here. `docs/open_webui.md` says what of the real package these shapes are from.
"""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gateway.feedback import import_command
from gateway.log.records import Feedback
from tests.gateway.harness import Harness, running_gateway

EXAMPLE = Path(__file__).parents[2] / "deploy/examples/open_webui"
USER = "6d2c1c5e-open-webui-user"


def load(name: str) -> ModuleType:
    """A function as Open WebUI loads it: the text is run in a module of its own."""
    spec = importlib.util.spec_from_file_location(f"pasted_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Row:
    """A FeedbackModel."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self) -> dict[str, Any]:
        return self.fields


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Row]]:
    """Open WebUI's table of feedback, and its folder for data."""
    found: dict[str, Row] = {}

    async def get_feedback_by_id(id: str) -> Row | None:
        return found.get(id)

    feedbacks = ModuleType("open_webui.models.feedbacks")
    feedbacks.Feedbacks = SimpleNamespace(get_feedback_by_id=get_feedback_by_id)  # type: ignore[attr-defined]
    env = ModuleType("open_webui.env")
    env.DATA_DIR = tmp_path  # type: ignore[attr-defined]
    for name, module in (
        ("open_webui", ModuleType("open_webui")),
        ("open_webui.env", env),
        ("open_webui.models", ModuleType("open_webui.models")),
        ("open_webui.models.feedbacks", feedbacks),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    yield found


def row(answer: str | None, identifier: str = "f1", user: str = USER, kind: str = "rating", **data: Any) -> Row:
    """Feedback as the page sends it: with a copy of the chat, whose message has what the filter noted."""
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    message = {"id": "m2", "parentId": "m1", "role": "assistant", "content": "Hi.", "usage": usage}
    if answer:
        message["usage"] = {**usage, "bestow_id": answer}
    chat = {"id": "c", "chat": {"history": {"messages": {"m1": {"id": "m1", "role": "user"}, "m2": message}}}}
    return Row(
        id=identifier,
        user_id=user,
        version=0,
        type=kind,
        data={"model_id": "m", **data},
        meta={"arena": False, "chat_id": "c", "message_id": "m2", "message_index": 2},
        snapshot={"chat": chat},
        created_at=1,
        updated_at=1_700_000_000,
    )


def event(name: str, subject: str, kind: str = "feedback") -> dict[str, Any]:
    return {"schema": "0.12.4", "id": "e", "event": f"feedback.{name}", "subject": {"type": kind, "id": subject}}


def forwarder(gateway: Harness, module: ModuleType) -> Any:
    found = module.Event()
    found.valves = found.Valves(url=gateway.url + "/")
    return found


async def standing(gateway: Harness, answer: str) -> dict[str, Any]:
    async with gateway.session.get(f"/v1/feedback/{answer}") as reply:
        return {vote["kind"]: vote["value"] for vote in (await reply.json())["data"]}


async def streamed(gateway: Harness, noting: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request as the filter changes it, and the usage that Open WebUI then keeps with the message."""
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    body = noting.inlet(body={**asked, "stream_options": {"include_usage": True}}, __user__={"id": USER})
    usage: dict[str, Any] = {}
    async with gateway.session.post("/v1/chat/completions", json=body) as reply:
        async for line in reply.content:
            if line.startswith(b"data: {"):
                # As open_webui.utils.response.merge_usage does: other keys than counts are kept, the latest wins.
                usage |= noting.stream(event=json.loads(line[6:])).get("usage") or {}
    return body, usage


async def test_a_streamed_answers_id_is_kept_with_its_message(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        body, usage = await streamed(gateway, load("bestow_filter").Filter())
        [record] = gateway.interactions
        assert usage["bestow_id"] == record.id
        assert usage["completion_tokens"] > 0
        assert body["user"] == USER
        assert record.user == gateway.service.signer.hash_user(USER)


def test_other_servers_answers_and_users_pass_as_they_are() -> None:
    noting = load("bestow_filter").Filter()
    chunk: dict[str, Any] = {"id": "chatcmpl-1", "choices": [], "usage": None}
    assert noting.stream(event=dict(chunk)) == chunk
    assert noting.inlet({"user": "given"}, __user__={"id": USER}) == {"user": "given"}
    assert noting.inlet({}) == {}


async def test_a_thumb_is_forwarded_changed_and_taken_back(tmp_path: Path, rows: dict[str, Row]) -> None:
    async with running_gateway(tmp_path / "data") as gateway:
        _, usage = await streamed(gateway, load("bestow_filter").Filter())
        answer = usage["bestow_id"]
        forward = forwarder(gateway, load("bestow_feedback"))
        rows["f1"] = row(answer, rating=1)
        await forward.event(event=event("created", "f1"))
        assert await standing(gateway, answer) == {"thumbs": True}
        details = {"rating": 10}
        rows["f1"] = row(answer, rating=1, reason="accurate", comment="Well put.", details=details, tags=["Plants"])
        await forward.event(event=event("updated", "f1"))
        assert await standing(gateway, answer) == {"thumbs": True, "rating": 8}
        votes = [record for record in gateway.accepted if isinstance(record, Feedback)]
        assert (votes[1].comment, votes[1].tags) == ("Well put.", ["accurate", "Plants"])
        assert {vote.user for vote in votes} == {gateway.interactions[0].user}
        # Another thumb clears the details, as Open WebUI's page does.
        rows["f1"] = row(answer, rating=-1, reason=None, details=None)
        await forward.event(event=event("updated", "f1"))
        assert await standing(gateway, answer) == {"thumbs": False}
        del rows["f1"]
        await load("bestow_feedback").Event().event(event=event("deleted", "unknown"))
        # After a restart of Open WebUI, too.
        await forwarder(gateway, load("bestow_feedback")).event(event=event("deleted", "f1"))
        assert await standing(gateway, answer) == {}


@pytest.mark.parametrize(("subject", "kind"), [("all", "feedback"), (USER, "user")])
async def test_deleting_all_takes_all_back(tmp_path: Path, rows: dict[str, Row], subject: str, kind: str) -> None:
    async with running_gateway(tmp_path / "data") as gateway:
        forward = forwarder(gateway, load("bestow_feedback"))
        answers = [(await gateway.chat())[2]["id"] for _ in range(2)]
        for number, (answer, user) in enumerate(zip(answers, (USER, "somebody else"), strict=True)):
            rows[f"f{number}"] = row(answer, f"f{number}", user, rating=1)
            await forward.event(event=event("created", f"f{number}"))
        await forward.event(event=event("deleted_all", subject, kind))
        left = {} if kind == "feedback" else {"thumbs": True}
        assert [await standing(gateway, answer) for answer in answers] == [{}, left]


async def test_what_bestow_cannot_use_is_not_sent(tmp_path: Path, rows: dict[str, Row]) -> None:
    async with running_gateway(tmp_path / "data") as gateway:
        forward = forwarder(gateway, load("bestow_feedback"))
        _, _, answer = await gateway.chat()
        rows["other"] = row(None, rating=1)
        rows["nothing"] = row(answer["id"])
        rows["kind"] = row(answer["id"], kind="note", rating=1)
        rows["odd"] = Row(id="odd", user_id=USER, type="rating", data=None, meta=None, snapshot=None)
        for name in (*rows, "gone"):
            await forward.event(event=event("created", name))
        await forward.event(event={"event": "auth.login", "subject": None})
        assert not any(isinstance(record, Feedback) for record in gateway.accepted)


async def test_a_vote_that_bestow_refuses_is_logged_and_sent_again_with_the_next_change(
    tmp_path: Path, rows: dict[str, Row], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = load("bestow_feedback")
    monkeypatch.setattr(module, "PAUSES_S", (0.0,))
    async with running_gateway(tmp_path / "data") as gateway:
        _, _, answer = await gateway.chat()
        rows["f1"] = row(answer["id"], rating=1)
        forward = forwarder(gateway, module)
        forward.valves.api_key = "bk_wrong"
        away = forwarder(gateway, module)
        away.valves.url = "http://127.0.0.1:1"
        for wrong in (forward, away):
            caplog.clear()
            rows["f1"] = row("chatcmpl-1" if wrong is forward else answer["id"], rating=1)
            await wrong.event(event=event("created", "f1"))
            assert "Bestow did not take feedback" in caplog.text
        rows["f1"] = row(answer["id"], rating=1)
        await forwarder(gateway, module).event(event=event("updated", "f1"))
        assert await standing(gateway, answer["id"]) == {"thumbs": True}


def test_ratings_of_ten_become_ratings_of_eight() -> None:
    votes_of = load("bestow_feedback").votes_of
    found = [votes_of(row("chatcmpl-1", details={"rating": rating}).fields)[0]["value"] for rating in range(1, 11)]
    assert (found[0], found[-1]) == (1, 8)
    assert found == sorted(found)
    assert votes_of(row("chatcmpl-1", details={"rating": 11}).fields) == []


async def test_an_export_becomes_lines_for_an_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = tmp_path / "export.json"
    export.write_text(json.dumps([row("chatcmpl-1", rating="1").fields, row(None, rating=1).fields]))
    load("bestow_feedback").main(str(export))
    lines = tmp_path / "votes.jsonl"
    lines.write_text(capsys.readouterr().out)
    [batch] = import_command.read(lines, None)
    assert batch.errors == []
    assert batch.votes == [
        {"id": "chatcmpl-1", "user": USER, "kind": "thumbs", "value": True, "created": 1_700_000_000}
    ]
