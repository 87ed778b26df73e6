"""One vLLM worker over HTTP: health, what it serves, token counts, and sampling."""

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from gateway.errors import ApiError, BadRequest, ContextTooLong, RateLimited, Unavailable, WorkerError
from gateway.workers.stream import ChoiceAssembler, Item, read_events
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
    """No connection, or it broke before the worker said anything: another worker may be tried."""

    reason: str | None = None


class WorkerRefused(WorkerError):
    """It does not take our key: an operator's mistake."""


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
    return unreachable


def _was_stale(error: Exception) -> bool:
    """Whether an idle kept-alive connection was closed just as it was used again: the server may be well, ask again."""
    lost = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
    return lost and not isinstance(error, aiohttp.ClientConnectorError)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a worker says of a model in its /v1/models."""

    id: str
    max_model_len: int | None


class WorkerClient:
    """Speaks to the vLLM server at an endpoint. The session is shared and belongs to the caller."""

    def __init__(self, at: Endpoint | str, session: aiohttp.ClientSession, *, connect_s: float = 2.0) -> None:
        self.endpoint = at if isinstance(at, Endpoint) else Endpoint(at)
        self.url = self.endpoint.url
        self._session = session
        self._connect_s = connect_s

    async def served_models(self, timeout_s: float = 3.0) -> list[ServedModel]:
        """Its /v1/models. Raises WorkerUnreachable or WorkerError."""
        data = await self._json("GET", "/v1/models", None, timeout_s)
        try:
            return [ServedModel(model["id"], model.get("max_model_len")) for model in data["data"]]
        except (KeyError, TypeError):
            raise WorkerError("the worker's /v1/models is not a list of models") from None

    async def count_tokens(self, body: Mapping[str, Any], timeout_s: float = 10.0) -> int:
        """How many tokens the prompt of a request has: a conversation in the policy's own template, text, or ids."""
        if isinstance(prompt := body.get("prompt"), list):
            return len(prompt)
        keys = _PROMPT_KEYS if prompt is not None else _MESSAGES_KEYS
        request = {key: body[key] for key in keys if body.get(key) is not None}
        data = await self._json("POST", "/tokenize", request, timeout_s)
        try:
            return int(data["count"])
        except (KeyError, TypeError, ValueError):
            raise WorkerError("the worker's /tokenize gave no count") from None

    async def detokenize(self, model: str, tokens: Sequence[int], timeout_s: float = 10.0) -> str:
        """The text that token ids stand for. Raises NotServed where the worker does not say."""
        data = await self._json("POST", "/detokenize", {"model": model, "tokens": tokens}, timeout_s)
        if not isinstance(data, dict) or not isinstance(data.get("prompt"), str):
            raise WorkerError("the worker's /detokenize gave no text")
        return str(data["prompt"])

    async def relay(self, path: str, body: Mapping[str, Any]) -> bytes:
        """The worker's own answer to a request, as it came. Raises NotServed, WorkerUnreachable, or its error."""
        return await self._raw("POST", path, body, None)

    async def sample(
        self, body: Mapping[str, Any], *, path: str = CHAT_PATH, live: bool = False
    ) -> AsyncGenerator[Item, None]:
        """The parts of each choice as they come, each choice as it finishes, and at the end what they used.

        `body` is a chat or text completion request with its own `n`. live: token by token. Closing the generator
        closes the connection, which makes vLLM abort what still runs.

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
        # One choice comes token by token even where nobody watches: vLLM counts reasoning tokens right only then.
        if not live and body.get("n") != 1:
            request["stream_interval"] = _WHOLE_CHOICES
        assembler = ChoiceAssembler()
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
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s)
        try:
            async with self._session.post(
                self.url + path,
                data=msgspec.json.encode(request),
                headers={"content-type": "application/json", **self.endpoint.headers},
                timeout=timeout,
                ssl=self.endpoint.verification,
            ) as reply:
                if reply.status != 200:
                    raise self._refusal(reply.status, await reply.read())
                begun = True
                async with aclosing(read_events(reply.content.iter_any())) as events:
                    async for chunk in events:
                        if refused := _refused_in_stream(chunk, request, sampled):
                            raise refused
                        sampled = sampled or any(choice.get("token_ids") for choice in chunk.get("choices", ()))
                        yield chunk
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            if begun:
                raise WorkerError("the worker broke off while sampling") from error
            if not (again and _was_stale(error)):
                raise _unreachable(error) from error
        else:
            return
        async with aclosing(self._chunks(path, request, again=False)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _json(self, method: str, path: str, body: Any, timeout_s: float | None) -> Any:
        try:
            return msgspec.json.decode(await self._raw(method, path, body, timeout_s))
        except msgspec.DecodeError as error:
            raise WorkerError(f"the worker's {path} is not JSON") from error

    async def _raw(self, method: str, path: str, body: Any, timeout_s: float | None, *, again: bool = True) -> bytes:
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=self._connect_s)
        data = None if body is None else msgspec.json.encode(body)
        headers = self.endpoint.headers | ({"content-type": "application/json"} if data else {})
        try:
            async with self._session.request(
                method, self.url + path, data=data, headers=headers, timeout=timeout, ssl=self.endpoint.verification
            ) as reply:
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
    return WorkerError(f"the worker of this model failed (status {status}); the gateway's log has the reason")


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
