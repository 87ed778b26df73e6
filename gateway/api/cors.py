"""CORS: which pages a browser lets call the gateway. Installed only where `gateway.cors_origins` names some.

Starlette's middleware, for the paths that pages may call; the admin API is never among them. No cookies, nothing that a
browser adds by itself: a page sends its token or key in a header of its own making, so any header may come.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

Endpoints = Literal["feedback", "chat"]

_PATHS: dict[Endpoints, tuple[str, ...]] = {
    "feedback": ("/v1/feedback",),
    "chat": ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/models"),
}
# How long a browser remembers what a preflight said; Chromium keeps it no longer than this.
_MAX_AGE_S = 7200

# What a page can read of an answer besides its body.
EXPOSED = (
    "x-request-id",
    "x-bestow-profile",
    "x-bestow-policy",
    "x-bestow-reward-model",
    "x-bestow-release",
    "x-bestow-safe-mode",
    "x-bestow-candidates",
    "x-bestow-reward",
    "x-bestow-degraded",
    "x-bestow-overhead-ms",
    "x-bestow-replayed",
    "x-should-retry",
    "retry-after",
)


class Cors:
    """origins: as `gateway.cors_origins`. paths: these, and what is below them."""

    def __init__(self, app: ASGIApp, origins: Sequence[str], paths: Collection[str]) -> None:
        self._app = app
        self._exactly = frozenset(paths)
        self._below = tuple(f"{path}/" for path in paths)
        self._open = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),
            # A page that was named may reach a gateway inside the network it is opened in; not just any page.
            allow_private_network="*" not in origins,
            expose_headers=EXPOSED,
            max_age=_MAX_AGE_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        open_to_pages = path in self._exactly or path.startswith(self._below)
        await (self._open if open_to_pages else self._app)(scope, receive, send)


def cors_paths(endpoints: Iterable[Endpoints]) -> frozenset[str]:
    """The paths of what pages may call."""
    return frozenset(path for name in endpoints for path in _PATHS[name])
