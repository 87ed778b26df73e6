"""Each error a client can see: OpenAI's shape, the right status, and whether trying again can help."""

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from gateway.access.cache import cache_file, save
from gateway.access.caller import Scope
from gateway.access.keys import make_key
from gateway.access.snapshot import Snapshot
from gateway.api.wire import MAX_HEAD_BYTES
from gateway.errors import ApiError
from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.harness import Harness, running_gateway
from tests.gateway.log.conftest import RedisServer, redis_server, stopped_redis

__all__ = ["redis_server", "stopped_redis"]

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@dataclass(frozen=True)
class Case:
    """A request and the error it must get. retry: whether trying the same again soon can help."""

    name: str
    status: int
    type: str
    code: str
    retry: bool = False
    param: str | None = None
    method: str = "POST"
    path: str = CHAT
    body: Any = field(default_factory=lambda: BODY)
    headers: dict[str, str] = field(default_factory=dict)
    worker: Callable[[], FakeWorker] = FakeWorker
    scorers: Callable[[], FakeScorers] = lambda: FakeScorers(rewards=len)
    gateway: dict[str, Any] = field(default_factory=dict)
    keys: bool = False


def chat(**fields: Any) -> dict[str, Any]:
    return {**BODY, **fields}


ID = "chatcmpl-01890000-0000-7000-8000-000000000000"
INVALID = "invalid_request_error"
CASES = [
    Case("not JSON", 400, INVALID, "invalid_json", body=b"{"),
    Case("no body", 400, INVALID, "invalid_json", body=b""),
    Case("a wrong field", 400, INVALID, "invalid_request", body=chat(n="two"), param="n"),
    Case("an unknown field of ours", 400, INVALID, "invalid_request", body=chat(guidance={"m": 1}), param="guidance.m"),
    Case("beyond a bound", 400, INVALID, "invalid_request", body=chat(guidance={"n": 999}), param="guidance.n"),
    Case("not served", 400, INVALID, "unsupported_parameter", body=chat(best_of=3), param="best_of"),
    Case(
        "compressed",
        400,
        INVALID,
        "invalid_request",
        headers={"content-encoding": "gzip"},
        param="content-encoding",
    ),
    Case(
        "the worker's own 400",
        400,
        INVALID,
        "invalid_request",
        worker=lambda: FakeWorker(error=(400, {"message": "top_p must be in (0, 1]", "param": "top_p"})),
        param="top_p",
    ),
    Case(
        "a prompt that does not fit",
        400,
        INVALID,
        "context_length_exceeded",
        worker=lambda: FakeWorker(max_model_len=8),
        body=chat(messages=[{"role": "user", "content": "a b c d e f g h i"}], max_tokens=4),
        param="messages",
    ),
    Case(
        "feedback for no id", 400, INVALID, "invalid_request", path="/v1/feedback", body={"id": "x", "kind": "thumbs"}
    ),
    Case("no key", 401, "authentication_error", "missing_api_key", keys=True),
    Case(
        "a wrong key",
        401,
        "authentication_error",
        "invalid_api_key",
        keys=True,
        headers={"authorization": "Bearer bk_0123456789_" + "x" * 43},
    ),
    Case("a key without the scope", 403, "permission_error", "insufficient_scope", keys=True, headers={"x": "KEY"}),
    Case("no such model", 404, INVALID, "model_not_found", body=chat(model="other"), param="model"),
    Case("no such model, listed", 404, INVALID, "model_not_found", method="GET", path="/v1/models/x", param="model"),
    Case("no such path", 404, INVALID, "not_found", path="/v1/nothing"),
    Case("vLLM's own endpoints", 404, INVALID, "not_found", path="/v1/load_lora_adapter"),
    Case("no such answer", 404, INVALID, "interaction_not_found", method="GET", path=f"/v1/feedback/{ID}", param="id"),
    Case("a wrong method", 405, INVALID, "method_not_allowed", method="PATCH"),
    Case("too large", 413, INVALID, "request_too_large", body=b" " * 3000, gateway={"max_body_bytes": 1024}),
    Case("much too large", 413, INVALID, "request_too_large", body=b" " * 30000, gateway={"max_body_bytes": 1024}),
    Case(
        "the workers are busy",
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
        retry=True,
        worker=lambda: FakeWorker(error=(429, {"message": "busy"})),
    ),
    Case(
        "the worker fails",
        502,
        "server_error",
        "worker_error",
        worker=lambda: FakeWorker(error=(500, {"message": "Traceback (most recent call last): ..."})),
    ),
    Case(
        "the worker refuses late",
        400,
        INVALID,
        "invalid_request",
        worker=lambda: FakeWorker(event={"error": {"message": "out of vocabulary", "param": "stop", "code": 400}}),
        param="stop",
    ),
    Case(
        "the worker cannot use the grammar",
        400,
        INVALID,
        "invalid_request",
        body=chat(response_format={"type": "json_object"}),
        worker=lambda: FakeWorker(event={"error": {"message": "Internal server error", "code": 500}}),
        param="response_format",
    ),
    Case(
        "the worker fails late",
        502,
        "server_error",
        "worker_error",
        worker=lambda: FakeWorker(event={"error": {"message": "Internal server error in /opt/vllm", "code": 500}}),
    ),
    Case("the worker breaks off", 502, "server_error", "worker_error", worker=lambda: FakeWorker(texts=[None])),
    Case(
        "the worker is not ready",
        503,
        "server_error",
        "unavailable",
        retry=True,
        worker=lambda: FakeWorker(error=(503, {"message": "starting"})),
    ),
    Case(
        "the guard is away",
        503,
        "server_error",
        "guard_unavailable",
        retry=True,
        scorers=lambda: FakeScorers(down=frozenset({"safety"})),
    ),
    Case(
        "the guard cannot read it",
        503,
        "server_error",
        "guard_unavailable",
        scorers=lambda: FakeScorers(rewards=len, unreadable=frozenset({"hi"})),
    ),
    Case(
        "too slow",
        504,
        "server_error",
        "deadline_exceeded",
        retry=True,
        worker=lambda: FakeWorker(delays_s=(30.0,)),
        gateway={"request_timeout_s": 0.2},
    ),
]


