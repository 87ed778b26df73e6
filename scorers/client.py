"""The scorer contract over HTTP, from the caller's side.

A failure becomes one of `scorers.errors`; an answer is checked before it is believed. A number that breaks the
contract (not finite, no probability, more than one kind of answer) becomes that candidate's `error`: nothing is
invented and nothing is repaired.
"""

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from scorers.contract import Score, ScoreRequest, ScoreResponse, ScorerInfo, ScorerList, ScorerStatus
from scorers.endpoint import Endpoint
from scorers.errors import (
    BadScoreRequest,
    ChangesClosed,
    Overloaded,
    ScorerError,
    ScorerFailed,
    ScorerInUse,
    ScorerUnavailable,
    Unauthorized,
    UnknownScorer,
)
from scorers.tls import tls_problem

_encode = msgspec.json.Encoder().encode
_decode_list = msgspec.json.Decoder(ScorerList, strict=True).decode
_decode_status = msgspec.json.Decoder(ScorerStatus, strict=True).decode

T = TypeVar("T")


class _WireScore(msgspec.Struct, frozen=True):
    """One score as it came: still to be checked."""

    value: Any = None
    categories: Any = None
    error: Any = None
    calibrated: Any = None
    parts: Any = None
    steps: Any = None
    unreadable: bool = False
    tokens: int = 0


class _WireResponse(msgspec.Struct, frozen=True):
    model: str
    version: str
    scores: list[_WireScore]


_decode_response = msgspec.json.Decoder(_WireResponse, strict=True).decode


