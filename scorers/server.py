"""The scorer server's HTTP: the routes of `scorers.contract`, health and metrics. Errors are JSON in OpenAI's shape."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from scorers.contract import ScoreRequest, ScoreResponse, ScorerList
from scorers.credentials import Secret
from scorers.errors import BadScoreRequest, ChangesClosed, Overloaded, ScorerError, WrongSetting
from scorers.local import from_this_machine
from scorers.metrics import Metrics
from scorers.service import Service

logger = logging.getLogger(__name__)

_decode = msgspec.json.Decoder(ScoreRequest).decode
_encode = msgspec.json.Encoder().encode
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}


def create_app(
    service: Service, metrics: Metrics, max_body_bytes: int, key: Secret | None = None, *, loopback: bool = False
) -> FastAPI:
    """The application; it starts the service's loading when it starts, and closes it when it stops.

    key: what /v1/* asks for as a bearer token; health and metrics ask for none. loopback: it listens to this machine
    alone. Scorers are added and removed, which reads files by their paths, by who has the key or is on this machine.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    async def score(request: Request) -> Response:
        body = await _body(request, max_body_bytes)
        return _json(await _while_connected(request, service, read_request(body)))

    async def scorers(_: Request) -> Response:
        return _json(ScorerList(service.infos(), service.added()))

    def may_change(request: Request) -> None:
        peer = request.client.host if request.client else None
        if key is None and not (loopback and from_this_machine(peer, request.headers)):
            raise ChangesClosed(
                "Scorers are added and removed where the server asks for a key (scorer_server.api_key_file or "
                "api_key_env), or else listens on 127.0.0.1 and is called from this machine at that address."
            )

    async def put_scorer(request: Request) -> Response:
        may_change(request)
        settings = read_settings(await _body(request, max_body_bytes))
        try:
            status = service.put(request.path_params["name"], settings)
        except WrongSetting as error:
            raise BadScoreRequest(f"{error}.", error.param) from None
        return _json(status, 202 if status.state == "loading" else 200)

    async def remove_scorer(request: Request) -> Response:
        may_change(request)
        return _json(await service.remove(request.path_params["name"]))

    async def alive(_: Request) -> Response:
        return _json({"status": "ok"})

    async def ready(_: Request) -> Response:
        loading = service.loading
        if not loading:
            return _json({"status": "ready"})
        message = f"Loading {loading[0]}" + (f"; then {', '.join(loading[1:])}." if loading[1:] else ".")
        body = {"status": "loading", "loading": loading, "error": _error(503, "scorer_unavailable", message, None)}
        return _json(body, 503)

    async def show_metrics(_: Request) -> Response:
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.add_route("/v1/score", score, methods=["POST"])
    app.add_route("/v1/scorers", scorers, methods=["GET"])
    app.add_route("/v1/scorers/{name}", put_scorer, methods=["PUT"])
    app.add_route("/v1/scorers/{name}", remove_scorer, methods=["DELETE"])
    app.add_route("/healthz", alive, methods=["GET"])
    app.add_route("/readyz", ready, methods=["GET"])
    app.add_route("/metrics", show_metrics, methods=["GET"])
    _answer_failures(app, metrics, key)
    return app


def _answer_failures(app: FastAPI, metrics: Metrics, key: Secret | None) -> None:
    """Every failure as JSON in OpenAI's shape, counted; calls without the key among them."""

    def failure(status: int, code: str, message: str, param: str | None = None) -> Response:
        metrics.errors.labels(code).inc()
        return _json({"error": _error(status, code, message, param)}, status)

    async def on_scorer_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, ScorerError)
        if error.status == 500:
            logger.error("%s", error, exc_info=error.__cause__)
        param = error.param if isinstance(error, BadScoreRequest) else None
        answer = failure(error.status, error.code, str(error), param)
        if isinstance(error, Overloaded):
            answer.headers["retry-after"] = "1"
        return answer

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = {
            404: f"There is no route {request.url.path} here.",
            405: f"{request.url.path} does not take {request.method}.",
        }.get(error.status_code, error.detail)
        answer = failure(error.status_code, _HTTP_CODES.get(error.status_code, "invalid_request"), message)
        answer.headers.update(error.headers or {})
        return answer

    async def on_any_error(_: Request, error: Exception) -> Response:
        return failure(500, "internal_error", f"The scorer server failed ({type(error).__name__}); its log says why.")

    async def on_disconnect(_: Request, __: Exception) -> Response:
        return Response(status_code=499)

    def refusal() -> Response:
        answer = failure(401, "invalid_api_key", "The scorer server asks for a key: Authorization: Bearer <key>.")
        answer.headers["www-authenticate"] = "Bearer"
        return answer

    app.add_exception_handler(ScorerError, on_scorer_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
    app.add_exception_handler(Exception, on_any_error)
    if key is not None:
        app.add_middleware(_KeyCheck, key=key, refusal=refusal)


class _KeyCheck:
    """Lets only those into /v1/* who hold the key; the body of others is not read."""

    def __init__(self, app: ASGIApp, key: Secret, refusal: Callable[[], Response]) -> None:
        self._app = app
        self._key = key
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1") and not self._held(scope):
            await self._refusal()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _held(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        return scheme.lower() == b"bearer" and self._key.equals(token)


def read_request(body: bytes) -> ScoreRequest:
    """The body as a ScoreRequest. Raises BadScoreRequest naming the field that is wrong."""
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        field = re.sub(r"^\$\.?", "", where.strip("`")) or None
        if field is None and (missing := re.search(r"required field `([^`]+)`", what)):
            field = missing.group(1)
        place = f"{field}: " if field else ""
        raise BadScoreRequest(f"{place}{what}.", field) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadScoreRequest(f"The body is not valid JSON: {error}.") from None
    except RecursionError:
        raise BadScoreRequest("The body is nested too deeply.") from None


def read_settings(body: bytes) -> dict[str, Any]:
    """The body as settings of a scorer. Raises BadScoreRequest."""
    try:
        settings = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadScoreRequest(f"The body is not valid JSON: {error}.") from None
    except RecursionError:
        raise BadScoreRequest("The body is nested too deeply.") from None
    if not isinstance(settings, dict):
        raise BadScoreRequest("The body must be an object with the scorer's settings, such as its kind and its model.")
    return settings


async def _body(request: Request, limit: int) -> bytes:
    too_large = HTTPException(413, f"The body is larger than {limit} bytes.")
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


async def _while_connected(request: Request, service: Service, asked: ScoreRequest) -> ScoreResponse:
    """Score, and drop it when the client goes away. Raises ClientDisconnect then."""
    work = asyncio.ensure_future(service.score(asked))
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise ClientDisconnect
    finally:
        work.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _error(status: int, code: str, message: str, param: str | None) -> dict[str, str | None]:
    kind = "invalid_request_error" if status < 500 and status != 429 else "server_error"
    return {"message": message, "type": "rate_limit_error" if status == 429 else kind, "param": param, "code": code}


def _json(value: object, status: int = 200) -> Response:
    return Response(_encode(value), status, media_type="application/json")
