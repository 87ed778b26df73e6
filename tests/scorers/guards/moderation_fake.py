"""A service that answers as OpenAI's /v1/moderations does, and fails loudly on what that would not take."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web
from openai.types import Moderation, ModerationCreateResponse

NAMES = [
    field.alias or name
    for name, field in Moderation.model_fields["category_scores"].annotation.model_fields.items()  # type: ignore[union-attr]
]


def scores_of(text: str) -> dict[str, float]:
    """0.01 everywhere; more where the text has a word such as `violence=0.9`."""
    scores = dict.fromkeys(NAMES, 0.01)
    for word in text.split():
        name, _, value = word.partition("=")
        if name in scores and value:
            scores[name] = max(scores[name], float(value))
    return scores


class FakeModeration:
    """texts: the inputs of each call. answer: what to answer instead, given the number of the call; None: as usual.

    gate: closed, calls wait at it. cut: so many calls lose their connection instead of an answer.
    """

    def __init__(self, *, key: str | None = None, lists: bool = True) -> None:
        self.key = key
        self.lists = lists
        self.models: list[str | None] = []
        self.texts: list[list[str]] = []
        self.answer: Callable[[int], web.Response | None] = lambda _: None
        self.connections: set[int] = set()
        self.failures: list[str] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0
        self.cut = 0

    async def handle(self, request: web.Request) -> web.Response:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "Incorrect API key"}}, status=401)
        self.connections.add(id(request.transport))
        if self.cut and request.transport:
            self.cut -= 1
            request.transport.close()
        problem = self._problem(request, body := await request.json())
        if problem:
            self.failures.append(problem)
            return web.json_response({"error": {"message": problem}}, status=400)
        if isinstance(body["input"], list) and not self.lists:
            return web.json_response({"error": {"message": "input must be a string"}}, status=422)
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        self.texts.append(texts)
        self.models.append(body.get("model"))
        self.begun.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.answer(len(self.texts)) or web.json_response(text=usual([scores_of(text) for text in texts]))

    def _problem(self, request: web.Request, body: Any) -> str | None:
        if request.content_type != "application/json" or not isinstance(body, dict):
            return "the body is no JSON object"
        if unknown := body.keys() - {"input", "model"}:
            return f"unknown fields {unknown}"
        given = body.get("input")
        texts = given if isinstance(given, list) else [given]
        if not texts or not all(isinstance(text, str) and text for text in texts):
            return "input must be text"
        return None


def usual(scores: list[dict[str, Any]]) -> str:
    """A response of the shape that OpenAI's own client has a type for."""
    results = [
        {
            "flagged": False,
            "categories": dict.fromkeys(one, False),
            "category_scores": one,
            "category_applied_input_types": {name: ["text"] for name in one},
        }
        for one in scores
    ]
    whole = {"id": "modr-1", "model": "omni-moderation-latest", "results": results}
    return ModerationCreateResponse.model_validate(whole).model_dump_json(by_alias=True)


def raw(scores: str) -> web.Response:
    """One result with these category_scores, as they are."""
    return web.Response(text=f'{{"results": [{{"category_scores": {scores}}}]}}', content_type="application/json")


def with_status(status: int) -> web.Response:
    return web.Response(status=status, text=json.dumps({"error": {"message": "the text was: secret"}}))


@contextlib.asynccontextmanager
async def serving(fake: FakeModeration, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Its address, /v1 included."""
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/moderations", fake.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{'https' if tls else 'http'}://{host}:{port}/v1"
    finally:
        fake.gate.set()
        await runner.cleanup()
    assert fake.failures == []
