"""A gateway's admin API as the command line calls it."""

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config import load
from gateway.errors import ConfigError, StartError
from gateway.launch.addresses import gateway_endpoint
from gateway.log.source import DEFAULT_CONFIGS
from scorers.endpoint import Endpoint
from scorers.tls import tls_problem

# Loading an adapter on all workers takes as long as the slowest; the gateway itself gives up earlier.
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class AdminClient:
    """at: the gateway. key: an API key with the scope admin; none where no keys exist."""

    at: Endpoint
    key: str | None = None

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer. Raises StartError with what the gateway said, or why it said nothing."""
        request = urllib.request.Request(
            self.at.url + path, method=method, data=None if body is None else json.dumps(body).encode()
        )
        request.add_header("content-type", "application/json")
        if self.key:
            request.add_unredirected_header("authorization", f"Bearer {self.key}")
        # No proxy: operators call it from its own network.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.at.tls)
        )
        try:
            with opener.open(request, timeout=TIMEOUT_S) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError as error:
            raise StartError(_refusal(error)) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise StartError(f"The gateway at {self.at.url} does not answer: {_why(error)}.") from None


def find_gateway(url: str | None, config: Path | None, key: str | None) -> AdminClient:
    """An address given wins over a file given, that over the default files. Raises ConfigError."""
    if url is not None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError("--url: it is not an address of a gateway, such as http://127.0.0.1:8000.")
        return AdminClient(Endpoint(url), key)
    path = config or next((path for path in DEFAULT_CONFIGS if path.exists()), None)
    if path is None:
        raise ConfigError(
            "There is neither .bestow/run.yaml nor bestow.yaml here: name one with --config, or a gateway with --url."
        )
    return AdminClient(gateway_endpoint(load(path).gateway), key)


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        message = str(json.loads(error.read())["error"]["message"])
    except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
        return f"What answers there is no gateway of this version (status {error.code})."
    hint = ""
    if error.code in (401, 403):
        hint = " Give an admin key with --api-key or in BESTOW_API_KEY."
    return f"{message[:1].upper()}{message[1:].rstrip('.')}.{hint}"


def _why(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(reason, BaseException) and (problem := tls_problem(reason)):
        return problem
    return " ".join(str(reason).split()) or type(reason).__name__
