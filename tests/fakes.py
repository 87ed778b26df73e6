"""The fakes, all of them: a worker and a scorer server on real sockets, speaking what the gateway speaks to them.

They answer what a test scripts and fail loudly (status 500, and an entry in `surprises`) on what they do not know.
Everything the product promises is also tested on real vLLM and real models; these serve unit and load tests.
"""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, MutableSet, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from scorers.live_settings import fingerprint
from tests.ports import free_port

KNOWN_SAMPLING = frozenset(
    {
        "model", "messages", "n", "seed", "max_tokens", "temperature", "stream", "stream_interval", "stream_options",
        "return_token_ids", "tools", "tool_choice", "top_p", "stop", "logprobs", "top_logprobs", "metadata",
        "cache_salt", "response_format", "prompt", "echo", "include_stop_str_in_output",
    }
)  # fmt: skip

# As a worker writes them: what is relayed untouched still has this zero.
EMBEDDING = "[0.50,-1e-3]"
EMBEDDING_BASE64 = '"AAAAP2oDgbo="'

_POLL_S = 0.005
_END_ID, _FIRST_WORD = 999, 1000
_FAILURE = (500, {"message": "Internal server error", "type": "InternalServerError", "param": None, "code": 500})


@dataclass
class FakeWorker:
    """Speaks vLLM's /v1/models, /tokenize, /detokenize, and streamed /v1/chat/completions and /v1/completions; /health,
    /version, /metrics, and loading and unloading of LoRA adapters (`lora`: whether it can).

    texts: what candidate i says (cycled); "<prompt>" in one is the text completion's prompt.
    delays_s: when it finishes (cycled). A text of None breaks the connection.
    Live (no stream_interval), it sends a word at a time, `word_s` apart; "<break>" as a word breaks the connection.
    n = 1 with a stream_interval: the same in parts, the first of one word, the others of so many, as vLLM does; what it
    says is then texts[seed], cycled.
    pieces: a text completion from ids goes on with the texts that begin as its ids say, cycled, a word a token; its
    prompt may be several. Of a prompt's ids none is 1000 or more, of an answer's all are. lose_once: words of pieces
    after which the connection breaks, once. derenders: whether it reads ids for who asks, a "<think>...</think>" at the
    beginning as reasoning.
    Log-probabilities of tokens are `logprob`'s, where a request asks for them.
    Token id 7 reads "t7"; a worker that embeds makes the same vector of everything. stalls: it never answers that.
    lenient: it takes fields that it does not know, as vLLM does. event: it begins to answer and sends but this.

    Failures, which a test may switch while it runs:
    error: what sampling is answered with, always. fail_next: so many sampling requests are answered with `failure`;
    then it is well again.
    break_after: words of a stream after which its connection breaks. silent_after: words of a stream after which
    nothing more comes (0: not even a sign that it has begun) until it is None again.
    hang: it takes connections and answers nothing on any route, as a stopped process; streams stop where they are.
    kill(): its port is closed and every connection cut, as by kill -9; restart(): it is back, without its adapters.

    What /metrics says: `running` and `running_elsewhere` (others' requests) as one, `waiting`, `kv_usage`, `kv_blocks`
    of 16 tokens; metrics: the whole page instead. adapters: those loaded, name -> path. broken_adapters: paths at
    which vLLM finds none. aliases: more names of its weights, as of several --served-model-name.
    """

    model: str = "policy"
    texts: Sequence[str | None] = ("one", "two", "three", "four")
    delays_s: Sequence[float] = (0.0,)
    word_s: float = 0.0
    max_model_len: int = 100_000
    embeds: bool = False
    stalls: bool = False
    lenient: bool = False
    pieces: bool = False
    lose_once: int | None = None
    derenders: bool = True
    vocabulary: list[str] = field(default_factory=list)
    event: dict[str, Any] | None = None
    error: tuple[int, dict[str, Any]] | None = None
    fail_next: int = 0
    failure: tuple[int, dict[str, Any]] = _FAILURE
    break_after: int | None = None
    silent_after: int | None = None
    hang: bool = False
    version: str = "0.32.0"
    running_elsewhere: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    kv_blocks: int = 6250
    metrics: str | None = None
    lora: bool = True
    aliases: Sequence[str] = ()
    adapters: MutableMapping[str, str] = field(default_factory=dict)
    broken_adapters: MutableSet[str] = field(default_factory=set)
    requests: list[dict[str, Any]] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    running: int = 0
    url: str = ""
    listener: "_Listener | None" = None

    def routes(self) -> list[web.RouteDef]:
        embeddings = [web.post("/v1/embeddings", self._embeddings)] if self.embeds else []
        adapters = [
            web.post("/v1/load_lora_adapter", self._load_adapter),
            web.post("/v1/unload_lora_adapter", self._unload_adapter),
        ]
        return [
            web.get("/health", self._health),
            web.get("/version", self._version),
            web.get("/metrics", self._metrics),
            web.get("/v1/models", self._models),
            web.post("/tokenize", self._tokenize),
            web.post("/detokenize", self._detokenize),
            web.post("/v1/chat/completions", self._chat),
            web.post("/v1/completions", self._chat),
            web.post("/v1/chat/completions/derender", self._derender),
            web.post("/v1/completions/derender", self._derender),
            *(adapters if self.lora else []),
            *embeddings,
        ]

    async def kill(self) -> None:
        assert self.listener is not None
        await self.listener.close()

    async def restart(self) -> None:
        assert self.listener is not None
        self.adapters.clear()
        await self.listener.open()

    async def awake(self) -> None:
        """Returns once it does not hang."""
        await _until(lambda: not self.hang)

    def _serves(self, model: Any) -> bool:
        return model in (self.model, *self.aliases) or model in self.adapters

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": self.version})

    async def _metrics(self, _: web.Request) -> web.Response:
        page = _METRICS.format(
            model=self.model,
            running=float(self.running + self.running_elsewhere),
            waiting=float(self.waiting),
            kv_usage=float(self.kv_usage),
            kv_blocks=self.kv_blocks,
        )
        return web.Response(text=page if self.metrics is None else self.metrics, content_type="text/plain")

    async def _models(self, _: web.Request) -> web.Response:
        card = {"object": "model", "created": 5, "owned_by": "vllm", "permission": []}
        base = {"root": "/models/somewhere", "parent": None, "max_model_len": self.max_model_len}
        adapters = [
            {"id": name, **card, "root": path, "parent": self.model, "max_model_len": None}
            for name, path in self.adapters.items()
        ]
        own = [{"id": name, **card, **base} for name in (self.model, *self.aliases)]
        return web.json_response({"object": "list", "data": [*own, *adapters]})

    async def _load_adapter(self, request: web.Request) -> web.Response:
        body = await request.json(loads=_strict)
        self._expect(body, {"lora_name", "lora_path", "load_inplace"})
        name, path = body["lora_name"], body["lora_path"]
        if not name or not path:
            return _refusal(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
        if name == self.model:
            conflict = f"The lora adapter '{name}' conflicts with a served base model."
            return _refusal(400, "InvalidUserInput", conflict)
        if name in self.adapters and not body.get("load_inplace"):
            already = (
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
                "'load_inplace' to True."
            )
            return _refusal(400, "InvalidUserInput", already)
        if path in self.broken_adapters:
            return _refusal(404, "NotFoundError", f"Loading lora {name} failed: No adapter found for <path>")
        self.adapters[name] = path
        return web.Response(body=f"Success: LoRA adapter '{name}' added successfully.".encode())

    async def _unload_adapter(self, request: web.Request) -> web.Response:
        body = await request.json(loads=_strict)
        self._expect(body, {"lora_name"})
        name = body["lora_name"]
        if not name:
            return _refusal(400, "InvalidUserInput", "'lora_name' needs to be provided to unload a LoRA adapter.")
        if name not in self.adapters:
            return _refusal(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
        del self.adapters[name]
        return web.Response(body=f"Success: LoRA adapter '{name}' removed successfully.".encode())

    def _expect(self, body: dict[str, Any], known: set[str]) -> None:
        if unknown := set(body) - known:
            self.surprises.append(f"{sorted(unknown)}")

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.json(loads=_strict)
        messages = body.get("messages") or [{"content": body["prompt"]}]
        count = sum(len(str(message.get("content") or "").split()) for message in messages)
        tokens = list(range(count)) if self.pieces else []
        said = {"count": count, "max_model_len": self.max_model_len, "tokens": tokens, "token_strs": None}
        return self._known(body, {"model", "messages", "prompt", "tools", "return_token_strs"}, said)

    async def _detokenize(self, request: web.Request) -> web.Response:
        body = await request.json(loads=_strict)
        prompt = " ".join(f"t{token}" for token in body["tokens"] if token < _FIRST_WORD)
        said = {"prompt": prompt + self._words(body["tokens"])}
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
        if unknown or not self._serves(body.get("model", self.model)):
            self.surprises.append(f"{sorted(unknown)} {body.get('model')}")
            return web.json_response({"error": {"message": f"the fake does not know {unknown}"}}, status=500)
        return web.json_response(said)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json(loads=_strict)
        self.requests.append(body)
        unknown = set() if self.lenient else set(body) - KNOWN_SAMPLING
        misplaced = not self.lenient and ("prompt" in body) != (request.path == "/v1/completions")
        if unknown or misplaced or not self._serves(body["model"]) or not body["stream"]:
            self.surprises.append(f"chat: {sorted(unknown)} {body.get('model')}")
            return web.json_response({"error": {"message": f"the fake does not know {unknown}"}}, status=500)
        if self.error or self.fail_next:
            status, error = self.error or self.failure
            self.fail_next = max(0, self.fail_next - 1)
            return web.json_response({"error": error}, status=status)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        if self.event:
            await response.write(_event(self.event))
            return response
        self.running += body["n"]
        try:
            if self.pieces and isinstance(body.get("prompt"), list):
                await self._pieces(response, body)
                return response
            whole = "stream_interval" in body and body["n"] != 1
            await (self._stream(response, body) if whole else self._live(response, body))
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
            if not await self._goes_on(response, tokens):
                return
            await response.write(
                _event({"choices": [_either_form(_choice(i, {"role": "assistant", "content": ""}), body)]})
            )
            words, begun = text.split(), 0
            ids = list(range(len(words)))
            if (limit := self._limit()) is not None and limit - tokens < len(words):
                begun = limit - tokens
                part = _choice(i, {"content": " ".join([*words[:begun], ""])}, ids[:begun])
                await response.write(_event({"choices": [_either_form(part, body)]}))
                if not await self._goes_on(response, limit):
                    return
                text = " ".join(words[begun:])
            tokens += len(ids)
            last = _choice(i, {"content": text}, ids[begun:], "stop")
            await response.write(_event({"choices": [_either_form(last, body)]}))
        if await self._goes_on(response, tokens):
            await _end(response, tokens)

    async def _pieces(self, response: web.StreamResponse, body: dict[str, Any]) -> None:
        prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
        tokens = 0
        for number, prompt in enumerate(prompts):
            so_far = self._words(prompt)
            texts = [text for text in self.texts if text is not None and text.startswith(so_far)]
            for i in range(body["n"]):
                if not await self._goes_on(response, tokens):
                    return
                if self.lose_once is not None and tokens >= self.lose_once:
                    self.lose_once = None
                    _break(response)
                    return
                ids, finish, stop = self._piece(texts[i % len(texts)].removeprefix(so_far), body)
                tokens += len(ids)
                choice = {
                    "index": number * body["n"] + i, "text": "what no token says", "logprobs": None, "token_ids": ids,
                    "finish_reason": finish, "stop_reason": stop,
                }  # fmt: skip
                await asyncio.sleep(self.word_s * len(ids))
                await response.write(_event({"choices": [_with_logprobs(choice, body)]}))
        await _end(response, tokens)

    def _piece(self, text: str, body: dict[str, Any]) -> tuple[list[int], str, str | None]:
        """Ids, finish_reason and stop_reason."""
        ids: list[int] = []
        for word in re.findall(r"\S+\s*|\s+", text):
            if len(ids) == body["max_tokens"]:
                return ids, "length", None
            ids.append(self._id(word))
            for stop in body.get("stop", ()):
                if stop in self._words(ids):
                    return ids, "stop", stop
        return (ids, "length", None) if len(ids) == body["max_tokens"] else ([*ids, _END_ID], "stop", None)

    def _id(self, word: str) -> int:
        if word not in self.vocabulary:
            self.vocabulary.append(word)
        return _FIRST_WORD + self.vocabulary.index(word)

    def _words(self, ids: Sequence[int]) -> str:
        return "".join(self.vocabulary[token - _FIRST_WORD] for token in ids if token >= _FIRST_WORD)

    async def _derender(self, request: web.Request) -> web.Response:
        body = await request.json(loads=_strict)
        if not self.derenders:
            return _refusal(403, "PermissionDeniedError", "Scale-out endpoints are disabled.")
        chat = "chat" in request.path
        asked = "chat_request" if chat else "completion_request"
        known = {"model", asked, "prompt_token_ids"}
        if body.get("stream"):
            known |= {"stream", "generate_chunk", "stream_state"}
            [choice] = body["generate_chunk"]["choices"]
            before = self._read(body["stream_state"] or [], chat)
            now = self._read([*(body["stream_state"] or []), *choice["token_ids"]], chat)
            delta = {key: text.removeprefix(before.get(key, "")) for key, text in now.items()}
            form: dict[str, Any] = (
                {"delta": {"role": None, "tool_calls": [], **delta}} if chat else {"text": delta["content"]}
            )
            state = [*(body["stream_state"] or []), *choice["token_ids"]]
            return self._known(body, known, {"chunk": {"choices": [{"index": 0, **form}]}, "stream_state": state})
        known |= {"generate_response"} if chat else {"generate_responses"}
        asked_of = [body["generate_response"]] if chat else body["generate_responses"]
        choices = [choice for one in asked_of for choice in one["choices"]]
        if not all(choice["token_ids"] for choice in choices):
            return _refusal(400, "BadRequestError", "choice 0 has empty or null token_ids")
        read = [self._read(choice["token_ids"], chat) for choice in choices]
        forms = [
            {"message": {"role": "assistant", "refusal": None, **one}} if chat else {"text": one["content"]}
            for one in read
        ]
        said = {"choices": [{"index": index, **form} for index, form in enumerate(forms)]}
        return self._known(body, known, said)

    def _read(self, ids: Sequence[int], chat: bool) -> dict[str, str]:
        text = self._words(ids)
        if not chat or not text.startswith("<think>"):
            return {"content": text}
        reasoning, _, content = text.removeprefix("<think>").partition("</think>")
        return {"reasoning": reasoning, "content": content}

    async def _live(self, response: web.StreamResponse, body: dict[str, Any]) -> None:
        if body["n"] != 1:
            self.surprises.append(f"live with n={body['n']}")
        interval = body.get("stream_interval", 1)
        text = self.texts[body.get("seed", 0) % len(self.texts)] if "stream_interval" in body else self.texts[0]
        words = str(text).replace("<prompt>", str(body.get("prompt"))).split(" ")
        waiting: list[str] = []
        opening = _choice(0, {"role": "assistant", "content": ""})
        if not await self._goes_on(response, 0):
            return
        if "prompt" not in body:
            await response.write(_event({"choices": [opening], "prompt_token_ids": list(range(7))}))
        for number, word in enumerate(words):
            await asyncio.sleep(self.word_s)
            if word == "<break>":
                _break(response)
                return
            if not await self._goes_on(response, number):
                return
            last = number == len(words) - 1
            waiting.append(word if last else word + " ")
            if not (last or number == 0 or number % interval == 0):
                continue
            ids = list(range(number + 1 - len(waiting), number + 1))
            choice = _choice(0, {"content": "".join(waiting)}, ids, "stop" if last else None)
            waiting.clear()
            if "prompt" in body and number == 0:
                choice["prompt_token_ids"] = list(range(7))
            await response.write(_event({"choices": [_either_form(choice, body)]}))
        if await self._goes_on(response, len(words)):
            await _end(response, len(words))

    def _limit(self) -> int | None:
        limits = [limit for limit in (self.break_after, self.silent_after) if limit is not None]
        return min(limits, default=None)

    async def _goes_on(self, response: web.StreamResponse, words: int) -> bool:
        """Whether a stream that has sent so many words goes on; returns when it is neither hung nor silent."""
        await _until(lambda: not self.hang and (self.silent_after is None or words < self.silent_after))
        if self.break_after is not None and words >= self.break_after:
            _break(response)
            return False
        return True


# Beside what the gateway reads: names that begin alike, and a histogram, as vLLM has many.
_METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="{model}"}} {running}
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{engine="0",model_name="{model}"}} {waiting}
# HELP vllm:num_requests_waiting_by_reason Number of waiting requests by reason.
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{{engine="0",model_name="{model}",reason="capacity"}} {waiting}
vllm:num_requests_waiting_by_reason{{engine="0",model_name="{model}",reason="deferred"}} 0.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{engine="0",model_name="{model}"}} {kv_usage}
# HELP vllm:time_to_first_token_seconds Histogram of time to first token in seconds.
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{{engine="0",le="0.001",model_name="{model}"}} 0.0
vllm:time_to_first_token_seconds_bucket{{engine="0",le="+Inf",model_name="{model}"}} 2.0
vllm:time_to_first_token_seconds_count{{engine="0",model_name="{model}"}} 2.0
vllm:time_to_first_token_seconds_sum{{engine="0",model_name="{model}"}} 1.5
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="{kv_blocks}"}} 1.0
"""


async def _until(holds: Callable[[], bool]) -> None:
    """Looks often: tests switch plain attributes, whose changes nobody announces."""
    while True:
        if holds():
            return
        await asyncio.sleep(_POLL_S)


def _choice(
    index: int, delta: dict[str, Any], token_ids: list[int] | None = None, finish: str | None = None
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return choice if token_ids is None else {**choice, "token_ids": token_ids}


def _refusal(status: int, kind: str, message: str) -> web.Response:
    """An error in vLLM's words."""
    return web.json_response(
        {"error": {"message": message, "type": kind, "param": None, "code": status}}, status=status
    )