class ScorerClient:
    """One scorer server. `session` is shared and stays the caller's to close; `connect_s` bounds a new connection."""

    def __init__(self, at: Endpoint | str, session: aiohttp.ClientSession, *, connect_s: float = 2.0) -> None:
        self._endpoint = at if isinstance(at, Endpoint) else Endpoint(at)
        self.url = self._endpoint.url
        self._session = session
        self._connect_s = connect_s

    async def score(self, request: ScoreRequest, timeout_s: float) -> ScoreResponse:
        """One score a candidate, in order; one for the conversation where there are no candidates.

        Cancelling the awaiting task closes the connection, and the server then drops the work it has not begun.
        Raises a ScorerError; `timeout_s` is for the whole call.
        """
        try:
            body = _encode(request)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadScoreRequest(f"The conversation cannot be written as JSON: {error}.") from error
        raw = await self._call("POST", "/v1/score", timeout_s, body)
        try:
            answer = _read_response(raw)
        except (ValueError, RecursionError) as error:
            raise ScorerFailed(f"The scorer server at {self.url} broke the contract: {error}.") from error
        wanted = len(request.candidates) or 1
        if len(answer.scores) != wanted:
            raise ScorerFailed(
                f"The scorer server at {self.url} answered {len(answer.scores)} scores where {wanted} were asked for."
            )
        if answer.model != request.model:
            raise ScorerFailed(f"The scorer server at {self.url} answered for another scorer than {request.model!r}.")
        return ScoreResponse(answer.model, answer.version, [_checked(score) for score in answer.scores])

    async def scorers(self, timeout_s: float = 3.0) -> list[ScorerInfo]:
        """What the server serves; what it is still loading is not in it. Raises a ScorerError."""
        return (await self.listed(timeout_s)).data

    async def listed(self, timeout_s: float = 3.0) -> ScorerList:
        """What the server serves, and how far those are that were added while it runs. Raises a ScorerError."""
        return self._read(await self._call("GET", "/v1/scorers", timeout_s), _decode_list)

    async def put(self, name: str, settings: dict[str, Any], timeout_s: float = 10.0) -> ScorerStatus:
        """Begin to load a scorer there, or a new version of it. Raises a ScorerError."""
        body = _encode(settings)
        return self._read(await self._call("PUT", _place(name), timeout_s, body), _decode_status)

    async def remove(self, name: str, timeout_s: float = 60.0) -> ScorerStatus:
        """Take a scorer away that was added; it ends what it has. Raises a ScorerError."""
        return self._read(await self._call("DELETE", _place(name), timeout_s), _decode_status)

    def _read(self, raw: bytes, decode: Callable[[bytes], T]) -> T:
        try:
            return decode(raw)
        except (ValueError, RecursionError) as error:
            raise ScorerFailed(f"The scorer server at {self.url} broke the contract: {error}.") from error

    async def _call(self, method: str, path: str, timeout_s: float, body: bytes | None = None) -> bytes:
        # The whole call, a second attempt included, is bounded here; aiohttp bounds the connection alone.
        phases = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s)
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await self._send(method, path, phases, body)
                except Unauthorized:
                    if not self._endpoint.reread_key():
                        raise
                    return await self._send(method, path, phases, body)
                except aiohttp.ClientConnectorError:
                    raise
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    # The server closed an idle kept-alive connection as we reused it. Scoring is pure: ask once more.
                    return await self._send(method, path, phases, body)
        except aiohttp.ConnectionTimeoutError as error:
            raise ScorerUnavailable(
                f"The scorer server at {self.url} did not take a connection within {self._connect_s:g} s."
            ) from error
        except TimeoutError as error:
            raise ScorerUnavailable(
                f"The scorer server at {self.url} did not answer within {timeout_s:g} s."
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if problem := tls_problem(error):
                raise ScorerUnavailable(
                    f"The scorer server at {self.url} cannot be used, TLS fails: {problem}."
                ) from error
            reason = str(error) or type(error).__name__
            raise ScorerUnavailable(f"The scorer server at {self.url} cannot be reached: {reason}.") from error

    async def _send(self, method: str, path: str, timeout: aiohttp.ClientTimeout, body: bytes | None) -> bytes:
        headers = self._endpoint.headers | ({"Content-Type": "application/json"} if body is not None else {})
        async with self._session.request(
            method,
            self.url + path,
            data=body,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            ssl=self._endpoint.verification,
        ) as response:
            raw = await response.read()
            if response.status == 401 or (response.status == 403 and _code(raw) != ChangesClosed.code):
                held = "the key it was sent" if self._endpoint.key else "calls without a key"
                raise Unauthorized(
                    f"The scorer server at {self.url} refuses {held}: set its api_key_file or api_key_env."
                )
            if response.status not in (200, 202):
                raise _failure(response.status, raw)
            return raw


def _place(name: str) -> str:
    return f"/v1/scorers/{quote(name, safe='')}"


class _Failure(msgspec.Struct, frozen=True):
    message: str
    param: str | None = None
    code: str | None = None


class _FailureBody(msgspec.Struct, frozen=True):
    error: _Failure


def _read_response(raw: bytes) -> _WireResponse:
    """Raises ValueError (msgspec's errors are ones) where the answer is not of the contract's shape."""
    try:
        return _decode_response(raw)
    except msgspec.DecodeError:
        # NaN and Infinity are no JSON, but Python servers write them; only their own candidates shall fail.
        return msgspec.convert(json.loads(raw), _WireResponse)


def _code(raw: bytes) -> str | None:
    try:
        return msgspec.json.decode(raw, type=_FailureBody).error.code
    except (ValueError, RecursionError):
        return None


def _failure(status: int, raw: bytes) -> ScorerError:
    try:
        failure = msgspec.json.decode(raw, type=_FailureBody).error
    except (ValueError, RecursionError):
        failure = _Failure(f"The scorer server answered with status {status}.")
    match status:
        case 403:
            return ChangesClosed(failure.message)
        case 409:
            return ScorerInUse(failure.message)
        case 400 | 413 | 422:
            return BadScoreRequest(failure.message, failure.param)
        case 404:
            return UnknownScorer(failure.message)
        case 429:
            return Overloaded(failure.message)
        case 503:
            return ScorerUnavailable(failure.message)
        case _:
            return ScorerFailed(failure.message)


def _checked(score: _WireScore) -> Score:
    """The score as the contract has it, or one whose `error` says how it broke the contract."""
    tokens = max(0, score.tokens)
    given = [name for name in ("value", "categories", "error") if getattr(score, name) is not None]
    if len(given) != 1:
        what = " and ".join(given) or "nothing"
        return Score(error=f"The scorer answered with {what} where one of value, categories and error is due.")
    if score.error is not None:
        return Score(error=str(score.error), unreadable=score.unreadable, tokens=tokens)
    parts, steps = score.parts or {}, score.steps or []
    if not isinstance(parts, dict) or not all(map(_is_finite, parts.values())):
        return Score(error="The scorer's answer has parts that are no object of finite numbers.", tokens=tokens)
    if not isinstance(steps, list) or not all(map(_is_finite, steps)):
        return Score(error="The scorer's answer has steps that are no list of finite numbers.", tokens=tokens)
    more: dict[str, Any] = {
        "parts": {name: float(value) for name, value in parts.items()},
        "steps": [float(step) for step in steps],
        "tokens": tokens,
    }
    if score.value is not None:
        if not _is_finite(score.value):
            return Score(error="The scorer answered with a reward that is not a finite number.", tokens=tokens)
        if score.calibrated is not None and not _is_share(score.calibrated):
            return Score(error="The scorer's calibrated reward is not a number in [0, 1].", tokens=tokens)
        calibrated = None if score.calibrated is None else float(score.calibrated)
        return Score(value=float(score.value), calibrated=calibrated, **more)
    categories = score.categories
    if not isinstance(categories, dict) or not categories:
        return Score(error="The scorer answered with categories that are no object of probabilities.", tokens=tokens)
    for name, probability in categories.items():
        if not _is_share(probability):
            return Score(error=f"The scorer's answer for {name!r} is not a probability in [0, 1].", tokens=tokens)
    return Score(categories={name: float(p) for name, p in categories.items()}, **more)


def _is_share(number: Any) -> bool:
    return _is_finite(number) and 0.0 <= number <= 1.0


def _is_finite(number: Any) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond the range of a float
        return False