STREAMED = [case for case in CASES if case.path == CHAT and isinstance(case.body, dict) and case.method == "POST"]
BOTH = [(case, stream) for stream, cases in ((False, CASES), (True, STREAMED)) for case in cases]


@pytest.mark.parametrize(("case", "stream"), BOTH, ids=lambda value: getattr(value, "name", f"stream={value}"))
async def test_an_error_is_openais_and_says_whether_to_try_again(case: Case, stream: bool, tmp_path: Path) -> None:
    headers = dict(case.headers)
    if case.keys:
        key = a_key(tmp_path, ("feedback",))
        headers |= {"authorization": f"Bearer {key}"} if headers.pop("x", None) else {}
    body = {**case.body, "stream": True} if stream else case.body
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        running_gateway(tmp_path, case.worker(), case.scorers(), gateway=case.gateway) as gateway,
        gateway.session.request(case.method, case.path, data=raw, headers=headers) as reply,
    ):
        error = await error_of(reply, case.status, case.retry)
        assert (error["type"], error["code"]) == (case.type, case.code)
        if case.param:
            assert error["param"] == case.param
        leaks = [gateway.worker.url, gateway.scorers.url, str(tmp_path), "Traceback", "/opt"]
        assert not [leak for leak in leaks if leak.removeprefix("http://") in json.dumps(error)]
        route = case.path if case.path in (CHAT, "/v1/feedback") and case.method == "POST" else None
        if route:
            counted = [
                gateway.metric("bestow_requests_total", route=route, model=model, status=str(case.status))
                for model in ("m", "")
            ]
            assert sum(counted) == 1


async def error_of(reply: aiohttp.ClientResponse, status: int, retry: bool) -> dict[str, Any]:
    """The error of a reply, its form checked."""
    assert reply.status == status, await reply.text()
    check_headers(reply.headers, retry)
    return check_error(await reply.read())


def check_headers(headers: Any, retry: bool) -> None:
    assert headers["content-type"] == "application/json"
    assert re.fullmatch(r"chatcmpl-[0-9a-f-]{36}", headers["x-request-id"])
    assert headers["x-should-retry"] == ("true" if retry else "false")
    assert ("retry-after" in headers) == retry
    if retry:
        assert int(headers["retry-after"]) >= 1


