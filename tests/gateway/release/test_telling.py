"""Moves told to a receiver on a real socket."""

import json
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from gateway.feedback.settings import Receiver
from gateway.feedback.webhook_message import read_secrets, signature
from gateway.release.metrics import ReleaseMetrics
from gateway.release.state import Move, ReleaseState
from gateway.release.telling import MoveWebhooks
from gateway.shared.note import Note
from tests.waiting import until

SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
MOVE = Move(act="rolled back", release=3, note=Note("release", 1000.0, "it does harm"), facts={"votes": 12})


class Ear:
    """Answers with these statuses, one after the other; the last for ever."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.heard: list[tuple[Any, bytes]] = []

    async def hear(self, request: web.Request) -> web.Response:
        self.heard.append((request.headers.copy(), await request.read()))
        return web.Response(status=self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0])


async def told(ear: Ear, folder: Path) -> dict[str, float]:
    """After one move: what was counted."""
    (folder / "secret").write_text(SECRET)
    registry = CollectorRegistry()
    metrics = ReleaseMetrics(registry, ReleaseState, lambda: 0.0)
    app = web.Application()
    app.add_routes([web.post("/", ear.hear)])
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        receiver = Receiver(url=str(server.make_url("/")), secret_file=folder / "secret")
        webhooks = MoveWebhooks([receiver], session, metrics, pauses_s=(0.01, 0.01), clock=lambda: 2000.0)
        webhooks.tell("m", MOVE)
        await until(lambda: not webhooks._tasks)
        await webhooks.close()
    name = "bestow_release_webhooks_total"
    return {result: registry.get_sample_value(name, {"result": result}) or 0.0 for result in ("delivered", "failed")}


async def test_a_move_is_told_signed_and_again_until_it_is_taken(tmp_path: Path) -> None:
    ear = Ear(500, 204)
    assert await told(ear, tmp_path) == {"delivered": 1.0, "failed": 0.0}
    (headers, body), (again, _) = ear.heard[1], ear.heard[0]
    event = json.loads(body)
    assert event["type"] == "release.rolled_back" and event["timestamp"] == "1970-01-01T00:16:40Z"
    assert event["data"] == {
        "model": "m", "release": 3, "act": "rolled back", "by": "release", "reason": "it does harm",
        "facts": {"votes": 12},
    }  # fmt: skip
    [secret] = read_secrets(tmp_path / "secret")
    assert headers["webhook-signature"] == signature(secret, headers["webhook-id"], 2000, body)
    assert headers["webhook-id"] == again["webhook-id"]


async def test_what_nobody_takes_is_let_go_and_counted(tmp_path: Path) -> None:
    ear = Ear(500)
    assert await told(ear, tmp_path) == {"delivered": 0.0, "failed": 1.0}
    assert len(ear.heard) == 3
