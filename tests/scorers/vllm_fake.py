"""A vLLM server on a real socket that speaks what `scorers.backends.vllm*` speak to one, as seen on vLLM 0.32.

It fails loudly (status 500, and an entry in `surprises`) on fields that it does not know. All it promises is tested on
the real one too: tests/e2e/test_scorers_on_vllm.py.
"""

import asyncio
import base64
import json
import math
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

Logits = Callable[[list[int]], list[float]]

_POOLING = {"model", "input", "add_special_tokens", "use_activation"}
_PATH = {"classify": "/classify", "token_classify": "/pooling", "generate": "/v1/completions"}
_KNOWN = {
    "/classify": _POOLING,
    "/pooling": {*_POOLING, "task", "encoding_format", "endianness"},
    "/v1/completions": {
        "model", "prompt", "add_special_tokens", "max_tokens", "temperature", "repetition_penalty", "presence_penalty",
        "frequency_penalty", "logprobs", "return_tokens_as_token_ids", "logprob_token_ids",
    },
}  # fmt: skip


def total(ids: list[int]) -> list[float]:
    """One logit: a number that tells inputs apart, and their order."""
    return [sum((index + 1) * one for index, one in enumerate(ids)) / 10]


@dataclass
class FakeVllm:
    """logits: of an input. At each token, those of the input up to it. As log-probabilities of the ids 0, 1, ...: what
    `logits` gives, as it is.

    squashes: it is too old to leave the activation out. steps_only: its pooler is of type STEP for that token.
    failures: a status for the requests to come, while there are some. answer: this, whatever was asked.
    stalls: it takes requests and answers none; `running` says how many. cut_next: it closes so many connections
    without an answer. not_ready: so many requests for /v1/models are answered with 503.
    """

    task: Literal["classify", "token_classify", "generate"] = "classify"
    name: str = "scorer"
    context: int | None = 512
    logits: Logits = total
    squashes: bool = False
    steps_only: int | None = None
    key: str | None = None
    failures: list[int] = field(default_factory=list)
    answer: bytes | None = None
    stalls: bool = False
    takes_s: float = 0.001
    cut_next: int = 0
    not_ready: int = 0
    cards: list[dict[str, Any]] | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    running: int = 0
    most: int = 0
    url: str = ""
    runner: web.AppRunner | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        assert self.runner is not None and self.runner.server is not None
        return len(self.runner.server.connections)

    @property
    def asked(self) -> list[list[list[int]]]:
        """The inputs of each request, in the order of arrival."""
        return [_inputs(body) for body in self.requests]

    async def models(self, request: web.Request) -> web.Response:
        if self.not_ready:
            self.not_ready -= 1
            return _error(503, "still starting")
        if refused := self._refused(request):
            return refused
        own = {"id": self.name, "root": "/models/secret", "parent": None, "max_model_len": self.context}
        return web.json_response({"object": "list", "data": self.cards if self.cards is not None else [own]})

    async def run(self, request: web.Request) -> web.StreamResponse:
        if self.cut_next:
            self.cut_next -= 1
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if refused := self._refused(request):
            return refused
        body = json.loads(await request.text())
        if unknown := set(body) - _KNOWN[request.path]:
            self.surprises.append(f"{request.path} does not know {sorted(unknown)}")
            return _error(500, "unknown fields")
        if request.path != _PATH[self.task]:
            return web.json_response({"detail": "Not Found"}, status=404)
        self.requests.append(body)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(3600 if self.stalls else self.takes_s)
        finally:
            self.running -= 1
        if self.failures:
            return _error(self.failures.pop(0), "http://10.0.0.7:8000 /models/secret")
        return self._answer(body)

    def _refused(self, request: web.Request) -> web.Response | None:
        held = request.headers.get("authorization") == f"Bearer {self.key}"
        return None if self.key is None or held else _error(401, "Unauthorized")

    def _answer(self, body: dict[str, Any]) -> web.Response:
        inputs = _inputs(body)
        if body["model"] != self.name:
            return _error(404, f"The model `{body['model']}` does not exist.")
        if body["add_special_tokens"] is not False:
            self.surprises.append("special tokens would be added")
        room = body.get("max_tokens", 0)
        if self.context is not None and max(map(len, inputs)) + room > self.context:
            return _error(400, "This model's maximum context length is less")
        if self.answer is not None:
            return web.Response(body=self.answer, content_type="application/json")
        if self.task == "classify":
            return self._classified(body, inputs)
        if self.task == "token_classify":
            return self._pooled(body, inputs)
        return self._completed(body, inputs)

    def _squash(self, body: dict[str, Any], row: list[float]) -> list[float]:
        if not (body["use_activation"] or self.squashes):
            return row
        if len(row) == 1:
            return [1 / (1 + math.exp(-row[0]))]
        weights = [math.exp(x - max(row)) for x in row]
        return [weight / sum(weights) for weight in weights]

    def _classified(self, body: dict[str, Any], inputs: list[list[int]]) -> web.Response:
        rows = [self._squash(body, self.logits(ids)) for ids in inputs]
        if not all(math.isfinite(x) for row in rows for x in row):
            return _error(400, "Out of range float values are not JSON compliant")
        data = [{"index": at, "label": "x", "probs": row, "num_classes": len(row)} for at, row in enumerate(rows)]
        return web.json_response({"object": "list", "model": self.name, "data": data[::-1], "usage": {}})

    def _pooled(self, body: dict[str, Any], inputs: list[list[int]]) -> web.Response:
        if (body["task"], body["encoding_format"], body["endianness"]) != ("token_classify", "base64", "little"):
            self.surprises.append("/pooling was asked for another task or encoding")
        data = []
        for at, ids in enumerate(inputs):
            read = [index for index, one in enumerate(ids) if self.steps_only in (None, one)]
            flat = [x for index in read for x in self._squash(body, self.logits(ids[: index + 1]))]
            packed = base64.b64encode(struct.pack(f"<{len(flat)}f", *flat)).decode()
            data.append({"index": at, "object": "pooling", "data": packed})
        return web.json_response({"object": "list", "model": self.name, "data": data, "usage": {}})

    def _completed(self, body: dict[str, Any], inputs: list[list[int]]) -> web.Response:
        if body["max_tokens"] != 1 or not body["return_tokens_as_token_ids"] or "logprobs" not in body:
            self.surprises.append("more than one token, or no log-probabilities by id, were asked for")
        choices = []
        for at, ids in enumerate(inputs):
            told = self.logits(ids)
            wanted = body.get("logprob_token_ids", range(min(body["logprobs"], len(told))))
            top = {f"token_id:{one}": told[one] for one in wanted}
            sampled = {"token_id:9": -9.0}
            choices.append({"index": at, "text": "", "logprobs": {"top_logprobs": [sampled | top]}})
        return web.json_response({"object": "text_completion", "model": self.name, "choices": choices, "usage": {}})


def _inputs(body: dict[str, Any]) -> list[list[int]]:
    found: list[list[int]] = body["prompt" if "prompt" in body else "input"]
    return found


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "x", "param": None, "code": status}}, status=status)


@asynccontextmanager
async def serving(fake: FakeVllm, *, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeVllm]:
    """The fake on a free port, or on this one; at the end it must have met nothing that it does not know."""
    app = web.Application(client_max_size=2**26)
    app.add_routes([web.get("/v1/models", fake.models), *[web.post(path, fake.run) for path in _KNOWN]])
    runner = fake.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    fake.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()
    assert not fake.surprises, fake.surprises
