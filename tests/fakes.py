"""The fakes, all of them: a worker and a scorer server on real sockets, speaking what the gateway speaks to them.

They answer what a test scripts and fail loudly (status 500, and an entry in `surprises`) on what they do not know.
Everything the product promises is also tested on real vLLM and real models; these serve unit and load tests.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

KNOWN_SAMPLING = frozenset(
    {
        "model", "messages", "n", "seed", "max_tokens", "temperature", "stream", "stream_interval", "stream_options",
        "return_token_ids", "tools", "tool_choice", "top_p", "stop", "logprobs", "top_logprobs", "metadata",
    }
)  # fmt: skip


@dataclass
class FakeWorker:
    """Speaks vLLM's /v1/models, /tokenize and streamed /v1/chat/completions.

    texts: what candidate i says (cycled). delays_s: when it finishes (cycled). A text of None breaks the connection.
    """

    model: str = "policy"
    texts: Sequence[str | None] = ("one", "two", "three", "four")
    delays_s: Sequence[float] = (0.0,)
    max_model_len: int = 100_000
    error: tuple[int, dict[str, Any]] | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    running: int = 0
    url: str = ""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/models", self._models),
            web.post("/tokenize", self._tokenize),
            web.post("/v1/chat/completions", self._chat),
        ]

    async def _models(self, _: web.Request) -> web.Response:
        model = {"id": self.model, "object": "model", "max_model_len": self.max_model_len}
        return web.json_response({"object": "list", "data": [model]})

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        count = sum(len(str(message.get("content") or "").split()) for message in body["messages"])
        return web.json_response({"count": count, "max_model_len": self.max_model_len, "tokens": []})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        unknown = set(body) - KNOWN_SAMPLING
        if unknown or body["model"] != self.model or not body["stream"]:
            self.surprises.append(f"chat: {sorted(unknown)} {body.get('model')}")
            return web.json_response({"error": {"message": f"the fake does not know {unknown}"}}, status=500)
        if self.error:
            status, error = self.error
            return web.json_response({"error": error}, status=status)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        self.running += body["n"]
        try:
            await self._stream(response, body)
        finally:
            self.running -= body["n"]
        return response

    async def _stream(self, response: web.StreamResponse, body: dict[str, Any]) -> None:
        order = sorted(range(body["n"]), key=lambda i: self.delays_s[i % len(self.delays_s)])
        elapsed, tokens = 0.0, 0
        for i in order:
            delay = self.delays_s[i % len(self.delays_s)]
            await asyncio.sleep(delay - elapsed)
            elapsed = delay
            text = self.texts[i % len(self.texts)]
            if text is None:
                assert response._req is not None and response._req.transport is not None
                response._req.transport.close()
                return
            ids = list(range(len(text.split())))
            tokens += len(ids)
            for delta, finish in (({"role": "assistant", "content": ""}, None), ({"content": text}, "stop")):
                choice = {"index": i, "delta": delta, "logprobs": None, "finish_reason": finish}
                if finish:
                    choice["token_ids"] = ids
                await response.write(_event({"object": "chat.completion.chunk", "choices": [choice]}))
        usage = {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}
        await response.write(_event({"choices": [], "usage": usage}))
        await response.write(b"data: [DONE]\n\n")


def _event(body: object) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


@dataclass
class FakeScorers:
    """Speaks /v1/scorers and /v1/score.

    rewards: text -> reward (a missing text is an error for that candidate).
    unsafe: texts that the classifier flags with probability 0.9 in the category `insult`.
    down: scorers that answer 503. delay_s: before each answer.
    """

    rewards: Mapping[str, float] | Callable[[str], float] = field(default_factory=dict)
    unsafe: frozenset[str] = frozenset()
    down: frozenset[str] = frozenset()
    broken_for: frozenset[str] = frozenset()
    delay_s: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    url: str = ""

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/scorers", self._scorers), web.post("/v1/score", self._score)]

    async def _scorers(self, _: web.Request) -> web.Response:
        common = {"version": "x@1", "prompt_only": True, "max_tokens": 1000}
        data = [{"id": "reward", "kind": "reward", **common}, {"id": "safety", "kind": "safety", **common}]
        return web.json_response({"data": [one for one in data if one["id"] not in self.down]})

    async def _score(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        await asyncio.sleep(self.delay_s)
        if body["model"] in self.down:
            return web.json_response({"error": {"message": "still loading"}}, status=503)
        if body["model"] not in ("reward", "safety"):
            self.surprises.append(body["model"])
            return web.json_response({"error": {"message": "the fake does not know it"}}, status=500)
        candidates = body.get("candidates") or [body["messages"][-1]]
        scores = [self._one(body["model"], str(candidate["content"])) for candidate in candidates]
        return web.json_response({"model": body["model"], "version": f"{body['model']}@1", "scores": scores})

    def _one(self, model: str, text: str) -> dict[str, Any]:
        if f"{model}:{text}" in self.broken_for:
            return {"error": "it failed for this one"}
        if model == "safety":
            return {"categories": {"insult": 0.9 if text in self.unsafe else 0.1, "danger": 0.0}}
        value = self.rewards(text) if callable(self.rewards) else self.rewards.get(text)
        return {"error": "no reward for this text"} if value is None else {"value": value}


@asynccontextmanager
async def serve(fake: FakeWorker | FakeScorers) -> AsyncIterator[FakeWorker | FakeScorers]:
    """Runs a fake on a free port of the loopback and fills in its `url`; fails the test if it met a surprise."""
    app = web.Application()
    app.add_routes(fake.routes())
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()
    assert not fake.surprises, fake.surprises
