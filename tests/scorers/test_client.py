"""The client against real HTTP servers: every failure has its error, and no number is believed unchecked."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from scorers.client import ScorerClient
from scorers.contract import Score, ScoreRequest, ScorerInfo
from scorers.credentials import Secret, api_key
from scorers.endpoint import Endpoint
from scorers.errors import (
    BadScoreRequest,
    Overloaded,
    ScorerError,
    ScorerFailed,
    ScorerInUse,
    ScorerUnavailable,
    Unauthorized,
    UnknownScorer,
)
from scorers.tls import trusting
from tests.certificates import Authority

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
REQUEST = ScoreRequest("reward", [{"role": "user", "content": "Hi"}], [{"role": "assistant", "content": "Hello"}])


@contextlib.asynccontextmanager
async def serving(
    handler: Handler,
    *,
    tls: ssl.SSLContext | None = None,
    key: Secret | None = None,
    trusts: ssl.SSLContext | None = None,
) -> AsyncIterator[ScorerClient]:
    """A server, and a client of it. tls: the server's. key, trusts: the client's."""
    app = web.Application()
    app.router.add_route("*", "/v1/{path}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession() as session:
        yield ScorerClient(Endpoint(f"{'https' if tls else 'http'}://{host}:{port}/", key, trusts), session)
    await runner.cleanup()


def answering(body: str | bytes, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status, content_type="application/json")

    return handler


def scores(*each: str) -> str:
    return '{"model": "reward", "version": "reward@3", "scores": [' + ", ".join(each) + "]}"


async def test_a_request_goes_out_as_the_contract_has_it_and_scores_come_back() -> None:
    seen: list[Any] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, request.content_type, await request.json()))
        return web.Response(text=scores('{"value": -2.5, "tokens": 7, "unknown": 1}'))

    async with serving(handler) as client:
        answer = await client.score(REQUEST, 2.0)
    assert answer.version == "reward@3"
    assert answer.scores == [Score(value=-2.5, tokens=7)]
    body = {"model": "reward", "messages": REQUEST.messages, "candidates": REQUEST.candidates}
    assert seen == [("POST", "/v1/score", "application/json", body)]


@pytest.mark.parametrize(
    ("score", "says"),
    [
        ('{"value": NaN}', "finite"),
        ('{"value": Infinity}', "finite"),
        ('{"value": 1e999}', "finite"),
        ('{"value": "3"}', "finite"),
        ('{"value": true}', "finite"),
        ('{"categories": {"violence": 1.01}}', "probability"),
        ('{"categories": {"violence": -0.1}}', "probability"),
        ('{"categories": {"violence": NaN}}', "probability"),
        ('{"categories": {"violence": null}}', "probability"),
        ('{"categories": {}}', "categories"),
        ('{"categories": [0.5]}', "categories"),
        ("{}", "nothing"),
        ('{"value": 1, "calibrated": 1.5}', "calibrated"),
        ('{"value": 1, "calibrated": "x"}', "calibrated"),
        ('{"value": 1, "parts": {"a": NaN}}', "parts"),
        ('{"value": 1, "parts": [1]}', "parts"),
        ('{"value": 1, "steps": [0.5, Infinity]}', "steps"),
        ('{"value": 1, "steps": 3}', "steps"),
        ('{"value": 1.0, "error": "x"}', "value and error"),
        ('{"value": 1.0, "categories": {"violence": 0.1}}', "value and categories"),
    ],
)
async def test_a_number_that_breaks_the_contract_is_an_error_of_its_candidate_alone(score: str, says: str) -> None:
    request = ScoreRequest("reward", REQUEST.messages, REQUEST.candidates * 2)
    async with serving(answering(scores(score, '{"value": 1}'))) as client:
        bad, good = (await client.score(request, 2.0)).scores
    assert bad.value is None
    assert bad.categories is None
    assert bad.error is not None
    assert says in bad.error
    assert good == Score(value=1.0)


async def test_categories_and_errors_are_passed_on() -> None:
    request = ScoreRequest("reward", REQUEST.messages, REQUEST.candidates * 2)
    sent = scores('{"categories": {"violence": 0, "fraud": 0.25}}', '{"error": "too long", "tokens": 9}')
    async with serving(answering(sent)) as client:
        answer = await client.score(request, 2.0)
    assert answer.scores == [Score(categories={"violence": 0.0, "fraud": 0.25}), Score(error="too long", tokens=9)]


async def test_what_comes_with_a_score_is_passed_on() -> None:
    request = ScoreRequest("reward", REQUEST.messages, REQUEST.candidates * 2)
    value = '{"value": 2, "calibrated": 0.75, "parts": {"help": 3, "harm": -1}, "steps": [1, 0.5], "tokens": 7}'
    async with serving(answering(scores(value, '{"error": "an image", "unreadable": true}'))) as client:
        answer = await client.score(request, 2.0)
    assert answer.scores == [
        Score(value=2.0, calibrated=0.75, parts={"help": 3.0, "harm": -1.0}, steps=[1.0, 0.5], tokens=7),
        Score(error="an image", unreadable=True),
    ]


@pytest.mark.parametrize(
    "body",
    [
        scores(),
        scores('{"value": 1}', '{"value": 1}'),
        scores('{"value": 1}').replace('"reward",', '"other",'),
        scores("3"),
        '{"scores": [{"value": 1}]}',
        "not json",
        "",
        b"\xff",
        "[" * 100_000,
    ],
)
async def test_an_answer_that_breaks_the_contract_as_a_whole_is_a_failure(body: str | bytes) -> None:
    async with serving(answering(body)) as client:
        with pytest.raises(ScorerFailed):
            await client.score(REQUEST, 2.0)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, BadScoreRequest),
        (413, BadScoreRequest),
        (404, UnknownScorer),
        (409, ScorerInUse),
        (429, Overloaded),
        (500, ScorerFailed),
        (503, ScorerUnavailable),
        (302, ScorerFailed),
        (204, ScorerFailed),
    ],
)
@pytest.mark.parametrize("body", [{"error": {"message": "why", "param": "messages"}}, {"error": "x"}, "html"])
async def test_each_status_has_its_error(status: int, expected: type[ScorerError], body: Any) -> None:
    async with serving(answering(json.dumps(body), status)) as client:
        with pytest.raises(ScorerError) as caught:
            await client.score(REQUEST, 2.0)
    assert type(caught.value) is expected
    if isinstance(body, dict) and isinstance(body["error"], dict) and status != 204:
        assert str(caught.value) == "why"
        assert not isinstance(caught.value, BadScoreRequest) or caught.value.param == "messages"


async def test_nobody_listening_is_unavailable() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ScorerUnavailable, match="cannot be reached"):
            await ScorerClient("http://127.0.0.1:9", session).score(REQUEST, 2.0)


async def test_an_address_that_is_none_is_unavailable() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ScorerUnavailable):
            await ScorerClient("http://nowhere.invalid", session).scorers()


async def test_a_slow_answer_is_unavailable_within_the_timeout_and_its_connection_is_closed() -> None:
    closed = asyncio.Event()
    async with serving(sleeping(closed)) as client:
        began = asyncio.get_running_loop().time()
        with pytest.raises(ScorerUnavailable, match=r"did not answer within 0\.1 s"):
            await client.score(REQUEST, 0.1)
        assert asyncio.get_running_loop().time() - began < 1.0
        await asyncio.wait_for(closed.wait(), 2)


async def test_cancelling_closes_the_connection() -> None:
    closed = asyncio.Event()
    async with serving(sleeping(closed)) as client:
        task = asyncio.create_task(client.score(REQUEST, 10.0))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 2)


def sleeping(closed: asyncio.Event) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        closed.set()
        return web.Response()

    return handler


async def test_a_kept_alive_connection_that_the_server_closed_is_tried_again_once() -> None:
    served: list[int] = []
    answer = scores('{"value": 1}').encode()
    headers = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(0)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for _ in range(2):  # answers once on each connection, and closes it on the second request
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                served[-1] += 1
                if served[-1] == 2:
                    break
                writer.write(headers + answer)
        writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession() as session:
        client = ScorerClient(f"http://127.0.0.1:{port}", session)
        for _ in range(2):
            assert (await client.score(REQUEST, 2.0)).scores == [Score(value=1.0)]
    assert served == [2, 1]


async def test_a_server_that_always_hangs_up_is_unavailable() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(handler) as client:
        with pytest.raises(ScorerUnavailable):
            await client.score(REQUEST, 2.0)


async def test_what_a_server_serves_is_listed() -> None:
    one = '{"id": "r", "kind": "reward", "gives": "value", "version": "r@1", "prompt_only": false, "max_tokens": 9}'
    listed = f'{{"data": [{one}]}}'
    async with serving(answering(listed)) as client:
        assert await client.scorers() == [ScorerInfo("r", "reward", "value", "r@1", False, 9)]
    async with serving(answering('{"data": [{"id": "r"}]}')) as client:
        with pytest.raises(ScorerFailed):
            await client.scorers()


async def test_a_conversation_that_is_no_text_is_refused_before_it_is_sent() -> None:
    async with aiohttp.ClientSession() as session:
        client = ScorerClient("http://127.0.0.1:9", session)
        with pytest.raises(BadScoreRequest):
            await client.score(ScoreRequest("r", [{"role": "user", "content": "\ud800"}]), 1.0)


def asking_for(key: str) -> Handler:
    """Scores for those who hold the key."""

    async def handler(request: web.Request) -> web.Response:
        if request.headers.get("authorization") != f"Bearer {key}":
            return web.json_response({"error": {"message": "no"}}, status=401)
        return web.Response(text=scores('{"value": 1.0}'))

    return handler


async def test_a_server_behind_tls_and_a_key_scores(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    trusts = trusting("x", authority.ca_file)
    async with serving(asking_for("k1"), tls=authority.server(), key=Secret(lambda: "k1"), trusts=trusts) as client:
        assert (await client.score(REQUEST, 5.0)).scores == [Score(value=1.0)]


async def test_a_key_that_is_missing_or_wrong_is_told_without_it() -> None:
    for key, said in ((None, "refuses calls without a key"), (Secret(lambda: "sk-wrong"), "refuses the key")):
        async with serving(asking_for("k1"), key=key) as client:
            with pytest.raises(Unauthorized, match=said) as caught:
                await client.score(REQUEST, 5.0)
        assert "sk-wrong" not in str(caught.value)


async def test_a_key_that_was_changed_in_its_file_is_used_at_once(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    async with serving(asking_for("new"), key=api_key("x", file, None)) as client:
        with pytest.raises(Unauthorized):
            await client.score(REQUEST, 5.0)
        file.write_text("new")
        assert (await client.score(REQUEST, 5.0)).scores == [Score(value=1.0)]


async def test_a_certificate_that_is_not_trusted_is_told_apart_from_no_answer(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    for tls, trusts, said in (
        (authority.server(), None, "TLS fails: its certificate comes from an auth"),
        (
            authority.server(),
            trusting("x", other.ca_file),
            "TLS fails: its certificate comes from an auth",
        ),
        (authority.server(expired=True), trusting("x", authority.ca_file), "has expired"),
        (authority.server("elsewhere.test"), trusting("x", authority.ca_file), "for another name"),
    ):
        async with serving(asking_for("k1"), tls=tls, trusts=trusts) as client:
            with pytest.raises(ScorerUnavailable, match=said):
                await client.scorers()
