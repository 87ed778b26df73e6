"""An OpenAI-compatible server as an evaluation speaks to it: a gateway of ours, or any other.

A request that is turned away (429), finds no worker (503) or is cut off is repeated for as long as `patience_s` says,
with Retry-After where the server names it: an evaluation has time, and goes behind everybody else (`service_tier:
flex`). What the server cannot do now, it may do later; what it refuses (400) it will refuse again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

import aiohttp

from gateway.config import Config
from gateway.launch.addresses import gateway_endpoint
from training.errors import TrainingError

_AGAIN = frozenset({408, 409, 429, 500, 502, 503, 504})
_FIRST_WAIT_S, _MOST_WAIT_S = 0.5, 30.0
# Somebody sits before it at the first question: a wrong address is told soon.
_FIRST_PATIENCE_S = 10.0

Sleep = Callable[[float], Awaitable[None]]


class Refused(Exception):
    """The server will not answer this request; code, param: as OpenAI's error has them."""

    def __init__(self, message: str, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.param = param


@dataclass(frozen=True, slots=True)
class Server:
    """url: its base, which ends in /v1. key: sent as a bearer token."""

    url: str
    session: aiohttp.ClientSession
    key: str | None = None
    tls: SSLContext | bool = True
    patience_s: float = 600.0
    timeout_s: float = 300.0
    sleep: Sleep = asyncio.sleep

    @classmethod
    def of_gateway(
        cls, config: Config, session: aiohttp.ClientSession, key: str | None, patience_s: float, timeout_s: float
    ) -> "Server":
        """The gateway of a configuration in which every address is filled in."""
        at = gateway_endpoint(config.gateway)
        return cls(f"{at.url}/v1", session, key, at.tls or True, patience_s, timeout_s)

    async def models(self) -> tuple[list[str], bool]:
        """Those it serves, and whether it is a Bestow gateway. Raises TrainingError."""
        try:
            patience_s = min(self.patience_s, _FIRST_PATIENCE_S)
            found = await self._with_patience("GET", "/models", None, patience_s)
        except Refused as error:
            raise TrainingError(f"{self.url} does not say which models it serves: {error}") from None
        data = [one for one in found.get("data", []) if isinstance(one, dict)]
        names = [str(one["id"]) for one in data if "id" in one]
        return names, any(one.get("owned_by") == "bestow" for one in data)

    async def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A chat completion. Raises Refused where there is none, TrainingError where there will be none for any."""
        return await self._with_patience("POST", "/chat/completions", body, self.patience_s)

    async def _with_patience(
        self, method: str, path: str, body: Mapping[str, Any] | None, patience_s: float
    ) -> dict[str, Any]:
        waited, wait = 0.0, _FIRST_WAIT_S
        while True:
            try:
                status, headers, found = await self._once(method, path, body)
                why = _message(found, status)
                if status == 200:
                    return found
                if status in (401, 403):
                    raise TrainingError(f"{self.url} refuses the key: {why} Give one with --api-key or --other-key.")
                if status not in _AGAIN:
                    raise Refused(why, _said(found, "code"), _said(found, "param"))
                asked = _seconds(headers.get("Retry-After"))
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                why, asked = f"it does not answer: {error or type(error).__name__}", None
            step = max(wait, asked or 0.0)
            if waited + step > patience_s:
                raise Refused(why)
            await self.sleep(step)
            waited, wait = waited + step, min(wait * 2, _MOST_WAIT_S)

    async def _once(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> tuple[int, Mapping[str, str], dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        timeout = aiohttp.ClientTimeout(total=self.timeout_s)
        async with self.session.request(
            method, self.url + path, json=body, headers=headers, timeout=timeout, ssl=self.tls, allow_redirects=False
        ) as reply:
            try:
                found = await reply.json(content_type=None)
            except ValueError:
                if reply.status == 200:
                    raise
                found = None
            return reply.status, reply.headers, found if isinstance(found, dict) else {}


def _error(found: Mapping[str, Any]) -> Mapping[str, Any]:
    error = found.get("error")
    return error if isinstance(error, Mapping) else {}


def _message(found: Mapping[str, Any], status: int) -> str:
    return str(_error(found).get("message") or f"it answered with status {status}").rstrip(".") + "."


def _said(found: Mapping[str, Any], key: str) -> str:
    return str(_error(found).get(key) or "")


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:
        return None
