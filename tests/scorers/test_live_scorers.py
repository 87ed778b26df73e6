"""Scorers that come and go while the server runs, with scorers that stand in for models."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import pytest
import uvicorn

from scorers.client import ScorerClient
from scorers.contract import Score, ScoreRequest, ScorerInfo, ServedScorer
from scorers.credentials import Secret
from scorers.errors import BadScoreRequest, ChangesClosed, ScorerError, ScorerInUse, ScorerUnavailable, UnknownScorer
from scorers.live_settings import fingerprint
from scorers.loading import Loading
from scorers.metrics import Metrics
from scorers.scorer_settings import RewardConfig, ScorerConfig
from scorers.server import create_app
from scorers.service import Service
from scorers.settings import ScorerServerConfig
from tests.waiting import until

NEW: dict[str, Any] = {"kind": "reward", "model": "good", "version": 1}
ASK = ScoreRequest("new", [{"role": "user", "content": "Hi"}], [{"role": "assistant", "content": "Hello"}])


class Stand:
    """Scores 100 times its version; `hold` keeps calls waiting, and what happened to it is in `closed`."""

    waiting = 0

    def __init__(self, name: str, version: int) -> None:
        self.info = ScorerInfo(name, "reward", "value", f"{name}@{version}", False, 100)
        self.value = 100.0 * version
        self.hold = asyncio.Event()
        self.hold.set()
        self.asked = asyncio.Event()
        self.closed = asyncio.Event()

    async def score(self, request: ScoreRequest) -> list[Score]:
        self.asked.set()
        await self.hold.wait()
        if self.closed.is_set():
            raise ScorerUnavailable("closed under a call")
        return [Score(value=self.value) for _ in request.candidates]

    async def close(self) -> None:
        self.closed.set()


class Server:
    """A service whose loads wait at `gate` (open), fail for the model "bad", and are listed in `loads`."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.loads: list[str] = []
        self.stands: list[Stand] = []
        self.members: dict[str, list[str]] = {}
        self.failures: list[str] = []
        configs: dict[str, ScorerConfig] = {"own": RewardConfig(kind="reward", model="good")}
        self.metrics = Metrics()
        self.service = Service(configs, ScorerServerConfig(), self.load, self.metrics, self.failures.append)

    def load(self, name: str, config: ScorerConfig, loading: Loading) -> tuple[ServedScorer, str]:
        self.gate.wait(5)
        self.loads.append(f"{name}@{config.version}")
        if getattr(config, "model", None) == "bad":
            raise OSError("there are no\nweights")
        self.members[name] = sorted(loading.loaded)
        self.stands.append(Stand(name, config.version))
        return self.stands[-1], "a stand-in"

    def stand(self, version: str) -> Stand:
        return next(stand for stand in self.stands if stand.info.version == version)


@asynccontextmanager
async def listening(server: Server, key: Secret | None = None, *, loopback: bool = True) -> AsyncIterator[str]:
    """The server on a port of its own; its address."""
    app = create_app(server.service, server.metrics, 10_000, key, loopback=loopback)
    runs = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, log_level="warning"))
    task = asyncio.create_task(runs.serve())
    await until(lambda: runs.started and not server.service.loading)
    yield f"http://127.0.0.1:{runs.servers[0].sockets[0].getsockname()[1]}"
    server.gate.set()
    runs.should_exit = True
    await task


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[ScorerClient]:
    async with listening(server) as url, aiohttp.ClientSession() as session:
        yield ScorerClient(url, session)


async def settled(client: ScorerClient, name: str, state: str) -> None:
    async with asyncio.timeout(5):
        while [one.state for one in (await client.listed()).added if one.id == name] != [state]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def value(client: ScorerClient, name: str = "new") -> float | None:
    request = ScoreRequest(name, ASK.messages, ASK.candidates)
    return (await client.score(request, 5.0)).scores[0].value


async def test_a_scorer_is_loaded_while_others_answer(server: Server, client: ScorerClient) -> None:
    server.gate.clear()
    status = await client.put("new", NEW)
    assert (status.state, status.version, status.serving) == ("loading", "new@1", "")
    assert await value(client, "own") == 100.0
    with pytest.raises(ScorerUnavailable, match="still loading"):
        await value(client)
    assert [one.id for one in await client.scorers()] == ["own"]
    server.gate.set()
    await settled(client, "new", "ready")
    assert await value(client) == 100.0
    assert {one.id: one.version for one in await client.scorers()} == {"own": "own@1", "new": "new@1"}


async def test_a_new_version_takes_over_once_it_is_loaded_and_the_old_ends_after_its_last_call(
    server: Server, client: ScorerClient
) -> None:
    await client.put("new", NEW)
    await settled(client, "new", "ready")
    old = server.stand("new@1")
    old.hold.clear()
    running = asyncio.create_task(value(client))
    await old.asked.wait()
    server.gate.clear()
    assert (await client.put("new", NEW | {"version": 2})).serving == "new@1"
    old.hold.set()
    assert await value(client) == 100.0
    old.hold.clear()
    running_on = asyncio.create_task(value(client))
    await asyncio.sleep(0.05)
    server.gate.set()
    await settled(client, "new", "ready")
    assert await value(client) == 200.0
    assert not old.closed.is_set()
    old.hold.set()
    assert [await running, await running_on] == [100.0, 100.0]
    await until(lambda: old.closed.is_set())


async def test_the_same_settings_again_load_nothing(server: Server, client: ScorerClient) -> None:
    for _ in range(3):
        await client.put("new", NEW)
    await settled(client, "new", "ready")
    assert (await client.put("new", dict(reversed(NEW.items())))).state == "ready"
    assert server.loads == ["own@1", "new@1"]


