"""
title: Bestow: forward feedback
description: Sends thumbs, details and comments to Bestow as they are given, changed, deleted. Needs bestow_filter.
version: 1.0.0
"""

# Admin Panel > Functions > New > paste > Save; enable it, and give its valves Bestow's address and an API key with the
# scope `feedback` (bestow keys create --name open-webui --scope feedback).
#
# What was rated before this was installed: python bestow_feedback.py export.json > votes.jsonl, where export.json is
# Open WebUI's export of its feedback, and then: bestow feedback import votes.jsonl

import asyncio
import json
import logging
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from pydantic import BaseModel, Field

# What is Open WebUI's own is imported where it is needed: the file also runs elsewhere, as a program.
# ruff: noqa: PLC0415
log = logging.getLogger(__name__)

PAUSES_S = (1, 5, 25)
MOST_TAGS, MOST_TAG, MOST_COMMENT = 16, 64, 32_768


class Event:
    """What Open WebUI calls on each of its events; those of feedback are forwarded."""

    class Valves(BaseModel):
        url: str = Field("http://127.0.0.1:8000", description="Bestow's address, without /v1.")
        api_key: str = Field("", description="A key of Bestow with the scope feedback; empty where it has no keys.")
        timeout_s: float = Field(10.0, description="How long Bestow may take to answer.")

    def __init__(self) -> None:
        self.valves = self.Valves()

    async def event(self, event: dict[str, Any]) -> None:
        name, subject = event.get("event", ""), event.get("subject") or {}
        if name in ("feedback.created", "feedback.updated"):
            from open_webui.models.feedbacks import Feedbacks

            feedback = await Feedbacks.get_feedback_by_id(subject["id"])
            if feedback is not None:
                await self.forward(feedback.model_dump())
        elif name == "feedback.deleted":
            await self.retract(await asyncio.to_thread(Sent().of, "id", subject["id"]))
        elif name == "feedback.deleted_all":
            column = "user" if subject.get("type") == "user" else None
            await self.retract(await asyncio.to_thread(Sent().of, column, subject.get("id")))

    async def forward(self, feedback: dict[str, Any]) -> None:
        """Send what a person thinks now; take back what they no longer say."""
        sent = Sent()
        before = await asyncio.to_thread(sent.of, "id", feedback["id"])
        votes = votes_of(feedback)
        said = [(vote["id"], vote["kind"]) for vote in votes]
        await self.retract([one for one in before if (one[1], one[2]) not in said])
        for vote in votes:
            if await self.call("POST", "/v1/feedback", vote):
                await asyncio.to_thread(sent.add, feedback["id"], vote)

    async def retract(self, votes: list[tuple[str, str, str, str]]) -> None:
        for feedback, answer, kind, user in votes:
            if await self.call("DELETE", f"/v1/feedback/{answer}?{urlencode({'kind': kind, 'user': user})}"):
                await asyncio.to_thread(Sent().remove, feedback, kind)

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> bool:
        """Whether Bestow took it. Tries again where that can help; what it refuses is logged and left."""
        headers = {"authorization": f"Bearer {self.valves.api_key}"} if self.valves.api_key else {}
        address = self.valves.url.rstrip("/") + path
        timeout = aiohttp.ClientTimeout(total=self.valves.timeout_s)
        reason = ""
        for pause in (0, *PAUSES_S):
            await asyncio.sleep(pause)
            try:
                async with (
                    aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
                    session.request(method, address, json=body) as reply,
                ):
                    if reply.status < 300:
                        return True
                    reason = (await reply.text())[:500]
                    if reply.headers.get("x-should-retry") == "false":
                        break
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                reason = repr(error)
        log.error("Bestow did not take feedback (%s %s): %s", method, path.partition("?")[0], reason)
        return False


class Sent:
    """Which votes were sent, so that they can be taken back when Open WebUI only says which feedback was deleted."""

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            from open_webui.env import DATA_DIR

            path = Path(DATA_DIR) / "bestow_feedback.db"
        self.path = path

    def of(self, column: str | None, value: str | None) -> list[tuple[str, str, str, str]]:
        """(feedback, answer, kind, user) of a feedback (`id`), of a user (`user`), or of all (None)."""
        where = {"id": " WHERE feedback = ?", "user": " WHERE user = ?", None: ""}[column]
        with closing(self._open()) as database:
            return database.execute(
                f"SELECT feedback, answer, kind, user FROM sent{where}", (value,) if where else ()
            ).fetchall()

    def add(self, feedback: str, vote: dict[str, Any]) -> None:
        with closing(self._open()) as database, database:
            row = (feedback, vote["id"], vote["kind"], vote["user"])
            database.execute("INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?)", row)

    def remove(self, feedback: str, kind: str) -> None:
        with closing(self._open()) as database, database:
            database.execute("DELETE FROM sent WHERE feedback = ? AND kind = ?", (feedback, kind))

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=10)
        database.execute(
            "CREATE TABLE IF NOT EXISTS sent "
            "(feedback TEXT, answer TEXT, kind TEXT, user TEXT, PRIMARY KEY (feedback, kind))"
        )
        return database


def votes_of(feedback: dict[str, Any]) -> list[dict[str, Any]]:
    """A feedback of Open WebUI as votes of Bestow: none where it is of another server's answer, or says nothing.

    Its thumb is 1 or -1. Its details rate from 1 to 10, Bestow from 1 to 8: that is scaled, 1 to 1 and 10 to 8.
    """
    data = feedback.get("data") or {}
    answer = answer_of(feedback)
    if feedback.get("type") != "rating" or answer is None:
        return []
    votes = []
    about = {"id": answer, "user": feedback["user_id"]}
    thumb, rating = whole(data.get("rating")), whole((data.get("details") or {}).get("rating"))
    tags = [tag for tag in [data.get("reason"), *(data.get("tags") or [])] if isinstance(tag, str) and tag]
    extra: dict[str, Any] = {"tags": [tag[:MOST_TAG] for tag in dict.fromkeys(tags)][:MOST_TAGS]} if tags else {}
    if data.get("comment"):
        extra["comment"] = str(data["comment"])[:MOST_COMMENT]
    if thumb in (1, -1):
        votes.append({**about, "kind": "thumbs", "value": thumb == 1, **extra})
    if rating is not None and 1 <= rating <= 10:
        votes.append({**about, "kind": "rating", "value": round(1 + (rating - 1) * 7 / 9)})
    return votes


def answer_of(feedback: dict[str, Any]) -> str | None:
    """Bestow's id of the rated message, which bestow_filter noted in it."""
    message = (feedback.get("meta") or {}).get("message_id")
    chat = (feedback.get("snapshot") or {}).get("chat") or {}
    messages = ((chat.get("chat") or {}).get("history") or {}).get("messages") or {}
    usage = (messages.get(message) or {}).get("usage") or {}
    found = usage.get("bestow_id")
    return found if isinstance(found, str) else None


def whole(value: Any) -> int | None:
    """A number that may be written as text."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def main(export: str) -> None:
    """Print an export of Open WebUI's feedback as lines for `bestow feedback import`."""
    for feedback in json.loads(Path(export).read_text(encoding="utf-8")):
        for vote in votes_of(feedback):
            print(json.dumps({**vote, "created": feedback["updated_at"]}))


if __name__ == "__main__":
    main(sys.argv[1])
