"""The gateway process put together: the parts, their start and stop, and the routes."""

import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from http import HTTPStatus

import aiohttp
import msgspec
from fastapi import FastAPI
from redis.asyncio import Redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway import __version__
from gateway.access.access import Access
from gateway.access.door import Rules
from gateway.admission.admission import Admission
from gateway.admission.lag import LoopLag
from gateway.admission.metrics import AdmissionMetrics
from gateway.api import admin, chat, embeddings, feedback, feedback_batch, health, models, openapi, tokenize
from gateway.api.completions import routes as completions
from gateway.api.cors import Cors, cors_paths
from gateway.api.docs import add_docs
from gateway.api.http import ClientGone, error_response
from gateway.api.idempotency import Idempotency
from gateway.api.last_words import LastWords
from gateway.api.middleware import RequestContext
from gateway.api.responses import routes as responses
from gateway.config import Config
from gateway.control.control import Control
from gateway.control.profiles import ModelDirectory, ProfileStore
from gateway.control.scorers import ScorerDirectory
from gateway.control.shadow import ShadowScoring
from gateway.errors import ApiError, ConfigError, MethodNotAllowed, NotFound
from gateway.feedback.limits import FeedbackLimits
from gateway.feedback.webhook import Webhooks, check_secrets
from gateway.log.archive.opening import archive_of
from gateway.log.archive.runner import ArchiveRunner
from gateway.log.connection import connect
from gateway.log.erase.runner import EraseRunner
from gateway.log.privacy.policy import TenantLog
from gateway.log.privacy.treatment import policies_of
from gateway.log.writer import RecordLog
from gateway.release.controller import ReleaseController
from gateway.release.evidence import EvidenceStore
from gateway.release.leader import Leader
from gateway.release.metrics import ReleaseMetrics
from gateway.release.routes import Releases
from gateway.release.telling import MoveWebhooks
from gateway.scoring import ScorerHandle
from gateway.serving import ChatService
from gateway.signing import Signer, load_secret
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.readiness import Readiness
from gateway.upstreams import Upstreams, read_upstreams, scorer_home, warn_of_unverified
from gateway.workers.discovery import Discovery, entries_of
from gateway.workers.fleet import Fleet
from gateway.workers.metrics import PoolMetrics, WorkersCollector
from gateway.workers.pool import WorkerPool
from scorers.client import ScorerClient
from scorers.local import is_loopback

logger = logging.getLogger(__name__)

_SCORER_TIMEOUT_S = 15.0
_LOG_CLOSE_S = 5.0
# Characters of a path that nobody knows.
_MOST_SHOWN = 200


