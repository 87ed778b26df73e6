"""What happens to every request: an id, counting, and errors in OpenAI's shape."""

import logging
import time
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.http import error_response
from gateway.errors import ApiError
from gateway.ids import new_completion_id
from gateway.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)


class RequestContext:
    """Outermost: gives each request its id (also the completion's, in `x-request-id`), counts and times it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        # Until the caller is known: `auth.caller_of` makes it an id of the caller's tenant.
        state["request_id"] = new_completion_id()
        begun = time.perf_counter()
        status = 499

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.setdefault("x-request-id", state["request_id"])
                if status == HTTPStatus.UNAUTHORIZED:
                    headers.setdefault("www-authenticate", "Bearer")
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            logger.exception("request %s to %s failed", state["request_id"], scope["path"])
            if status != 499:
                raise  # The answer has begun: nothing else can be said over this connection.
            error = ApiError("the gateway failed on this request; its log has the reason")
            await error_response(error)(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            model = state.get("model", "")
            self._metrics.requests.labels(route, model, str(status)).inc()
            self._metrics.request_seconds.labels(route, model).observe(time.perf_counter() - begun)
