"""One vLLM worker over HTTP: health, what it serves, token counts, adapters, and sampling."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from gateway.errors import ApiError, BadRequest, ContextTooLong, RateLimited, Unavailable, WorkerError
from gateway.workers.stream import ChoiceAssembler, Item, WorkerLost, read_events
from scorers.endpoint import Endpoint
from scorers.tls import tls_problem

logger = logging.getLogger(__name__)

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"

# What /tokenize takes of a request.
_MESSAGES_KEYS = (
    "model",
    "messages",
    "tools",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
)
_PROMPT_KEYS = ("model", "prompt", "add_special_tokens")

# Few chunks a choice (n=4 x 64 tokens: 25 instead of 261), yet when a client goes away we know what was spent to
# within these many tokens a choice.
_WHOLE_CHOICES = 16


class WorkerUnreachable(Unavailable):
    """No connection, or it broke before the worker said anything. refused: nothing listens there."""

    reason: str | None = None
    refused = False


class WorkerRefused(WorkerError):
    """It does not take our key: an operator's mistake."""


class WorkerFailed(WorkerError):
    """It answered with an error of its own. said: in its words, for operators alone."""

    said = ""


class NotServed(WorkerError):
    """It has no such endpoint: an embedding asked of a model that chats, say."""


def reason_of(error: ApiError) -> str:
    """Why a worker cannot be used, for the operator's log: a client is not told as much."""
    if isinstance(error, WorkerRefused):
        return "it refuses the key: set this worker's api_key_file or api_key_env"
    return (error.reason if isinstance(error, WorkerUnreachable) else None) or error.message


def _unreachable(error: Exception) -> WorkerUnreachable:
    unreachable = WorkerUnreachable("no worker of this model can be reached", retry_after=2.0)
    problem = tls_problem(error)
    unreachable.reason = f"TLS fails: {problem}" if problem else f"{type(error).__name__}: {error}".rstrip(": ")
    unreachable.refused = isinstance(error, aiohttp.ClientConnectorError) and not problem
    return unreachable


def _was_stale(error: Exception) -> bool:
    """Whether an idle kept-alive connection was closed just as it was used again: the server may be well, ask again."""
    lost = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
    return lost and not isinstance(error, aiohttp.ClientConnectorError)


# With these, asking for log-probabilities would change the answer, or let pass what the worker refuses.
_WITHOUT_LOGPROBS = ("echo", "prompt_logprobs", "use_beam_search", "top_logprobs", "logprob_token_ids")


