"""Asking a part whether it is there: HTTP and Redis, with short timeouts and no exceptions."""

import asyncio
import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from redis import asyncio as redis_client
from redis.exceptions import RedisError


@dataclass(frozen=True)
class Answer:
    """What an address answered; `status` is 0 when nothing did, and then `text` says why."""

    status: int
    text: str

    @property
    def ok(self) -> bool:
        return self.status == 200

    def json(self) -> Any:
        """The body as JSON, or None."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None


# No proxy: the parts are on this machine or in its network, as the gateway reaches them.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _get(url: str, timeout_s: float) -> Answer:
    try:
        with _opener.open(url, timeout=timeout_s) as reply:
            return Answer(int(reply.status), reply.read(1_000_000).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read(1_000_000).decode("utf-8", "replace"))
    except urllib.error.URLError as error:
        return Answer(0, _plain(error.reason))
    except (OSError, ValueError) as error:
        return Answer(0, _plain(error))


def _plain(error: object) -> str:
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "nothing listens there"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


async def get(url: str, timeout_s: float = 5.0) -> Answer:
    """GET a page, on a thread of its own."""
    return await asyncio.to_thread(_get, url, timeout_s)


async def redis_info(url: str, timeout_s: float = 3.0) -> dict[str, Any] | str:
    """Redis' INFO, or why there is none."""
    client = redis_client.Redis.from_url(url, socket_connect_timeout=timeout_s, socket_timeout=timeout_s)
    try:
        facts = await client.info("everything")
        return dict(facts)
    except (RedisError, OSError, ValueError) as error:
        return _plain(error.__cause__ or error)
    finally:
        await client.aclose()


def without_password(url: str) -> str:
    """An address as it can be shown."""
    return re.sub(r"//[^/@]*@", "//***@", url)


@dataclass(frozen=True)
class HttpReady:
    """Ready when the page answers 200."""

    url: str

    async def __call__(self) -> bool:
        return (await get(self.url, 2.0)).ok


@dataclass(frozen=True)
class RedisReady:
    """Ready when Redis has loaded its data."""

    url: str

    async def __call__(self) -> bool:
        facts = await redis_info(self.url, 2.0)
        return not isinstance(facts, str) and not facts.get("loading")
