"""Asking a part whether it is there: HTTP and Redis, with short timeouts and no exceptions."""

import asyncio
import http.client
import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from gateway.log.cluster import servers
from gateway.log.connection import RedisAddress, connect
from scorers.endpoint import Endpoint
from scorers.tls import tls_problem


@dataclass(frozen=True)
class Refusal:
    """Why Redis told nothing, as the rest of a sentence about it, and what to mend."""

    text: str
    by_name_or_password: bool = False
    by_tls: bool = False


@dataclass(frozen=True)
class Answer:
    """What an address answered; `status` is 0 when nothing did, and then `text` says why. distrust: TLS is why."""

    status: int
    text: str
    distrust: bool = False

    @property
    def ok(self) -> bool:
        return self.status == 200

    def json(self) -> Any:
        """The body as JSON, or None."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None


def _get(url: str, timeout_s: float, endpoint: Endpoint | None) -> Answer:
    # No proxy: the parts are on this machine or in its network, as the gateway reaches them.
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    request = urllib.request.Request(url)
    if endpoint is not None:
        handlers.append(urllib.request.HTTPSHandler(context=endpoint.tls))
        for name, value in endpoint.headers.items():
            request.add_unredirected_header(name, value)  # a redirect must not carry the key away
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout_s) as reply:
            return Answer(int(reply.status), reply.read(1_000_000).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read(1_000_000).decode("utf-8", "replace"))
    except urllib.error.URLError as error:
        return _no_answer(url, error.reason)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return _no_answer(url, error)


def _no_answer(url: str, error: object) -> Answer:
    problem = tls_problem(error) if isinstance(error, BaseException) else None
    if url.startswith("https:") and isinstance(error, http.client.RemoteDisconnected | ConnectionResetError):
        # asyncio's servers, vLLM's and ours among them, close without TLS's own word for it.
        problem = "it closes the connection, as one that wants a client certificate does (cert_file and key_file)"
    return Answer(0, problem or _plain(error), distrust=problem is not None)


def _plain(error: object) -> str:
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "nothing listens there"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


async def get(url: str, timeout_s: float = 5.0, endpoint: Endpoint | None = None) -> Answer:
    """GET a page, on a thread of its own, with the endpoint's key and TLS."""
    return await asyncio.to_thread(_get, url, timeout_s, endpoint)


async def redis_info(address: RedisAddress | str, timeout_s: float = 3.0) -> dict[str, dict[str, Any]] | Refusal:
    """Redis' INFO, or why there is none: of each server of a cluster by its address, of another Redis as ""."""
    try:
        client = connect(address, connect_timeout_s=timeout_s, socket_timeout_s=timeout_s)
    except ValueError as error:
        return Refusal(f"does not answer: {error}")
    try:
        return {name: dict(await server.info("everything")) for name, server in (await servers(client)).items()}
    except (AuthenticationError, NoPermissionError) as error:
        return Refusal(f"refuses us: {error}", by_name_or_password=True)
    except (RedisError, OSError, ValueError) as error:
        if problem := tls_problem(error):
            return Refusal(f"TLS fails: {problem}", by_tls=True)
        return Refusal(f"does not answer: {_plain(error.__cause__ or error)}")
    finally:
        await client.aclose()


def without_password(url: str) -> str:
    """An address as it can be shown."""
    return re.sub(r"//[^/@]*@", "//***@", url)


@dataclass(frozen=True)
class HttpReady:
    """Ready when the page answers 200. endpoint: whose key and TLS it takes."""

    url: str
    endpoint: Endpoint | None = None

    async def __call__(self) -> bool:
        return (await get(self.url, 2.0, self.endpoint)).ok


@dataclass(frozen=True)
class RedisReady:
    """Ready when Redis has loaded its data."""

    address: RedisAddress | str

    async def __call__(self) -> bool:
        facts = await redis_info(self.address, 2.0)
        return not isinstance(facts, Refusal) and not any(one.get("loading") for one in facts.values())
