"""One vLLM server over HTTP: a call, and what went wrong with it.

Errors travel to the scorer server's callers, so they name the scorer. Where the server is and what it said stands in
the log alone.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import msgspec

from scorers.endpoint import Endpoint
from scorers.errors import Overloaded, ScorerError, ScorerFailed, ScorerUnavailable
from scorers.tls import tls_problem

logger = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_CONNECT_S = 5.0


class Refused(ScorerFailed):
    """It answered with another status than 200. said: its own words, for the log and the operator."""

    def __init__(self, message: str, http_status: int, said: str) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.said = said


class KeyRefused(ScorerUnavailable):
    """It does not take our key."""


class TlsFails(ScorerUnavailable):
    """It cannot be verified, or does not speak TLS."""


class VllmClient:
    """The vLLM server of the scorer `name`. Opens its connections in the event loop that calls it; in one at a time."""

    def __init__(self, name: str, at: Endpoint, timeout_s: float) -> None:
        self._name = name
        self._endpoint = at
        self._timeout_s = timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: AsyncGenerator[aiohttp.ClientSession] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._away = False

    @property
    def url(self) -> str:
        return self._endpoint.url

    async def post(self, path: str, body: dict[str, Any]) -> bytes:
        """Its answer. Cancelling closes the connection, and vLLM then drops the work. Raises ScorerError."""
        return await self._noted("POST", path, _encode(body))

    async def get(self, path: str) -> bytes:
        """Its answer. Raises ScorerError."""
        return await self._call("GET", path, None)

    async def close(self) -> None:
        if self._opened is not None and self._loop is asyncio.get_running_loop():
            await self._opened.aclose()
        self._loop = None

    async def _noted(self, method: str, path: str, body: bytes | None) -> bytes:
        """The call; the log gets a line when the server goes away, when it is back, and for each refusal."""
        try:
            answer = await self._call(method, path, body)
        except Refused as error:
            logger.warning("vLLM at %s, for %s: %s %s", self.url, self._name, error, error.said)
            raise
        except ScorerError as error:
            if not self._away:
                logger.warning("vLLM at %s, for %s: %s (%s)", self.url, self._name, error, error.__cause__)
            self._away = True
            raise
        if self._away:
            logger.info("vLLM at %s, for %s: answers again", self.url, self._name)
        self._away = False
        return answer

    async def _call(self, method: str, path: str, body: bytes | None) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._send(method, path, body)
                except KeyRefused:
                    if not self._endpoint.reread_key():
                        raise
                    return await self._send(method, path, body)
                except aiohttp.ClientConnectorError:
                    raise
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    # The server closed an idle kept-alive connection as we reused it. Scoring is pure: ask once more.
                    return await self._send(method, path, body)
        except aiohttp.ConnectionTimeoutError as error:
            raise ScorerUnavailable(f"{self._whose} did not take a connection within {_CONNECT_S:g} s.") from error
        except TimeoutError as error:
            raise ScorerUnavailable(f"{self._whose} did not answer within {self._timeout_s:g} s.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if problem := tls_problem(error):
                raise TlsFails(f"{self._whose} cannot be used, TLS fails: {problem}.") from error
            raise ScorerUnavailable(f"{self._whose} cannot be reached.") from error

    async def _send(self, method: str, path: str, body: bytes | None) -> bytes:
        headers = self._endpoint.headers | ({"Content-Type": "application/json"} if body is not None else {})
        session = await self._session_here()
        async with session.request(
            method,
            self.url + path,
            data=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            allow_redirects=False,
            ssl=self._endpoint.verification,
        ) as response:
            raw = await response.read()
            if response.status != 200:
                raise self._failure(response.status, raw)
            return raw

    def _failure(self, status: int, raw: bytes) -> ScorerError:
        match status:
            case 401 | 403:
                held = "the key it was sent" if self._endpoint.key else "calls without a key"
                return KeyRefused(
                    f"{self._whose} refuses {held}: set scorers.{self._name}.vllm.api_key_file or .api_key_env."
                )
            case 429:
                return Overloaded(f"{self._whose} is overloaded.")
            case 502 | 503 | 504:
                return ScorerUnavailable(f"{self._whose} is unavailable (status {status}).")
            case _:
                said = " ".join(raw[:500].decode("utf-8", "replace").split())
                return Refused(f"{self._whose} answered with status {status}.", status, said)

    @property
    def _whose(self) -> str:
        return f"The vLLM server of the scorer {self._name}"

    async def _session_here(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._loop, self._opened = loop, _open()
            self._session = await anext(self._opened)
        return self._session


async def _open() -> AsyncGenerator[aiohttp.ClientSession]:
    """A session, closed with the generator: by `close`, or by its event loop, which closes all of them as it ends."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session