async def test_what_cannot_be_loaded_says_why_and_leaves_what_was_there(server: Server, client: ScorerClient) -> None:
    bad = NEW | {"model": "bad"}
    await client.put("new", bad)
    await settled(client, "new", "failed")
    [status] = (await client.listed()).added
    assert status.reason == "there are no weights" and status.serving == ""
    with pytest.raises(ScorerUnavailable, match="could not be loaded"):
        await value(client)
    await client.put("new", bad)
    await until(lambda: server.loads.count("new@1") == 2)

    await client.put("new", NEW)
    await settled(client, "new", "ready")
    await client.put("new", bad | {"version": 2})
    await settled(client, "new", "failed")
    [status] = (await client.listed()).added
    assert (status.version, status.serving) == ("new@2", "new@1")
    assert await value(client) == 100.0
    assert not server.failures


async def test_a_removed_scorer_ends_what_it_has(server: Server, client: ScorerClient) -> None:
    await client.put("new", NEW)
    await settled(client, "new", "ready")
    stand = server.stand("new@1")
    stand.hold.clear()
    running = asyncio.create_task(value(client))
    await stand.asked.wait()
    removing = asyncio.create_task(client.remove("new"))
    await until(lambda: not server.service.added())
    with pytest.raises(UnknownScorer):
        await value(client)
    assert not removing.done() and not stand.closed.is_set()
    stand.hold.set()
    assert await running == 100.0
    assert (await removing).version == "new@1" and stand.closed.is_set()
    assert 'bestow_scorer_queue_depth{scorer="new"}' not in server.metrics.page().decode()
    with pytest.raises(UnknownScorer, match="there is own"):
        await client.remove("new")


async def test_one_removed_while_it_loads_is_closed_when_it_is_loaded(server: Server, client: ScorerClient) -> None:
    server.gate.clear()
    await client.put("new", NEW)
    await client.remove("new")
    server.gate.set()
    await until(lambda: any(stand.info.id == "new" and stand.closed.is_set() for stand in server.stands))
    assert [one.id for one in await client.scorers()] == ["own"]


async def test_an_ensemble_comes_after_its_members_and_keeps_them(server: Server, client: ScorerClient) -> None:
    await client.put("new", NEW)
    await client.put("both", {"kind": "ensemble", "members": {"own": 1, "new": 1}})
    await settled(client, "both", "ready")
    assert server.members["both"] == ["new", "own"]
    for change in (client.remove("new"), client.put("new", NEW | {"version": 2})):
        with pytest.raises(ScorerInUse, match="member of the ensemble both"):
            await change
    await client.remove("both")
    await client.remove("new")


@pytest.mark.parametrize(
    ("name", "settings", "error", "reason"),
    [
        ("own", NEW, ScorerInUse, "in this server's configuration"),
        ("new", {"kind": "reward"}, BadScoreRequest, "scorers.new.model"),
        ("new", {"kind": "gold", "model": "x"}, BadScoreRequest, "there is no kind 'gold'"),
        ("new", NEW | {"modle": "x"}, BadScoreRequest, "there is no such key"),
        ("new", NEW | {"url": "http://10.0.0.1"}, BadScoreRequest, "url"),
        ("a b", NEW, BadScoreRequest, "scorers.a b"),
        (
            "new",
            NEW | {"vllm": {"url": "http://10.0.0.1", "api_key_file": "/etc/passwd"}},
            BadScoreRequest,
            "vllm.api_key_file",
        ),
    ],
)
async def test_what_is_wrong_with_a_scorer_is_told_before_anything_is_loaded(
    server: Server, client: ScorerClient, name: str, settings: dict[str, Any], error: type[ScorerError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        await client.put(name, settings)
    assert server.loads == ["own@1"] and not (await client.listed()).added


@pytest.mark.parametrize("body", [b"{", b"[]", b"[" * 2000, b'{"kind": "\xff"}'])
async def test_bodies_that_are_no_settings_are_a_400(server: Server, body: bytes) -> None:
    async with listening(server) as url, httpx.AsyncClient(base_url=url) as http:
        answer = await http.put("/v1/scorers/new", content=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_score_request")


async def test_without_a_key_scorers_are_taken_from_this_machine_alone(server: Server) -> None:
    async with listening(server) as url, httpx.AsyncClient(base_url=url) as http:
        for headers in ({"origin": "http://evil.example"}, {"host": "evil.example"}, {"x-forwarded-for": "10.0.0.9"}):
            assert (await http.put("/v1/scorers/new", json=NEW, headers=headers)).status_code == 403
            assert (await http.delete("/v1/scorers/new", headers=headers)).status_code == 403
        assert (await http.put("/v1/scorers/new", json=NEW)).status_code in (200, 202)


async def test_a_server_that_others_reach_takes_scorers_with_its_key_alone(server: Server) -> None:
    async with listening(server, loopback=False) as url, aiohttp.ClientSession() as session:
        for change in (ScorerClient(url, session).put("new", NEW), ScorerClient(url, session).remove("new")):
            with pytest.raises(ChangesClosed, match="where the server asks for a key"):
                await change
    keyed = Server()
    async with listening(keyed, Secret(lambda: "k-0815"), loopback=False) as url, httpx.AsyncClient() as http:
        assert (await http.put(f"{url}/v1/scorers/new", json=NEW)).status_code == 401
        held = {"authorization": "Bearer k-0815"}
        assert (await http.put(f"{url}/v1/scorers/new", json=NEW, headers=held)).status_code in (200, 202)


def test_the_fingerprint_is_of_the_settings_whatever_their_order() -> None:
    assert fingerprint(NEW) == fingerprint(dict(reversed(NEW.items())))
    assert fingerprint(NEW) != fingerprint(NEW | {"version": 2})