def create_app(config: Config) -> FastAPI:
    """The ASGI application. Raises ConfigError where the configuration leaves out what a gateway needs."""
    check_complete(config)
    check_secrets([*config.feedback.webhooks, *config.release.webhooks])
    upstreams = read_upstreams(config)
    warn_of_unverified(config)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await _start(app, config, upstreams, metrics, stack)
            yield

    app = FastAPI(
        title="Bestow",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    for part in (chat, completions, responses, embeddings, tokenize, models, feedback, feedback_batch, health, admin):
        app.include_router(part.router)
    add_docs(app)
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(ClientGone, _on_client_gone)
    app.add_exception_handler(HTTPException, _on_http_error)
    # Innermost, so that what it says is counted and has the request's id.
    app.add_middleware(LastWords)
    app.add_middleware(RequestContext, metrics=metrics)
    if config.gateway.cors_origins:
        # Outermost, so that a page can read every answer, those of RequestContext too.
        app.add_middleware(Cors, origins=config.gateway.cors_origins, paths=cors_paths(config.gateway.cors_endpoints))
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


async def _start(app: FastAPI, config: Config, upstreams: Upstreams, metrics: Metrics, stack: AsyncExitStack) -> None:
    """Start the parts in the order in which they need each other; the stack stops them in reverse."""
    # vLLM's server closes idle connections after 5 s; ours must not be the last to know.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)
    session = await stack.enter_async_context(
        aiohttp.ClientSession(connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
    )
    redis = connect(upstreams.redis)
    app.state.redis = redis
    stack.push_async_callback(redis.aclose)
    log = await _start_log(app, config, redis, metrics, stack)
    pool_metrics = PoolMetrics(metrics.registry)
    pools = {name: WorkerPool(name, policy, session, pool_metrics) for name, policy in config.policies.items()}
    lag = LoopLag(metrics.event_loop_lag.set)
    await lag.start()
    stack.push_async_callback(lag.close)
    admissions = _admissions(config, pools, lag, AdmissionMetrics(metrics.registry))
    for admission in admissions.values():
        stack.callback(admission.close)
    app.state.fleet = await _start_workers(config, upstreams, redis, pools, pool_metrics, metrics, stack)
    scorers, server = _scorers(config, upstreams, session, metrics)
    profiles = ProfileStore(config.profiles)
    control = Control(redis, config, profiles, scorers, server, metrics.registry)
    app.state.control = control
    await control.start()
    stack.push_async_callback(control.close)
    releases = Releases(redis, config, pools, scorers, metrics.registry)
    app.state.releases = releases
    await releases.start()
    stack.push_async_callback(releases.close)
    shadow = ShadowScoring(scorers, log.accept, redis, metrics.registry)
    app.state.shadow = shadow
    await shadow.start()
    stack.push_async_callback(shadow.close)
    release_metrics = ReleaseMetrics(metrics.registry, lambda: releases.state, releases.now)
    moves = MoveWebhooks(config.release.webhooks, session, release_metrics)
    stack.push_async_callback(moves.close)
    controller = ReleaseController(
        config,
        releases,
        Leader(redis, least=lambda: releases.state.fence),
        EvidenceStore(redis, releases, app.state.log_archive, metrics.registry),
        app.state.fleet,
        control,
        shadow,
        release_metrics,
        moves.tell,
    )
    app.state.controller = controller
    await controller.start()
    stack.push_async_callback(controller.close)
    readiness = Readiness(pools, lambda: scorers.needed(profiles.deciding() | releases.ranking()), log, metrics)
    await readiness.start()
    stack.push_async_callback(readiness.close)
    rules = Rules(is_loopback(config.gateway.host), config.gateway.allow_anonymous)
    access = Access(redis, config.data_dir, rules, metrics.registry)
    await access.start()
    stack.push_async_callback(access.close)
    app.state.access = access
    idempotency = Idempotency(
        redis,
        metrics,
        ttl_s=config.gateway.idempotency_ttl_s,
        running_s=config.gateway.request_timeout_s,
        erased=log.erased,
    )
    stack.push_async_callback(idempotency.close)
    app.state.idempotency = idempotency
    if log.erasing is not None:
        log.erasing.told.append(lambda _: idempotency.forget_erased())
    given = config.gateway.feedback_secret_file
    secret = load_secret(given or config.data_dir / "feedback.secret", create=given is None)
    signer = Signer(secret, config.gateway.feedback_token_ttl_s)
    app.state.signer = signer
    app.state.feedback_limits = FeedbackLimits(redis, config.feedback.limits, metrics.registry, time.monotonic)
    app.state.service = ChatService(
        config,
        pools,
        admissions,
        scorers,
        profiles,
        ModelDirectory(config),
        control.cards,
        releases,
        log,
        signer,
        metrics,
        shadow.offer,
    )
    app.state.readiness = readiness
    app.state.started = int(time.time())


async def _start_log(app: FastAPI, config: Config, redis: Redis, metrics: Metrics, stack: AsyncExitStack) -> RecordLog:
    """The log, and what works beside it on what it has: archiving, erasing, webhooks."""
    app.state.log_archive = archive_of(config.log.archive, config.data_dir)
    policies = policies_of(config, partial(_tenant_log, app))
    log = RecordLog(config.log, config.data_dir, redis, metrics.registry, policies=policies)
    erasing = EraseRunner(config, redis, metrics.registry)
    app.state.erasing = erasing
    if log.erasing is not None:
        log.erasing.on_new_run = erasing.redis_changed
    await log.start()
    stack.push_async_callback(log.close, _LOG_CLOSE_S)
    erasing.start()
    stack.push_async_callback(erasing.close)
    webhooks = Webhooks(config.feedback.webhooks, redis, config.log.shard, app.state.log_archive, metrics.registry)
    await webhooks.start()
    stack.push_async_callback(webhooks.close)
    archiving = ArchiveRunner(config, redis, metrics.registry)
    await archiving.start()
    stack.push_async_callback(archiving.close)
    return log


def _tenant_log(app: FastAPI, name: str) -> TenantLog | None:
    """What a tenant lets the log keep; None while keys and tenants are not known, when nobody is let in either.

    In safe mode nothing is learnt from.
    """
    access: Access | None = getattr(app.state, "access", None)
    tenant = access.tenant(name) if access else None
    if tenant is None:
        return None
    releases: Releases = app.state.releases
    return msgspec.structs.replace(tenant.log, training="none") if releases.state.safe_mode else tenant.log


def _added(server: ScorerClient, metrics: Metrics, name: str, version: str) -> ScorerHandle:
    return ScorerHandle(name, version, server, _SCORER_TIMEOUT_S, metrics)


async def _start_workers(
    config: Config,
    upstreams: Upstreams,
    redis: Redis,
    pools: Mapping[str, WorkerPool],
    pool_metrics: PoolMetrics,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> Fleet:
    """Who the workers are, by operators and by discovery; and each pool, which keeps asking them how they are."""
    metrics.registry.register(WorkersCollector(list(pools.values())))
    templates = {name: endpoints[0] for name, endpoints in upstreams.workers.items()}
    fleet = Fleet(redis, config.data_dir, pools, templates, metrics.registry)
    await fleet.start()
    stack.push_async_callback(fleet.close)
    for name, pool in pools.items():
        discovery = Discovery(
            entries_of(name, config.policies[name], upstreams.workers[name]),
            partial(fleet.offer, name),
            on_failure=pool_metrics.lookups_failed.labels(name).inc,
        )
        await discovery.start()
        stack.push_async_callback(discovery.close)
        await pool.start()
        stack.push_async_callback(pool.close)
    return fleet


def _scorers(
    config: Config, upstreams: Upstreams, session: aiohttp.ClientSession, metrics: Metrics
) -> tuple[ScorerDirectory, ScorerClient | None]:
    """All that can be asked, and the server that those run on which are added; None: there is none."""
    configured = {
        name: ScorerHandle(
            name,
            f"{name}@{scorer.version}",
            ScorerClient(upstreams.scorers[name], session),
            _SCORER_TIMEOUT_S,
            metrics,
            scorer.relative,
        )
        for name, scorer in config.scorers.items()
    }
    home = scorer_home(config, upstreams)
    server = ScorerClient(home, session) if home else None
    scorers = ScorerDirectory(configured, partial(_added, server, metrics) if server else None)
    return scorers, server


def _admissions(
    config: Config, pools: Mapping[str, WorkerPool], lag: LoopLag, metrics: AdmissionMetrics
) -> dict[str, Admission]:
    """One for each pool, which tells it of changes."""
    found = {}
    for name, pool in pools.items():
        found[name] = Admission(
            name,
            pool.capacity,
            lambda: lag.seconds,
            metrics,
            max_waiting=config.gateway.max_waiting,
            max_wait_s=config.gateway.max_wait_s,
        )
        pool.on_change = found[name].changed
    return found


async def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _on_client_gone(_: Request, __: Exception) -> Response:
    """Nobody reads it; the metrics count it."""
    return Response(status_code=499)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """The router's own errors, in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:_MOST_SHOWN]
    if error.status_code != HTTPStatus.METHOD_NOT_ALLOWED:
        return error_response(NotFound(f"there is nothing at {request.method} {path}"))
    response = error_response(MethodNotAllowed(f"{request.method} is not allowed on {path}"))
    response.headers.update(error.headers or {})
    return response
