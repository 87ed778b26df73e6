"""The server's HTTP in this process, with scorers that stand in for models."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
import pytest
import uvicorn

from scorers.client import ScorerClient
from scorers.contract import Score, ScoreRequest, ScorerInfo
from scorers.credentials import Secret
from scorers.errors import Overloaded
from scorers.loading import Loading, ServedScorer
from scorers.metrics import Metrics
from scorers.scorer_settings import RewardConfig, ScorerConfig
from scorers.server import create_app
from scorers.service import Service
from scorers.settings import ScorerServerConfig

BODY: dict[str, Any] = {
    "model": "reward",
    "messages": [{"role": "user", "content": "Hi"}],
    "candidates": [{"role": "assistant", "content": "Hello"}],
}
LIMIT = 2000


class Scripted:
    """A scorer that does what the content of the last message says."""

    waiting = 3

    def __init__(self, name: str) -> None:
        self.info = ScorerInfo(name, "reward", "value", f"{name}@1", False, 100)
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def score(self, request: ScoreRequest) -> list[Score]:
        match request.messages[-1].get("content"):
            case "overload":
                raise Overloaded("full")
            case "crash":
                raise KeyError("secret detail")
            case "hang":
                self.begun.set()
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
        return [Score(value=float(index), tokens=5) for index, _ in enumerate(request.candidates)]

    async def close(self) -> None:
        pass


class Server:
    """A service, its app, and a gate that keeps models loading until it is opened."""

    def __init__(self, key: Secret | None = None) -> None:
        self.gate = threading.Event()
        self.failures: list[str] = []
        self.scorers: dict[str, Scripted] = {}
        configs = {name: RewardConfig(kind="reward", model="m") for name in ("reward", "second")}
        self.metrics = Metrics()
        self.service = Service(configs, ScorerServerConfig(), self.load, self.metrics, self.failures.append)
        self.app = create_app(self.service, self.metrics, LIMIT, key)
        self.broken = False

    def load(self, name: str, config: ScorerConfig, loading: Loading) -> tuple[ServedScorer, str]:
        self.gate.wait(5)
        if self.broken:
            raise OSError("no such\nfile")
        assert loading.observe
        loading.observe(2, 30, 0.01)
        self.scorers[name] = Scripted(name)
        return self.scorers[name], "scripted"

    async def loaded(self) -> None:
        self.gate.set()
        assert self.service.loader is not None
        await asyncio.to_thread(self.service.loader.join)
        await asyncio.sleep(0)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with server.app.router.lifespan_context(server.app):
        yield server
        server.gate.set()


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(server.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://scorers") as client:
        yield client


async def test_alive_at_once_and_ready_when_all_is_loaded(server: Server, http: httpx.AsyncClient) -> None:
    assert (await http.get("/healthz")).status_code == 200
    loading = await http.get("/readyz")
    assert loading.status_code == 503
    assert loading.json()["loading"] == ["reward", "second"]
    assert "Loading reward" in loading.json()["error"]["message"]
    early = await http.post("/v1/score", json=BODY)
    assert early.status_code == 503
    assert early.json()["error"]["code"] == "scorer_unavailable"
    await server.loaded()
    assert (await http.get("/readyz")).json() == {"status": "ready"}
    assert [one["id"] for one in (await http.get("/v1/scorers")).json()["data"]] == ["reward", "second"]


async def test_a_model_that_cannot_load_is_told_in_one_sentence(server: Server) -> None:
    server.broken = True
    await server.loaded()
    assert server.failures == ["The scorer reward cannot be served. no such file"]


async def test_scores_are_given_in_order(server: Server, http: httpx.AsyncClient) -> None:
    await server.loaded()
    answer = await http.post("/v1/score", json={**BODY, "candidates": [{}, {}]})
    assert answer.json() == {
        "model": "reward",
        "version": "reward@1",
        "scores": [{"value": 0.0, "tokens": 5}, {"value": 1.0, "tokens": 5}],
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "param"),
    [
        ("POST", "/v1/score", b"{", 400, "invalid_score_request", None),
        ("POST", "/v1/score", b"", 400, "invalid_score_request", None),
        ("POST", "/v1/score", b'{"model": "\xff"}', 400, "invalid_score_request", None),
        ("POST", "/v1/score", b"[" * 1500, 400, "invalid_score_request", None),
        ("POST", "/v1/score", b"[]", 400, "invalid_score_request", None),
        ("POST", "/v1/score", b'{"messages": []}', 400, "invalid_score_request", "model"),
        ("POST", "/v1/score", b'{"model": 3, "messages": []}', 400, "invalid_score_request", "model"),
        ("POST", "/v1/score", b'{"model": "reward", "messages": [3]}', 400, "invalid_score_request", "messages[0]"),
        ("POST", "/v1/score", b'{"model": "no", "messages": []}', 404, "scorer_not_found", None),
        ("POST", "/v1/score", b" " * (LIMIT + 1), 413, "request_too_large", None),
        ("GET", "/v1/score", None, 405, "method_not_allowed", None),
        ("GET", "/v1/score/", None, 404, "not_found", None),
        ("GET", "/", None, 404, "not_found", None),
    ],
)
async def test_mistakes_are_told_in_the_shape_of_openai(
    server: Server,
    http: httpx.AsyncClient,
    method: str,
    path: str,
    body: bytes | None,
    status: int,
    code: str,
    param: str | None,
) -> None:
    await server.loaded()
    answer = await http.request(method, path, content=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert f'bestow_scorer_errors_total{{code="{code}"}} 1.0' in (await http.get("/metrics")).text


async def test_a_body_without_a_length_is_limited_too(server: Server, http: httpx.AsyncClient) -> None:
    await server.loaded()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * (LIMIT // 3)

    assert (await http.post("/v1/score", content=chunks())).status_code == 413


@pytest.mark.parametrize(
    ("what", "status", "code"), [("overload", 429, "scorer_overloaded"), ("crash", 500, "internal_error")]
)
async def test_failures_of_a_scorer_are_json_without_its_inner_details(
    server: Server, http: httpx.AsyncClient, what: str, status: int, code: str
) -> None:
    await server.loaded()
    answer = await http.post("/v1/score", json={**BODY, "messages": [{"role": "user", "content": what}]})
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert "secret" not in answer.text


async def test_who_comes_to_a_full_queue_is_told_when_to_come_again(server: Server, http: httpx.AsyncClient) -> None:
    await server.loaded()
    answer = await http.post("/v1/score", json={**BODY, "messages": [{"role": "user", "content": "overload"}]})
    assert answer.headers["retry-after"] == "1"


async def test_metrics_tell_what_happened(server: Server, http: httpx.AsyncClient) -> None:
    await server.loaded()
    await http.post("/v1/score", json=BODY)
    page = (await http.get("/metrics")).text
    for line in (
        'bestow_scorer_scores_total{outcome="value",scorer="reward"} 1.0',
        'bestow_scorer_tokens_total{scorer="reward"} 5.0',
        'bestow_scorer_queue_depth{scorer="reward"} 3.0',
        'bestow_scorer_batch_items_sum{scorer="reward"} 2.0',
        'bestow_scorer_batch_tokens_sum{scorer="reward"} 30.0',
        'bestow_scorer_forward_seconds_count{scorer="reward"} 1.0',
        'bestow_scorer_request_seconds_count{scorer="reward"} 1.0',
    ):
        assert line in page
    assert 'bestow_scorer_model_load_seconds{scorer="second"}' in page


async def test_work_of_a_client_that_went_away_is_dropped() -> None:
    server = Server()
    server.gate.set()
    uvicorn_server = uvicorn.Server(uvicorn.Config(server.app, port=0, log_config=None, log_level="warning"))
    running = asyncio.create_task(uvicorn_server.serve())
    async with asyncio.timeout(5):
        while not (uvicorn_server.started and not server.service.loading):  # noqa: ASYNC110  uvicorn has no event
            await asyncio.sleep(0.01)
    port = uvicorn_server.servers[0].sockets[0].getsockname()[1]
    scorer = server.scorers["reward"]
    async with aiohttp.ClientSession() as session:
        client = ScorerClient(f"http://127.0.0.1:{port}", session)
        request = ScoreRequest("reward", [{"role": "user", "content": "hang"}], [{}])
        task = asyncio.create_task(client.score(request, 20.0))
        await asyncio.wait_for(scorer.begun.wait(), 5)
        task.cancel()
        await asyncio.wait_for(scorer.cancelled.wait(), 5)
    uvicorn_server.should_exit = True
    await asyncio.wait_for(running, 5)


async def test_a_server_with_a_key_scores_for_those_who_hold_it() -> None:
    server = Server(Secret(lambda: "k-0815"))
    transport = httpx.ASGITransport(server.app, raise_app_exceptions=False)
    async with (
        server.app.router.lifespan_context(server.app),
        httpx.AsyncClient(transport=transport, base_url="http://scorers") as http,
    ):
        await server.loaded()
        wrong: list[dict[str, str]] = [
            {},
            {"authorization": "k-0815"},
            {"authorization": "Bearer"},
            {"authorization": "Bearer k-081"},
            {"authorization": "Bearer k-08155"},
            {"authorization": "Basic k-0815"},
        ]
        for headers in wrong:
            for path in ("/v1/scorers", "/v1/score", "/v1/nothing"):
                answer = await http.post(path, json=BODY, headers=headers)
                assert answer.status_code == 401, (headers, path)
                error = answer.json()["error"]
                assert set(error) == {"message", "type", "param", "code"} and error["code"] == "invalid_api_key"
                assert answer.headers["www-authenticate"] == "Bearer" and "k-0815" not in answer.text
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await http.get(path)).status_code == 200
        assert 'code="invalid_api_key"' in (await http.get("/metrics")).text
        held = await http.post("/v1/score", json=BODY, headers={"authorization": "bearer k-0815"})
        assert held.status_code == 200
