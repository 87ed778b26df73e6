"""The gateway process put together: the parts, their start and stop, and the routes."""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus

import aiohttp
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway import __version__
from gateway.api import chat, feedback, health, models
from gateway.api.http import error_response
from gateway.api.middleware import RequestContext
from gateway.config import Config
from gateway.control.profiles import ModelDirectory, ProfileStore
from gateway.errors import ApiError, ConfigError, MethodNotAllowed, NotFound
from gateway.log.connection import connect
from gateway.log.writer import RecordLog
from gateway.scoring import ScorerHandle
from gateway.serving import ChatService
from gateway.signing import Signer, load_secret
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.readiness import Readiness
from gateway.workers.client import WorkerClient
from gateway.workers.pool import WorkerPool
from scorers.client import ScorerClient

logger = logging.getLogger(__name__)

_SCORER_TIMEOUT_S = 15.0
_LOG_CLOSE_S = 5.0


def create_app(config: Config) -> FastAPI:
    """The ASGI application. Raises ConfigError where the configuration leaves out what a gateway needs."""
    check_complete(config)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await _start(app, config, metrics, stack)
            yield

    app = FastAPI(
        title="Bestow",
        version=__version__,
        description="An OpenAI-compatible gateway that delivers the best safe one of n candidates.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    for part in (chat, feedback, models, health):
        app.include_router(part.router)
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_middleware(RequestContext, metrics=metrics)
    return app


def check_complete(config: Config) -> None:
    """A running gateway knows every address. Raises ConfigError naming the key that is missing."""
    if not config.models:
        raise ConfigError("models: there is none; name at least one model, its policy and its profile.")
    for name, policy in config.policies.items():
        if not policy.workers:
            raise ConfigError(f"policies.{name}.workers: there is none. Name a vLLM server, or start with `bestow up`.")
    for name, scorer in config.scorers.items():
        if scorer.url is None:
            raise ConfigError(f"scorers.{name}.url is missing. Name a scorer server, or start with `bestow up`.")
    if config.redis.url is None:
        raise ConfigError("redis.url is missing. Name a Redis, or start with `bestow up`.")


async def _start(app: FastAPI, config: Config, metrics: Metrics, stack: AsyncExitStack) -> None:
    """Start the parts in the order in which they need each other; the stack stops them in reverse."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    session = await stack.enter_async_context(
        aiohttp.ClientSession(connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
    )
    assert config.redis.url is not None  # check_complete saw to it.
    redis = connect(config.redis.url)
    stack.push_async_callback(redis.aclose)
    log = RecordLog(config.log, config.data_dir, redis, metrics.registry)
    await log.start()
    stack.push_async_callback(log.close, _LOG_CLOSE_S)
    pools = {
        name: WorkerPool(name, [WorkerClient(worker.url, session) for worker in policy.workers])
        for name, policy in config.policies.items()
    }
    for pool in pools.values():
        await pool.start()
        stack.push_async_callback(pool.close)
    scorers = {
        name: ScorerHandle(
            name, f"{name}@{scorer.version}", ScorerClient(str(scorer.url), session), _SCORER_TIMEOUT_S, metrics
        )
        for name, scorer in config.scorers.items()
    }
    readiness = Readiness(pools, scorers, log, metrics)
    await readiness.start()
    stack.push_async_callback(readiness.close)
    given = config.gateway.feedback_secret_file
    secret = load_secret(given or config.data_dir / "feedback.secret", create=given is None)
    signer = Signer(secret, config.gateway.feedback_token_ttl_s)
    app.state.service = ChatService(
        config, pools, scorers, ProfileStore(config.profiles), ModelDirectory(config), log, signer, metrics
    )
    app.state.readiness = readiness
    app.state.started = int(time.time())


async def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """The router's own errors, in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return error_response(MethodNotAllowed(f"{request.method} is not allowed on {request.url.path}"))
    return error_response(NotFound(f"there is nothing at {request.method} {request.url.path}"))