def check_error(raw: bytes) -> dict[str, Any]:
    body = json.loads(raw)
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["type"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    return error


def a_key(data_dir: Path, scopes: tuple[Scope, ...]) -> str:
    """A key that the gateway of this folder knows from before."""
    record, key = make_key(name="n", tenant="default", scopes=scopes, expires=None, created_by="test", now=time.time())
    save(cache_file(data_dir), Snapshot(1, {record.id: record}))
    return key


async def test_a_body_that_comes_too_slowly_is_a_408(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.http._BODY_WITHIN_S", 0.1)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    async with running_gateway(tmp_path) as gateway, gateway.session.post(CHAT, data=slow()) as reply:
        error = await error_of(reply, 408, True)
    assert (error["type"], error["code"]) == (INVALID, "request_timeout")


async def test_a_key_at_work_in_another_gateway_is_a_409(redis_server: RedisServer, tmp_path: Path) -> None:
    name = f"bestow:{{idempotency}}:{hashlib.sha256(b'default:k').hexdigest()}"
    async with running_gateway(tmp_path, redis_url=redis_server.url) as gateway:
        async with Redis.from_url(redis_server.url) as redis:
            await redis.set(name, b"running")
        async with gateway.session.post(CHAT, json=BODY, headers={"idempotency-key": "k"}) as reply:
            error = await error_of(reply, 409, True)
    assert error["code"] == "idempotency_in_progress"


async def test_a_client_that_goes_away_is_a_499_in_log_and_metrics(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, FakeWorker(delays_s=(30.0,))) as gateway:
        asking = asyncio.create_task(gateway.chat())
        await eventually(lambda: gateway.worker.running > 0)
        asking.cancel()
        await eventually(lambda: gateway.worker.running == 0)
        await eventually(lambda: gateway.metric("bestow_requests_total", route=CHAT, model="m", status="499") == 1)
        [record] = gateway.interactions
    assert (record.outcome, record.status) == ("cancelled", 499)


async def test_a_405_names_what_is_allowed_and_head_has_no_body(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        async with gateway.session.put(CHAT) as reply:
            await error_of(reply, 405, False)
            assert reply.headers["allow"] == "POST"
        async with gateway.session.head(CHAT) as reply:
            assert (reply.status, await reply.read()) == (405, b"")
            check_headers(reply.headers, False)


async def test_a_bug_is_a_500_that_tells_nothing(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:

        def broken(*_: Any) -> Any:
            raise RuntimeError(f"secret {tmp_path}")

        gateway.service.begin = broken  # type: ignore[assignment, method-assign]
        async with gateway.session.post(CHAT, json=BODY) as reply:
            error = await error_of(reply, 500, False)
    assert error["type"] == "server_error"
    assert "secret" not in error["message"]


async def test_an_error_is_short_however_long_what_was_sent(tmp_path: Path) -> None:
    long = "x" * 100_000
    bodies = [
        chat(model=long),
        chat(messages=[{"role": long, "content": "hi"}]),
        chat(guidance={"profile": long}),
        chat(guidance={long: 1}),
        chat(guidance={"strategy": long}),
        chat(n=int("9" * 4000)),
    ]
    async with running_gateway(tmp_path) as gateway:
        for body in bodies:
            async with gateway.session.post(CHAT, json=body) as reply:
                assert 400 <= reply.status < 500
                assert len(await reply.read()) < 4000
        async with gateway.session.post(f"/v1/{'y' * 20_000}") as reply:
            await error_of(reply, 404, False)
            assert len(await reply.read()) < 1000
        assert b"xxx" not in (await (await gateway.session.get("/metrics")).read())


async def test_what_clients_call_models_does_not_fill_the_metrics(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        for number in range(20):
            await gateway.chat(model=f"made-up-{number}")
        text = await (await gateway.session.get("/metrics")).text()
    assert "made-up" not in text


# --- below the application -------------------------------------------------------------------------------------------


@asynccontextmanager
async def connection(gateway: Harness) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))
    try:
        yield reader, writer
    finally:
        writer.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    async with asyncio.timeout(10):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), headers, await reader.readexactly(int(headers["content-length"]))


def request_bytes(body: bytes, path: str = CHAT) -> bytes:
    return b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


MALFORMED = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a bad version": b"GET /healthz HTTP/9.9\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\nhost: x\r\n\r\n",
    "an unknown method": b"BREW /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    "a blank in the path": b"GET /v1/ models HTTP/1.1\r\nhost: x\r\n\r\n",
    "a raw byte in the path": b"GET /v1/\xff HTTP/1.1\r\nhost: x\r\n\r\n",
    "a header without a colon": b"GET /healthz HTTP/1.1\r\nhost x\r\n\r\n",
    "a NUL in a header": b"GET /healthz HTTP/1.1\r\nhost: x\x00y\r\n\r\n",
    "a length that is none": b"POST /v1/feedback HTTP/1.1\r\nhost: x\r\ncontent-length: two\r\n\r\n",
    "two lengths": b"POST /v1/feedback HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "length and chunks": b"POST /v1/feedback HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
    "a bad chunk": b"POST /v1/feedback HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_not_http_gets_json_too_and_the_connection_ends(raw: bytes, tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        async with connection(gateway) as (reader, writer):
            writer.write(raw)
            status, headers, body = await read_answer(reader)
            assert await asyncio.wait_for(reader.read(), 10) == b""
        assert status == 400
        check_headers(headers, False)
        assert check_error(body)["code"] == "invalid_http"
        assert (await gateway.chat())[0] == 200


async def test_headers_have_a_limit(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway, connection(gateway) as (reader, writer):
        writer.write(b"POST /v1/feedback HTTP/1.1\r\nx: ")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            for _ in range(200):
                writer.write(b"x" * (MAX_HEAD_BYTES // 8))
                await writer.drain()
                await asyncio.sleep(0.005)
            status, headers, body = await read_answer(reader)
            assert status == 431
            check_headers(headers, False)
            assert check_error(body)["code"] == "headers_too_large"
            await reader.readexactly(1)


async def test_a_large_body_is_no_large_head(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway, connection(gateway) as (reader, writer):
        body = json.dumps(chat(messages=[{"role": "user", "content": "x" * 500_000}], max_tokens=1)).encode()
        for _ in range(3):
            writer.write(request_bytes(body))
            status, _, answer = await read_answer(reader)
            assert (status, json.loads(answer)["object"]) == (200, "chat.completion")


@pytest.mark.parametrize("target", ["*", "//", "/v1/%ED%A0%80", "/v1/%00", "/v1/chat/completions/", "http://x/v1/y"])
async def test_odd_targets_are_a_404(target: str, tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway, connection(gateway) as (reader, writer):
        writer.write(f"OPTIONS {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        status, headers, body = await read_answer(reader)
        assert status == 404
        check_headers(headers, False)
        assert check_error(body)["code"] == "not_found"


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_connection_is_good_after_an_error(at_once: bool, tmp_path: Path) -> None:
    good = json.dumps(BODY).encode()
    wanted = [(request_bytes(b"{"), 400), (request_bytes(good, "/v1/nothing"), 404), (request_bytes(good), 200)]
    wanted += [(request_bytes(b" " * 3000), 413), (request_bytes(good), 200)]
    async with (
        running_gateway(tmp_path, gateway={"max_body_bytes": 1024}) as gateway,
        connection(gateway) as (reader, writer),
    ):
        if at_once:
            writer.write(b"".join(raw for raw, _ in wanted))
        found = []
        for raw, _ in wanted:
            if not at_once:
                writer.write(raw)
            found.append((await read_answer(reader))[0])
    assert found == [status for _, status in wanted]


def test_every_error_has_a_status_type_and_code_of_its_own_kind() -> None:
    found = list(subclasses(ApiError))
    assert len(found) > 15
    for error in found:
        assert 400 <= error.status < 600
        assert error.type.endswith("_error")
        assert error.code == error.code.lower()


def subclasses(kind: type[ApiError]) -> list[type[ApiError]]:
    return [kind, *(found for one in kind.__subclasses__() for found in subclasses(one))]


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
