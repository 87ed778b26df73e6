"""One vLLM worker over HTTP: health, what it serves, token counts, and sampling."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from gateway.errors import ApiError, BadRequest, ContextTooLong, RateLimited, Unavailable, WorkerError
from gateway.workers.stream import Choice, ChoiceAssembler, read_events

# Large enough that every choice arrives whole when it finishes (n=4 x 64 tokens: 13 chunks instead of 261).
_WHOLE_CHOICES = 1_000_000


class WorkerUnreachable(Unavailable):
    """No connection, or it broke before the worker said anything: another worker may be tried."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a worker says of a model in its /v1/models."""

    id: str
    max_model_len: int | None


@dataclass(frozen=True, slots=True)
class SampleUsage:
    """Tokens of one sampling request: its prompt once, and the completions of all its choices."""

    prompt_tokens: int
    completion_tokens: int


class WorkerClient:
    """Speaks to the vLLM server at `url`. The session is shared and belongs to the caller."""

    def __init__(self, url: str, session: aiohttp.ClientSession, *, connect_s: float = 2.0) -> None:
        self.url = url.rstrip("/")
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
        """How many tokens the prompt of a chat request has, in the policy's own template."""
        keys = ("model", "messages", "tools", "chat_template_kwargs", "add_generation_prompt", "continue_final_message")
        request = {key: body[key] for key in keys if body.get(key) is not None}
        data = await self._json("POST", "/tokenize", request, timeout_s)
        try:
            return int(data["count"])
        except (KeyError, TypeError, ValueError):
            raise WorkerError("the worker's /tokenize gave no count") from None

    async def sample(self, body: Mapping[str, Any]) -> AsyncGenerator[Choice | SampleUsage, None]:
        """Each choice of a chat completion as it finishes, and at the end what they used.

        `body` is a chat completion request with its own `n`. Closing the generator closes the connection, which
        makes vLLM abort what still runs.

        Raises WorkerUnreachable where nothing was sampled yet, WorkerError where it broke off later, and the worker's
        own 4xx as BadRequest.
        """
        request = {
            **body,
            "stream": True,
            "stream_interval": _WHOLE_CHOICES,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
        }
        assembler = ChoiceAssembler()
        begun = False
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s)
        try:
            async with self._session.post(
                f"{self.url}/v1/chat/completions",
                data=msgspec.json.encode(request),
                headers={"content-type": "application/json"},
                timeout=timeout,
            ) as reply:
                if reply.status != 200:
                    raise error_of(reply.status, await reply.read())
                begun = True
                async with aclosing(read_events(reply.content.iter_any())) as events:
                    async for chunk in events:
                        for choice in assembler.feed(chunk):
                            yield choice
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            if begun:
                raise WorkerError("the worker broke off while sampling") from error
            raise WorkerUnreachable("no worker of this model can be reached") from error
        yield SampleUsage(assembler.prompt_tokens, assembler.completion_tokens)

    async def _json(self, method: str, path: str, body: Any, timeout_s: float) -> Any:
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=self._connect_s)
        data = None if body is None else msgspec.json.encode(body)
        headers = {"content-type": "application/json"} if data else {}
        try:
            async with self._session.request(
                method, self.url + path, data=data, headers=headers, timeout=timeout
            ) as reply:
                raw = await reply.read()
                if reply.status != 200:
                    raise error_of(reply.status, raw)
                return msgspec.json.decode(raw)
        except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
            raise WorkerUnreachable("no worker of this model can be reached") from error
        except msgspec.DecodeError as error:
            raise WorkerError(f"the worker's {path} is not JSON") from error


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
        return WorkerUnreachable("no worker of this model is ready")
    # A 404 means that the worker does not serve the policy it was listed for: an operator's mistake, not the client's.
    return WorkerError(f"the worker answered {status}: {_plain(error.message)}")


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
