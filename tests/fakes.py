"""The fakes, all of them: a worker and a scorer server on real sockets, speaking what the gateway speaks to them.

They answer what a test scripts and fail loudly (status 500, and an entry in `surprises`) on what they do not know.
Everything the product promises is also tested on real vLLM and real models; these serve unit and load tests.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

KNOWN_SAMPLING = frozenset(
    {
        "model", "messages", "n", "seed", "max_tokens", "temperature", "stream", "stream_interval", "stream_options",
        "return_token_ids", "tools", "tool_choice", "top_p", "stop", "logprobs", "top_logprobs", "metadata",
        "cache_salt", "response_format", "prompt", "echo",
    }
)  # fmt: skip

# As a worker writes them: what is relayed untouched still has this zero.
EMBEDDING = "[0.50,-1e-3]"
EMBEDDING_BASE64 = '"AAAAP2oDgbo="'


@dataclass
class FakeWorker:
    """Speaks vLLM's /v1/models, /tokenize, /detokenize, and streamed /v1/chat/completions and /v1/completions.

    texts: what candidate i says (cycled); "<prompt>" in one is the text completion's prompt.
    delays_s: when it finishes (cycled). A text of None breaks the connection.
    Live (no stream_interval), it sends a word at a time, `word_s` apart; "<break>" as a word breaks the connection.
    Token id 7 reads "t7"; a worker that embeds makes the same vector of everything. stalls: it never answers that.
    lenient: it takes fields that it does not know, as vLLM does. event: it begins to answer and sends but this.
    """

    model: str = "policy"
    texts: Sequence[str | None] = ("one", "two", "three", "four")
    delays_s: Sequence[float] = (0.0,)
    word_s: float = 0.0
    max_model_len: int = 100_000
    embeds: bool = False
    stalls: bool = False
    lenient: bool = False
    event: dict[str, Any] | None = None
    error: tuple[int, dict[str, Any]] | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    running: int = 0
    url: str = ""

    def routes(self) -> list[web.RouteDef]:
        embeddings = [web.post("/v1/embeddings", self._embeddings)] if self.embeds else []
        return [
            web.get("/v1/models", self._models),
            web.post("/tokenize", self._tokenize),
            web.post("/detokenize", self._detokenize),
            web.post("/v1/chat/completions", self._chat),
            web.post("/v1/completions", self._chat),
            *embeddings,
        ]

    async def _models(self, _: web.Request) -> web.Response:
        model = {"id": self.model, "object": "model", "max_model_len": self.max_model_len}
        return web.json_response({"object": "list", "data": [model]})

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.json(loads=_strict)
        messages = body.get("messages") or [{"content": body["prompt"]}]
        count = sum(len(str(message.get("content") or "").split()) for message in messages)
        said = {"count": count, "max_model_len": self.max_model_len, "tokens": [], "token_strs": None}
        return self._known(body, {"model", "messages", "prompt", "return_token_strs"}, said)

    async def _detokenize(self, request: web.Request) -> web.Response:
        body = await request.json(loads=_strict)
        said = {"prompt": " ".join(f"t{token}" for token in body["tokens"])}
        return self._known(body, {"model", "tokens"}, said)

    async def _embeddings(self, request: web.Request) -> web.Response:
        body = await request.json(loads=_strict)
        self.requests.append(body)
        self.running += 1
        try:
            await asyncio.sleep(3600 if self.stalls else 0)
        finally:
            self.running -= 1
        if self.error:
            return web.json_response({"error": self.error[1]}, status=self.error[0])
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        vector = EMBEDDING_BASE64 if body.get("encoding_format") == "base64" else EMBEDDING
        data = ",".join(f'{{"index":{i},"object":"embedding","embedding":{vector}}}' for i in range(len(inputs)))
        usage = '{"prompt_tokens":3,"total_tokens":3,"prompt_tokens_details":null}'
        text = f'{{"id":"embd-1","object":"list","created":5,"model":"{self.model}","data":[{data}],"usage":{usage}}}'
        known = {"model", "input", "encoding_format", "dimensions", "cache_salt", "truncate_prompt_tokens"}
        refused = self._known(body, known, {})
        return refused if refused.status != 200 else web.Response(text=text, content_type="application/json")

    def _known(self, body: dict[str, Any], known: set[str], said: dict[str, Any]) -> web.Response:
        unknown = set() if self.lenient else set(body) - known
        if unknown or body.get("model", self.model) != self.model:
            self.surprises.append(f"{sorted(unknown)} {body.get('model')}")
            return web.json_response({"error": {"message": f"the fake does not know {unknown}"}}, status=500)
        return web.json_response(said)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json(loads=_strict)
        self.requests.append(body)
        unknown = set() if self.lenient else set(body) - KNOWN_SAMPLING
        misplaced = not self.lenient and ("prompt" in body) != (request.path == "/v1/completions")
        if unknown or misplaced or body["model"] != self.model or not body["stream"]:
            self.surprises.append(f"chat: {sorted(unknown)} {body.get('model')}")
            return web.json_response({"error": {"message": f"the fake does not know {unknown}"}}, status=500)
        if self.error:
            status, error = self.error
            return web.json_response({"error": error}, status=status)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        if self.event:
            await response.write(_event(self.event))
            return response
        self.running += body["n"]
        try:
            await (self._stream(response, body) if "stream_interval" in body else self._live(response, body))
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
                _break(response)
                return
            text = text.replace("<prompt>", str(body.get("prompt")))
            ids = list(range(len(text.split())))
            tokens += len(ids)
            for delta, finish in (({"role": "assistant", "content": ""}, None), ({"content": text}, "stop")):
                choice = {"index": i, "delta": delta, "logprobs": None, "finish_reason": finish}
                if finish:
                    choice["token_ids"] = ids
                await response.write(_event({"choices": [_either_form(choice, body)]}))
        await _end(response, tokens)

    async def _live(self, response: web.StreamResponse, body: dict[str, Any]) -> None:
        if body["n"] != 1:
            self.surprises.append(f"live with n={body['n']}")
        words = str(self.texts[0]).replace("<prompt>", str(body.get("prompt"))).split(" ")
        opening = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        if "prompt" not in body:
            await response.write(_event({"choices": [opening], "prompt_token_ids": list(range(7))}))
        for number, word in enumerate(words):
            await asyncio.sleep(self.word_s)
            if word == "<break>":
                _break(response)
                return
            last = number == len(words) - 1
            delta = {"content": word if last else word + " "}
            choice = {"index": 0, "delta": delta, "finish_reason": "stop" if last else None, "token_ids": [number]}
            if "prompt" in body and number == 0:
                choice["prompt_token_ids"] = list(range(7))
            await response.write(_event({"choices": [_either_form(choice, body)]}))
        await _end(response, len(words))


def _either_form(choice: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """A chat's choice, or a text completion's where there is a prompt."""
    if "prompt" not in body:
        return choice
    return {"text": choice["delta"]["content"], **{key: value for key, value in choice.items() if key != "delta"}}


def _strict(text: str) -> Any:
    """JSON as its standard has it: Python takes NaN and halves of surrogate pairs too."""
    body = json.loads(text, parse_constant=_no_json)
    json.dumps(body, ensure_ascii=False).encode()
    return body


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _break(response: web.StreamResponse) -> None:
    assert response._req is not None and response._req.transport is not None
    response._req.transport.close()


async def _end(response: web.StreamResponse, tokens: int) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}
    await response.write(_event({"choices": [], "usage": usage}))
    await response.write(b"data: [DONE]\n\n")


def _event(body: object) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


@dataclass
class FakeScorers:
    """Speaks /v1/scorers and /v1/score.

    rewards: text -> reward (a missing text is an error for that candidate).
    unsafe: texts that the classifier flags with probability 0.9 in the category `insult`; unsafe_words: words that
    make it flag any text they are in.
    down: scorers that answer 503. delay_s: before each answer. unreadable: texts that a scorer cannot read (400).
    """

    rewards: Mapping[str, float] | Callable[[str], float] = field(default_factory=dict)
    unsafe: frozenset[str] = frozenset()
    unsafe_words: frozenset[str] = frozenset()
    down: frozenset[str] = frozenset()
    broken_for: frozenset[str] = frozenset()
    unreadable: frozenset[str] = frozenset()
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
        if any(str(one.get("content")) in self.unreadable for one in candidates):
            return web.json_response({"error": {"message": "this content cannot be read"}}, status=400)
        scores = [self._one(body["model"], str(candidate.get("content"))) for candidate in candidates]
        return web.json_response({"model": body["model"], "version": f"{body['model']}@1", "scores": scores})

    def _one(self, model: str, text: str) -> dict[str, Any]:
        if f"{model}:{text}" in self.broken_for:
            return {"error": "it failed for this one"}
        if model == "safety":
            flagged = text in self.unsafe or any(word in text for word in self.unsafe_words)
            return {"categories": {"insult": 0.9 if flagged else 0.1, "danger": 0.0}}
        value = self.rewards(text) if callable(self.rewards) else self.rewards.get(text)
        return {"error": "no reward for this text"} if value is None else {"value": value}


@asynccontextmanager
async def serve(
    fake: FakeWorker | FakeScorers, *, tls: ssl.SSLContext | None = None, key: str | None = None
) -> AsyncIterator[FakeWorker | FakeScorers]:
    """Runs a fake on a free port of the loopback and fills in its `url`; fails the test if it met a surprise.

    tls: it speaks HTTPS. key: it answers 401 below /v1 to those who do not hold it, in vLLM's words.
    """

    @web.middleware
    async def guarded(request: web.Request, handler: Any) -> Any:
        if key and request.path.startswith("/v1") and request.headers.get("authorization") != f"Bearer {key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        return await handler(request)

    app = web.Application(middlewares=[guarded], client_max_size=2**26)
    app.add_routes(fake.routes())
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    assert runner.addresses
    fake.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()
    assert not fake.surprises, fake.surprises