def _lacks_logprobs(body: Mapping[str, Any]) -> bool:
    """Whether the client asks for no log-probabilities, and we may."""
    return all(body.get(name) is None or body[name] is False for name in ("logprobs", *_WITHOUT_LOGPROBS))


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a worker says of a model in its /v1/models. parent: a LoRA adapter's base; root: where it came from."""

    id: str
    max_model_len: int | None
    parent: str | None = None
    root: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a worker may be silent, in seconds, by phase: `policies.X.limits`."""

    connect_s: float = 2.0
    first_token_s: float = 60.0
    token_s: float = 20.0


class WorkerClient:
    """Speaks to the vLLM server at an endpoint. The session is shared and belongs to the caller.

    heard_at: when it last sent anything, on the event loop's clock.
    """

    def __init__(self, at: Endpoint | str, session: aiohttp.ClientSession, limits: Limits | None = None) -> None:
        self.endpoint = at if isinstance(at, Endpoint) else Endpoint(at)
        self.url = self.endpoint.url
        self.heard_at = float("-inf")
        self._session = session
        self._limits = limits or Limits()
        self._listening: set[asyncio.Timeout] = set()

    async def served_models(self, timeout_s: float = 3.0) -> list[ServedModel]:
        """Its /v1/models. Raises WorkerUnreachable or WorkerError."""
        data = await self._json("GET", "/v1/models", None, timeout_s)
        try:
            return [
                ServedModel(model["id"], model.get("max_model_len"), model.get("parent"), model.get("root"))
                for model in data["data"]
            ]
        except (KeyError, TypeError, AttributeError):
            raise WorkerError("the worker's /v1/models is not a list of models") from None

    async def version(self, timeout_s: float = 3.0) -> str | None:
        """vLLM's version; None where the server does not say. Raises WorkerUnreachable or WorkerError."""
        try:
            data = await self._json("GET", "/version", None, timeout_s)
        except NotServed:
            return None
        return str(data["version"]) if isinstance(data, dict) and "version" in data else None

    async def metrics(self, timeout_s: float = 3.0) -> str:
        """Its /metrics page. Raises NotServed, WorkerUnreachable or WorkerError."""
        return (await self._raw("GET", "/metrics", None, timeout_s)).decode("utf-8", "replace")

    async def load_adapter(self, name: str, path: str, timeout_s: float = 120.0) -> None:
        """Load a LoRA adapter from where the worker can read it. Raises ApiError."""
        await self._raw("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path}, timeout_s)

    async def unload_adapter(self, name: str, timeout_s: float = 30.0) -> None:
        """Raises ApiError."""
        await self._raw("POST", "/v1/unload_lora_adapter", {"lora_name": name}, timeout_s)

    def give_up(self) -> None:
        """It is taken for dead: what waits for it fails now, as if it had been silent for too long."""
        now = asyncio.get_running_loop().time()
        for timer in self._listening:
            if not timer.expired():
                timer.reschedule(now)

    @contextmanager
    def _listen(self, timer: asyncio.Timeout) -> Iterator[None]:
        self._listening.add(timer)
        try:
            yield
            self.heard_at = asyncio.get_running_loop().time()
        finally:
            self._listening.discard(timer)

    async def count_tokens(self, body: Mapping[str, Any], timeout_s: float = 10.0) -> int:
        """How many tokens the prompt of a request has: a conversation in the policy's own template, text, or ids."""
        if isinstance(prompt := body.get("prompt"), list):
            return len(prompt)
        try:
            return int((await self._tokenized(body, timeout_s))["count"])
        except (KeyError, TypeError, ValueError):
            raise WorkerError("the worker's /tokenize gave no count") from None

    async def prompt_ids(self, body: Mapping[str, Any], timeout_s: float = 10.0) -> list[int]:
        """The token ids of a request's prompt. Raises NotServed where the worker does not say."""
        if isinstance(prompt := body.get("prompt"), list):
            return prompt
        try:
            return [int(token) for token in (await self._tokenized(body, timeout_s))["tokens"]]
        except (KeyError, TypeError, ValueError):
            raise WorkerError("the worker's /tokenize gave no tokens") from None

    async def _tokenized(self, body: Mapping[str, Any], timeout_s: float) -> Any:
        keys = _PROMPT_KEYS if body.get("prompt") is not None else _MESSAGES_KEYS
        request = {key: body[key] for key in keys if body.get(key) is not None}
        return await self._json("POST", "/tokenize", request, timeout_s)

    async def detokenize(self, model: str, tokens: Sequence[int], timeout_s: float = 10.0) -> str:
        """The text that token ids stand for. Raises NotServed where the worker does not say."""
        data = await self._json("POST", "/detokenize", {"model": model, "tokens": tokens}, timeout_s)
        if not isinstance(data, dict) or not isinstance(data.get("prompt"), str):
            raise WorkerError("the worker's /detokenize gave no text")
        return str(data["prompt"])

    async def derender(self, path: str, body: Mapping[str, Any], timeout_s: float = 10.0) -> Any:
        """What its parsers make of token ids (see `workers.reading`). Raises NotServed where it is not open to us."""
        try:
            return await self._json("POST", f"{path}/derender", body, timeout_s)
        except WorkerRefused:
            # So vLLM says that it runs without --enable-scale-out.
            raise NotServed("the worker does not read token ids") from None

    async def relay(self, path: str, body: Mapping[str, Any]) -> bytes:
        """The worker's own answer to a request, as it came. Raises NotServed, WorkerUnreachable, or its error."""
        return await self._raw("POST", path, body, None)

    async def sample(
        self,
        body: Mapping[str, Any],
        *,
        path: str = CHAT_PATH,
        live: bool = False,
        interval: int | None = None,
        logprobs: bool = False,
    ) -> AsyncGenerator[Item, None]:
        """The parts of each choice as they come, each choice as it finishes, and at the end what they used.

        `body` is a chat or text completion request with its own `n`. live: token by token. interval: tokens between
        two parts of a choice, of which the first comes at its first token; None: what suits n. logprobs: ask for
        those of the sampled tokens, whatever the body says. Closing the generator closes the connection, which makes
        vLLM abort what still runs.

        Raises WorkerUnreachable where nothing was sampled yet, WorkerError where it broke off later, and the worker's
        own 4xx as BadRequest.
        """
        request = {
            **body,
            "stream": True,
            # Per chunk too: where a parser reads the output, vLLM tells how many tokens there were, but not which.
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "return_token_ids": True,
        }
        own = logprobs and _lacks_logprobs(body)
        if own:
            # A text completion's 0: of the sampled tokens alone.
            request["logprobs"] = True if path == CHAT_PATH else 0
        # One choice comes token by token even where nobody watches: vLLM counts reasoning tokens right only then.
        if interval is None and not live and body.get("n") != 1:
            interval = _WHOLE_CHOICES
        if interval is not None:
            request["stream_interval"] = interval
        assembler = ChoiceAssembler(own_logprobs=own)
        async with aclosing(self._chunks(path, request)) as chunks:
            async for chunk in chunks:
                for item in assembler.feed(chunk):
                    yield item
        yield assembler.end

    async def complete(self, body: Mapping[str, Any], *, path: str = CHAT_PATH) -> list[Item]:
        """The same as one answer, for what vLLM does not stream (log-probabilities of the prompt, beam search)."""
        data = await self._json("POST", path, {**body, "stream": False, "return_token_ids": True}, None)
        assembler = ChoiceAssembler()
        try:
            return [*assembler.feed(data), assembler.end]
        except (KeyError, TypeError, ValueError):
            raise WorkerError("the worker's answer is no completion") from None

    async def _chunks(
        self, path: str, request: Mapping[str, Any], *, again: bool = True
    ) -> AsyncGenerator[dict[str, Any], None]:
        begun = sampled = False
        reply: aiohttp.ClientResponse | None = None
        try:
            timer = asyncio.timeout(self._limits.first_token_s)
            with self._listen(timer):
                async with timer:
                    reply = await self._session.post(
                        self.url + path,
                        data=msgspec.json.encode(request),
                        headers={"content-type": "application/json", **self.endpoint.headers},
                        timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_s),
                        ssl=self.endpoint.verification,
                        server_hostname=self.endpoint.server_hostname,
                    )
                    if reply.status != 200:
                        raise self._refusal(reply.status, await reply.read())
            begun = True
            async with aclosing(read_events(self._pieces(reply))) as events:
                async for chunk in events:
                    if refused := _refused_in_stream(chunk, request, sampled):
                        raise refused
                    sampled = sampled or any(choice.get("token_ids") for choice in chunk.get("choices", ()))
                    yield chunk
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            if begun:
                silent = isinstance(error, TimeoutError)
                raise WorkerLost(f"the worker {'fell silent' if silent else 'broke off'} while sampling") from error
            if not (again and _was_stale(error)):
                raise _unreachable(error) from error
        else:
            return
        finally:
            if reply is not None:
                reply.release()  # Closes the connection where something is left to come: vLLM aborts by that.
        async with aclosing(self._chunks(path, request, again=False)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _pieces(self, reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """What arrives, as it does. Raises TimeoutError where the worker is silent for too long."""
        limit_s = self._limits.first_token_s
        while True:
            timer = asyncio.timeout(limit_s)
            with self._listen(timer):
                async with timer:
                    piece = await reply.content.readany()
            if not piece:
                return
            yield piece
            limit_s = self._limits.token_s

    async def _json(self, method: str, path: str, body: Any, timeout_s: float | None) -> Any:
        try:
            return msgspec.json.decode(await self._raw(method, path, body, timeout_s))
        except msgspec.DecodeError as error:
            raise WorkerError(f"the worker's {path} is not JSON") from error

    async def _raw(self, method: str, path: str, body: Any, timeout_s: float | None, *, again: bool = True) -> bytes:
        data = None if body is None else msgspec.json.encode(body)
        headers = self.endpoint.headers | ({"content-type": "application/json"} if data else {})
        timer = asyncio.timeout(timeout_s)
        try:
            with self._listen(timer):
                async with (
                    timer,
                    self._session.request(
                        method,
                        self.url + path,
                        data=data,
                        headers=headers,
                        timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_s),
                        ssl=self.endpoint.verification,
                        server_hostname=self.endpoint.server_hostname,
                    ) as reply,
                ):
                    raw = await reply.read()
                    if reply.status != 200:
                        raise self._refusal(reply.status, raw)
                    return raw
        except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
            if not (again and _was_stale(error)):
                raise _unreachable(error) from error
        return await self._raw(method, path, body, timeout_s, again=False)

    def _refusal(self, status: int, raw: bytes) -> ApiError:
        if status in (401, 403):
            self.endpoint.reread_key()  # the next request has the new one
        return error_of(status, raw)


class _VllmError(msgspec.Struct):
    message: str = ""
    type: str = ""
    param: str | None = None


class _VllmErrorBody(msgspec.Struct):
    error: _VllmError


def error_of(status: int, raw: bytes) -> ApiError:
    """The worker's error as the gateway's own: its 4xx are the client's mistakes, everything else is the worker's."""
    try:
        error = msgspec.json.decode(raw, type=_VllmErrorBody).error
    except msgspec.MsgspecError:
        error = _VllmError(f"status {status}")
    if status in (400, 413, 422):
        message, param = _plain(error.message), _field(error.param)
        if "context length" in error.message or "max_model_len" in error.message:
            return ContextTooLong(message, param=param)
        return BadRequest(message, param=param)
    if status == 429:
        return RateLimited("the workers of this model are busy; try again shortly", retry_after=1.0)
    if status == 503:
        return WorkerUnreachable("no worker of this model is ready", retry_after=2.0)
    if status in (401, 403):
        return WorkerRefused("the worker of this model refused the gateway")
    if status in (405, 501) or (status == 404 and error.type != "NotFoundError"):
        return NotServed(f"the worker answered {status}: it does not do this")
    # A 404 means that the worker does not serve the policy it was listed for: an operator's mistake, not the client's.
    logger.warning("a worker answered %d: %.1000s", status, error.message)
    failed = WorkerFailed(f"the worker of this model failed (status {status}); the gateway's log has the reason")
    failed.said = error.message
    return failed


_GRAMMARS = ("structured_outputs", "response_format", "tool_choice")


def _refused_in_stream(chunk: Mapping[str, Any], request: Mapping[str, Any], sampled: bool) -> ApiError | None:
    """A client's mistake that the worker found after it had begun to answer, such as an unknown token id."""
    error = chunk.get("error")
    if not isinstance(error, dict):
        return None
    if error.get("code") == 400:
        return error_of(400, msgspec.json.encode(chunk))
    # The engine compiles grammars while the answer waits, and says no more than this of one that it cannot.
    grammar = next((name for name in _GRAMMARS if request.get(name)), None)
    if grammar and not sampled and error.get("message") == "Internal server error":
        return BadRequest(
            f"{grammar}: the worker cannot sample by it; it is broken, or no text can keep it", param=grammar
        )
    return None


def _field(param: str | None) -> str | None:
    return param.removeprefix("body.") if param else None


def _plain(message: str) -> str:
    """A validation list ("1 validation error:\\n {'type': .., 'loc': 'body.top_p', 'msg': ..}") as a sentence."""
    lines = message.splitlines()
    if len(lines) < 2 or "validation error" not in lines[0]:
        return message
    location, _, rest = lines[1].partition("'loc': ")[2].partition(", 'msg': ")
    reason = rest.split(", 'input'")[0]
    if not location or not reason:
        return lines[0]
    return f"{location.strip(chr(39)).removeprefix('body.')}: {reason.strip(chr(39) + chr(34))}"