def _either_form(choice: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """A chat's choice, or a text completion's where there is a prompt."""
    if "prompt" not in body:
        return _with_logprobs(choice, body)
    said = {key: value for key, value in choice.items() if key != "delta"}
    return {"text": choice["delta"]["content"], **_with_logprobs(said, body)}


def logprob(token_id: int) -> float:
    """What a worker gives for a token, whatever stands before it."""
    return -(token_id + 1) / 8


def _with_logprobs(choice: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Of a choice's tokens, in the endpoint's form, where they are asked for."""
    ids, asked = choice.get("token_ids"), body.get("logprobs")
    if not ids or asked is None or asked is False:
        return choice
    if "prompt" not in body:
        content: list[dict[str, Any]] = [
            {"token": f"t{one}", "logprob": logprob(one), "bytes": None, "top_logprobs": []} for one in ids
        ]
        return choice | {"logprobs": {"content": content}}
    found = {
        "tokens": [f"t{one}" for one in ids],
        "token_logprobs": [logprob(one) for one in ids],
        "top_logprobs": [{} for _ in ids],
        "text_offset": [0 for _ in ids],
    }
    return choice | {"logprobs": found}


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
    values: more scorers that rank, each as `rewards` is. comes_with: what a scorer's numbers come with: parts, ...
    guards: more classifiers, by name: text -> its probability of `insult` (a text that is not there: 0).
    relative: those that say they must see all candidates together: a text's number is its rank by `values` then.
    answers_only: those that cannot judge a prompt alone, and are not to be asked.
    down: scorers that answer 503. delay_s: before each answer. unreadable: texts that a scorer cannot read (400).
    drops: how many scores too few it answers with. broken_for: "scorer:text" that fail. answers: "scorer:text" that
    are answered with this score, whatever it is.
    """

    rewards: Mapping[str, float] | Callable[[str], float] = field(default_factory=dict)
    unsafe: frozenset[str] = frozenset()
    unsafe_words: frozenset[str] = frozenset()
    values: Mapping[str, Mapping[str, float] | Callable[[str], float]] = field(default_factory=dict)
    comes_with: Mapping[str, Any] = field(default_factory=dict)
    guards: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    relative: frozenset[str] = frozenset()
    answers_only: frozenset[str] = frozenset()
    down: frozenset[str] = frozenset()
    broken_for: frozenset[str] = frozenset()
    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unreadable: frozenset[str] = frozenset()
    drops: int = 0
    delay_s: float = 0.0
    added: "AddedScorers" = field(default_factory=lambda: AddedScorers())
    requests: list[dict[str, Any]] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    url: str = ""

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/scorers", self._scorers), web.post("/v1/score", self._score), *self.added.routes()]

    def asked(self, scorer: str) -> list[list[str]]:
        """The texts of each request that a scorer got; of a prompt, its last message."""
        bodies = [body for body in self.requests if body["model"] == scorer]
        return [[str(one.get("content")) for one in _candidates(body)] for body in bodies]

    async def _scorers(self, _: web.Request) -> web.Response:
        data = [
            {
                "id": name,
                "kind": ("judge" if name in self.relative else "reward") if name in self._ranking else "safety",
                "gives": "value" if name in self._ranking else "categories",
                "version": "x@1",
                "prompt_only": name not in self.answers_only,
                "relative": name in self.relative,
                "max_tokens": 1000,
            }
            for name in ("reward", *self.values, "safety", *self.guards)
            if name not in self.down
        ]
        data += self.added.infos()
        return web.json_response({"data": data, "added": self.added.statuses()})

    @property
    def _ranking(self) -> dict[str, Mapping[str, float] | Callable[[str], float]]:
        return {"reward": self.rewards, **self.values, **dict.fromkeys(self.added.serving, self.added.rewards)}

    async def _score(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        await asyncio.sleep(self.delay_s)
        name, candidates = body["model"], _candidates(body)
        if name in self.down:
            return web.json_response({"error": {"message": "still loading"}}, status=503)
        lone_prompt = name in self.answers_only and not body.get("candidates")
        alone = name in self.relative and len(candidates) < 2
        if name not in (*self._ranking, "safety", *self.guards) or lone_prompt or alone:
            self.surprises.append(f"{name} was asked about {len(candidates)}")
            return web.json_response({"error": {"message": "the fake does not know it"}}, status=500)
        texts = [str(one.get("content")) for one in candidates]
        if any(text in self.unreadable for text in texts):
            return web.json_response({"error": {"message": "this content cannot be read"}}, status=400)
        scores = [self._one(name, text, texts) for text in texts]
        reply = {"model": name, "version": f"{name}@1", "scores": scores[: len(scores) - self.drops]}
        # As Python writes it, NaN and Infinity included.
        return web.Response(text=json.dumps(reply), content_type="application/json")

    def _one(self, model: str, text: str, texts: Sequence[str]) -> Mapping[str, Any]:
        if (answer := self.answers.get(f"{model}:{text}")) is not None:
            return answer
        if f"{model}:{text}" in self.broken_for:
            return {"error": "it failed for this one"}
        if model in self.guards:
            return {"categories": {"insult": self.guards[model].get(text, 0.0), "danger": 0.0}}
        if model == "safety":
            flagged = text in self.unsafe or any(word in text for word in self.unsafe_words)
            return {"categories": {"insult": 0.9 if flagged else 0.1, "danger": 0.0}}
        values = self._ranking[model]
        value = values(text) if callable(values) else values.get(text)
        if value is None:
            return {"error": "no reward for this text"}
        if model in self.relative:
            value = float(sum(self._one_value(values, other) < value for other in texts))
        return {"value": value, **self.comes_with.get(model, {})}

    @staticmethod
    def _one_value(values: Mapping[str, float] | Callable[[str], float], text: str) -> float:
        return values(text) if callable(values) else values.get(text, -float("inf"))


@dataclass
class AddedScorers:
    """The part of a scorer server that takes scorers while it runs; they rank by `rewards`, all of them.

    unloadable: models that fail to load, and why. slow: names that go on loading until they are taken out of it.
    wanted: by name, the settings that were put last; serving: those that answer. put, removed: names, in order.
    refuses: it takes none from whoever asks.
    """

    rewards: Callable[[str], float] = lambda text: -float(len(text))
    unloadable: Mapping[str, str] = field(default_factory=dict)
    slow: MutableSet[str] = field(default_factory=set)
    refuses: bool = False
    wanted: dict[str, dict[str, Any]] = field(default_factory=dict)
    serving: dict[str, dict[str, Any]] = field(default_factory=dict)
    put: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def routes(self) -> list[web.RouteDef]:
        return [web.put("/v1/scorers/{name}", self._put), web.delete("/v1/scorers/{name}", self._remove)]

    def restart(self) -> None:
        """What was added is gone, as after the end of the process."""
        self.wanted.clear()
        self.serving.clear()

    def infos(self) -> list[dict[str, Any]]:
        self._load()
        common = {"gives": "value", "prompt_only": False, "max_tokens": 1000}
        return [
            {"id": name, "kind": one["kind"], "version": f"{name}@{one['version']}", **common}
            for name, one in self.serving.items()
        ]

    def statuses(self) -> list[dict[str, Any]]:
        self._load()
        return [self._status(name) for name in self.wanted]

    def _load(self) -> None:
        for name, wanted in self.wanted.items():
            if name not in self.slow and wanted.get("model") not in self.unloadable:
                self.serving[name] = wanted

    def _status(self, name: str) -> dict[str, Any]:
        wanted, serving = self.wanted[name], self.serving.get(name)
        reason = self.unloadable.get(str(wanted.get("model")), "")
        state = "loading" if name in self.slow else "failed" if reason else "ready"
        return {
            "id": name,
            "version": f"{name}@{wanted['version']}",
            "settings": fingerprint(wanted),
            "state": state,
            "serving": f"{name}@{serving['version']}" if serving else "",
            "reason": reason if state == "failed" else "",
        }

    async def _put(self, request: web.Request) -> web.Response:
        if self.refuses:
            error = {"message": "Scorers are added where there is a key.", "code": "scorer_changes_closed"}
            return web.json_response({"error": error}, status=403)
        name = request.match_info["name"]
        self.put.append(name)
        self.wanted[name] = await request.json(loads=_strict)
        return web.json_response(self._status(name), status=202)

    async def _remove(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.wanted:
            return web.json_response({"error": {"message": "no such scorer"}}, status=404)
        self.removed.append(name)
        status = self._status(name)
        del self.wanted[name]
        self.serving.pop(name, None)
        return web.json_response(status)


def _candidates(body: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body.get("candidates") or [body["messages"][-1]]
    return found


@dataclass
class FakeChat:
    """Speaks /v1/models and unary /v1/chat/completions, as a gateway of ours or (`ours` false) as any other server.

    says: what it makes of a request: text, or (status, error object, headers). models: those it lists. receipt: what
    its answers say of versions. logprobs: of the first token, by token. finish: the finish_reason.
    """

    says: Callable[[dict[str, Any]], str | tuple[int, dict[str, Any], dict[str, str]]]
    models: Sequence[str] = ("m",)
    ours: bool = True
    receipt: Mapping[str, Any] = field(default_factory=lambda: {"policy": "policy@1", "profile": "default@1"})
    logprobs: Callable[[dict[str, Any]], Mapping[str, float]] | None = None
    finish: str = "stop"
    requests: list[dict[str, Any]] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    url: str = ""

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/models", self._models), web.post("/v1/chat/completions", self._chat)]

    async def _models(self, _: web.Request) -> web.Response:
        owner = "bestow" if self.ours else "somebody"
        return web.json_response({"data": [{"id": name, "owned_by": owner} for name in self.models]})

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json(loads=_strict)
        self.requests.append(body)
        if body["model"] not in self.models or (not self.ours and {"guidance", "metadata"} & set(body)):
            self.surprises.append(f"{body}")
        said = self.says(body)
        if not isinstance(said, str):
            status, error, headers = said
            return web.json_response({"error": error}, status=status, headers=headers)
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": said}, "finish_reason": self.finish}
        if self.logprobs is not None and body.get("logprobs"):
            top = [{"token": token, "logprob": value} for token, value in self.logprobs(body).items()]
            choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        reply = {"id": f"chatcmpl-{len(self.requests)}", "choices": [choice], "usage": {"completion_tokens": 3}}
        return web.json_response({**reply, "guidance": dict(self.receipt)} if self.ours else reply)


@dataclass
class _Listener:
    """A fake's port: it stays the same when it is closed and opened again."""

    runner: web.AppRunner
    tls: ssl.SSLContext | None
    port: int = 0
    site: web.TCPSite | None = None

    async def open(self) -> None:
        self.port = self.port or free_port()
        self.site = web.TCPSite(self.runner, "127.0.0.1", self.port, ssl_context=self.tls)
        await self.site.start()

    async def close(self) -> None:
        assert self.site is not None and self.runner.server is not None
        await self.site.stop()
        for connection in self.runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()


@asynccontextmanager
async def serve(
    fake: FakeWorker | FakeScorers | FakeChat, *, tls: ssl.SSLContext | None = None, key: str | None = None
) -> AsyncIterator[FakeWorker | FakeScorers | FakeChat]:
    """Runs a fake on a free port of the loopback and fills in its `url`; fails the test if it met a surprise.

    tls: it speaks HTTPS. key: it answers 401 below /v1 to those who do not hold it, in vLLM's words.
    """

    @web.middleware
    async def guarded(request: web.Request, handler: Any) -> Any:
        if isinstance(fake, FakeWorker):
            await fake.awake()
        if key and request.path.startswith("/v1") and request.headers.get("authorization") != f"Bearer {key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        return await handler(request)

    app = web.Application(middlewares=[guarded], client_max_size=2**26)
    app.add_routes(fake.routes())
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    listener = _Listener(runner, tls)
    await listener.open()
    if isinstance(fake, FakeWorker):
        fake.listener = listener
    fake.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.port}"
    try:
        yield fake
    finally:
        await runner.cleanup()
    assert not fake.surprises, fake.surprises
