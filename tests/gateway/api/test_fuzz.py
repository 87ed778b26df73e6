"""Raw bodies of every kind on every endpoint that takes one: never a 5xx, OpenAI's shape, no growth in memory."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.access.cache import cache_file, save
from gateway.access.snapshot import Snapshot
from gateway.api.operations import OPERATIONS
from gateway.config import Config, dump
from tests.corpus import PASSED, Odd, odd_fields, raw_bodies, wrong_fields
from tests.fakes import FakeScorers, FakeWorker, serve
from tests.gateway.api.test_errors import check_error
from tests.gateway.harness import Harness, config_for, running_gateway
from tests.gateway.log.conftest import RedisServer, redis_server, stopped_redis
from tests.ports import free_port

__all__ = ["redis_server", "stopped_redis"]

Json = dict[str, Any]

ENDPOINTS = sorted(
    (method, path) for method, path in OPERATIONS if method in ("POST", "PUT") and not path.endswith("/cancel")
)

UNKNOWN = {
    "/admin/v1/keys/{key_id}/rotate",
    "/admin/v1/workers",
    "/admin/v1/workers/{worker_id}/drain",
    "/admin/v1/workers/{worker_id}/undrain",
    "/v1/feedback",
    "/admin/v1/tenants/{name}",
    "/admin/v1/profiles/{name}",
    "/admin/v1/profiles/{name}/revert",
    "/admin/v1/models/{model}/card",
    "/admin/v1/releases/{model}",
    "/admin/v1/releases/{model}/promote",
    "/admin/v1/releases/{model}/rollback",
    "/admin/v1/releases/{model}/veto",
    "/admin/v1/releases/{model}/hold",
    "/admin/v1/releases/{model}/resume",
}


@asynccontextmanager
async def gateway_with_a_key(redis: RedisServer, folder: Path) -> AsyncIterator[tuple[Harness, Json, dict[str, str]]]:
    """A gateway, its document, and the headers of an admin: bodies that make keys must not shut the door."""
    worker = FakeWorker(lenient=True, embeds=True)
    async with running_gateway(folder, worker, redis_url=redis.url) as gateway:
        async with gateway.session.post("/admin/v1/keys", json={"name": "n", "scopes": ["admin"]}) as reply:
            key = (await reply.json())["key"]
        async with gateway.session.get("/openapi.json") as reply:
            document = await reply.json()
        yield gateway, document, {"authorization": f"Bearer {key}"}


def good_body(document: Json, method: str, path: str) -> Json:
    """The example of an endpoint, for the model and the policy that are there."""
    example: Json = document["paths"][path][method.lower()]["requestBody"]["content"]["application/json"]["example"]
    return {**example, **{key: name for key, name in (("model", "m"), ("policy", "policy")) if key in example}}


def declared(document: Json, method: str, path: str) -> list[str]:
    schema = document["paths"][path][method.lower()]["requestBody"]["content"]["application/json"]["schema"]
    return list(document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]["properties"])


def bodies(document: Json, method: str, path: str) -> list[Odd]:
    good = good_body(document, method, path)
    found = list(raw_bodies(good))
    fields = [*wrong_fields(good, declared(document, method, path))]
    if "model" in good:
        fields += odd_fields(good)
    if "guidance" in declared(document, method, path):
        inside = list(document["components"]["schemas"]["GuidanceRequest"]["properties"])
        fields += [(f"guidance.{name}", {**good, "guidance": body}) for name, body in wrong_fields({}, inside)]
    return [*found, *(Odd(name, json.dumps(body).encode()) for name, body in fields)]


async def send_all(
    session: aiohttp.ClientSession, method: str, path: str, odd: Iterable[Odd], headers: dict[str, str]
) -> list[str]:
    """Send them all, some at a time. Returns what was wrong with the answers."""
    gate = asyncio.Semaphore(8)
    wrong: list[str] = []
    address = path.replace("{name}", "t").replace("{key_id}", "abcdefghij").replace("{model}", "m")

    async def one(body: Odd) -> None:
        sent = {"content-type": "application/json", **headers, **body.headers}
        async with gate, session.request(method, address, data=body.body, headers=sent) as reply:
            answer = await reply.read()
            if reply.status >= 500:
                wrong.append(f"{reply.status} {body.name}: {answer[:200]!r}")
            elif reply.status >= 400:
                try:
                    check_error(answer)
                    assert len(answer) < 5000
                except (AssertionError, ValueError) as error:
                    wrong.append(f"{reply.status} {body.name}: {answer[:200]!r} {error!r}")
            elif reply.content_type == "text/event-stream":
                assert b'data: {"error"' not in answer, body.name
            else:
                json.loads(answer)

    await asyncio.gather(*(one(body) for body in odd))
    return wrong


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
async def test_no_body_is_a_5xx(method: str, path: str, redis_server: RedisServer, tmp_path: Path) -> None:
    async with gateway_with_a_key(redis_server, tmp_path) as (gateway, document, headers):
        odd = bodies(document, method, path)
        assert len(odd) > 200
        assert await send_all(gateway.session, method, path, odd, headers) == []
        good = json.dumps(good_body(document, method, path)).encode()
        async with gateway.session.request(
            method, path.replace("{name}", "t2").replace("{key_id}", "x"), data=good, headers=headers
        ) as reply:
            # These name what is not there (a key, a worker, an answer, a model), or was added already.
            assert (reply.status < 300) == (path not in UNKNOWN), await reply.text()


async def test_streams_of_odd_bodies(redis_server: RedisServer, tmp_path: Path) -> None:
    async with gateway_with_a_key(redis_server, tmp_path) as (gateway, document, headers):
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses"):
            good = good_body(document, "POST", path)
            odd = [Odd(name, json.dumps({**body, "stream": True}).encode()) for name, body in odd_fields(good)]
            assert await send_all(gateway.session, "POST", path, odd, headers) == []


async def test_odd_bodies_in_chunks(redis_server: RedisServer, tmp_path: Path) -> None:
    async def pieces(body: bytes) -> AsyncIterator[bytes]:
        size = max(1, len(body) // 7)
        for start in range(0, len(body), size):
            yield body[start : start + size]

    async with gateway_with_a_key(redis_server, tmp_path) as (gateway, document, headers):
        path = "/v1/chat/completions"
        for odd in list(raw_bodies(good_body(document, "POST", path)))[::3]:
            async with gateway.session.post(path, data=pieces(odd.body), headers={**headers, **odd.headers}) as reply:
                assert reply.status < 500, odd.name
                if reply.status >= 400:
                    check_error(await reply.read())


TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_NAMES = """
model messages prompt input n seed stream tools guidance stream_options temperature max_tokens user response_format
structured_outputs tool_choice text reasoning metadata logit_bias stop include logprobs previous_response_id
instructions id kind value candidate over tags comment token name scopes expires grace tokens models
"""
NAMES = st.sampled_from(_NAMES.split())


@st.composite
def mutated(draw: st.DrawFn, good: bytes) -> bytes:
    """A good body with some fields replaced by anything, or with bytes cut out, put in or changed."""
    if draw(st.booleans()):
        changed = draw(st.dictionaries(NAMES, JSON, min_size=1, max_size=3))
        return json.dumps({**json.loads(good), **changed}).encode()
    raw = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(raw) - 1)))
        raw[start : start + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(raw)


def generated(strategy: st.SearchStrategy[bytes], count: int) -> list[bytes]:
    """The same examples at each run."""
    found: list[bytes] = []

    @settings(
        max_examples=count,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: bytes) -> None:
        found.append(example)

    collect()
    return found


async def test_no_mutation_of_a_good_body_is_a_5xx(redis_server: RedisServer, tmp_path: Path) -> None:
    async with gateway_with_a_key(redis_server, tmp_path) as (gateway, document, headers):
        for method, path in ENDPOINTS:
            good = json.dumps(good_body(document, method, path)).encode()
            odd = [Odd(repr(one[:300]), one) for one in generated(mutated(good), 120)]
            assert len(odd) > 100
            # On new connections: those before may have been idle for too long while these bodies were made.
            async with aiohttp.ClientSession(gateway.url) as session:
                assert await send_all(session, method, path, odd, headers) == [], path


async def test_numbers_arrive_at_the_worker_as_they_were_sent(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(lenient=True)) as gateway:
        for text in ("-0.0", "1e308", "1e-320", "0.1", str(2**63 - 1), str(-(2**63))):
            raw = f'{{"model": "m", "messages": [{{"role": "user", "content": "hi"}}], "x_number": {text}}}'
            async with gateway.session.post("/v1/chat/completions", data=raw.encode()) as reply:
                assert reply.status == 200, await reply.text()
            assert repr(gateway.worker.requests[-1]["x_number"]) == repr(json.loads(text))


@contextmanager
def gateway_process(config: Config, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """`python -m gateway` on a free port."""
    port = free_port()
    file = folder / "gateway.yaml"
    file.write_text(dump(config.model_copy(update={"gateway": config.gateway.model_copy(update={"port": port})})))
    process = subprocess.Popen([sys.executable, "-m", "gateway", "--config", str(file)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None and time.monotonic() < deadline, "the gateway did not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


ROUNDS = 3
MOST_GROWTH_MIB = 8


async def test_odd_bodies_leave_nothing_in_memory(redis_server: RedisServer, tmp_path: Path) -> None:
    worker, scorers = FakeWorker(lenient=True), FakeScorers(rewards=len)
    save(cache_file(tmp_path), Snapshot())
    good = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    odd = list(raw_bodies(good))
    odd += [Odd("odd", json.dumps({**good, **fields}).encode()) for fields in PASSED]
    # What is kept by its name or its content must be bounded: each of these is new.
    large = "x" * 200_000
    async with serve(worker), serve(scorers):
        config = config_for(worker, scorers, tmp_path, {"n": 1}, redis_url=redis_server.url)
        with gateway_process(config, tmp_path) as (url, process):
            async with aiohttp.ClientSession(url) as session, asyncio.timeout(120):
                # While the gateway started, nobody answered its questions to the fakes of this loop.
                while True:
                    async with session.get("/readyz") as reply:
                        if reply.status == 200:
                            break
                    await asyncio.sleep(0.05)
                resident = []
                for number in range(ROUNDS + 2):
                    named = [{"user": f"{number}-{i}{large}", "model": f"{number}-{i}{large}"} for i in range(40)]
                    new = [Odd("new", json.dumps({**good, **fields}).encode()) for fields in named]
                    for _ in range(2):
                        wrong = await send_all(session, "POST", "/v1/chat/completions", [*odd, *new], {})
                        assert wrong == []
                    worker.requests.clear()
                    scorers.requests.clear()
                    resident.append(process.memory_info().rss / 2**20)
    growth = resident[-1] - resident[1]
    assert growth < MOST_GROWTH_MIB, f"MiB after each round: {resident}"
