"""Workers behind keys and TLS, on real sockets: what gets through, what is refused, and what is said of it."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.errors import ApiError
from gateway.workers.client import WorkerClient, WorkerRefused, WorkerUnreachable, reason_of
from scorers.credentials import api_key
from scorers.endpoint import Endpoint
from scorers.settings import Tls
from scorers.tls import client_context
from tests.certificates import Authority
from tests.fakes import FakeWorker, serve
from tests.gateway.workers.pools import pool_of

KEY = "sk-worker-4711"
BODY: dict[str, Any] = {"model": "policy", "messages": [{"role": "user", "content": "hi"}], "n": 2}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


def at(url: str, tls: Tls | None = None, key_file: Path | None = None) -> Endpoint:
    return Endpoint(url, api_key("worker", key_file, None), client_context("worker", tls or Tls()))


async def refused(endpoint: Endpoint, session: aiohttp.ClientSession) -> ApiError:
    """What asking it and sampling from it fail with: the same."""
    client = WorkerClient(endpoint, session)
    with pytest.raises(ApiError) as asked:
        await client.served_models()
    with pytest.raises(ApiError) as sampled:
        [item async for item in client.sample(BODY)]
    assert type(asked.value) is type(sampled.value) and reason_of(asked.value) == reason_of(sampled.value)
    return asked.value


async def test_a_worker_behind_tls_and_a_key_samples(
    authority: Authority, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(KEY)
    async with serve(worker := FakeWorker(), tls=authority.server(), key=KEY):
        client = WorkerClient(at(worker.url, Tls(ca_file=authority.ca_file), tmp_path / "key"), session)
        assert [model.id for model in await client.served_models()] == ["policy"]
        assert await client.count_tokens({"messages": [{"role": "user", "content": "one two"}]}) == 2
        assert [item async for item in client.sample(BODY)]
    assert len(worker.requests) == 1


async def test_a_key_that_is_missing_or_wrong_is_the_operators_mistake(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("sk-wrong-0000")
    async with serve(worker := FakeWorker(), key=KEY):
        for endpoint in (at(worker.url), at(worker.url, key_file=tmp_path / "key")):
            error = await refused(endpoint, session)
            assert isinstance(error, WorkerRefused) and error.status == 502
            assert "refuses the key" in reason_of(error) and "api_key_file" in reason_of(error)
            assert "sk-" not in error.message and "api_key" not in error.message and worker.url not in error.message


async def test_a_key_that_was_changed_in_its_file_is_used_after_a_refusal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "key").write_text("sk-old-1234")
    async with serve(worker := FakeWorker(), key=KEY), pool_of(check=False) as pool:
        pool.put([at(worker.url, key_file=tmp_path / "key")], "file")
        with caplog.at_level(logging.INFO):
            await pool.check()
            seen = [pool.ready]
            (tmp_path / "key").write_text(KEY)
            await pool.check()
            await pool.check()
            seen.append(pool.ready)
    assert seen == [False, True]
    assert "it refuses the key" in caplog.text and "sk-" not in caplog.text


async def test_an_authority_that_is_not_trusted_is_refused_and_told_apart_from_a_worker_that_is_away(
    authority: Authority, session: aiohttp.ClientSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Authority(tmp_path, "other")
    async with serve(worker := FakeWorker(), tls=authority.server()):
        for tls in (Tls(), Tls(ca_file=other.ca_file)):
            error = await refused(at(worker.url, tls), session)
            assert isinstance(error, WorkerUnreachable)
            assert "not trusted here" in reason_of(error) and "certificate" not in error.message
        async with pool_of(check=False) as pool:
            pool.put([at(worker.url)], "file")
            with caplog.at_level(logging.INFO):
                await pool.check()
    assert "TLS fails: its certificate comes from an authority" in caplog.text
    away = await refused(at(worker.url, Tls(ca_file=authority.ca_file)), session)
    assert isinstance(away, WorkerUnreachable) and "trusted" not in reason_of(away)


async def test_a_certificate_that_expired_or_is_for_another_name_is_refused(
    authority: Authority, session: aiohttp.ClientSession
) -> None:
    ours = Tls(ca_file=authority.ca_file)
    async with serve(worker := FakeWorker(), tls=authority.server(expired=True)):
        assert "has expired" in reason_of(await refused(at(worker.url, ours), session))
    async with serve(worker := FakeWorker(), tls=authority.server("elsewhere.test")):
        assert "for another name" in reason_of(await refused(at(worker.url, ours), session))
        client = WorkerClient(at(worker.url, Tls(verify=False)), session)
        assert await client.served_models()


async def test_https_to_a_port_that_speaks_http_is_told(session: aiohttp.ClientSession) -> None:
    async with serve(worker := FakeWorker()):
        error = await refused(at(worker.url.replace("http://", "https://")), session)
    assert "does not speak TLS" in reason_of(error)


async def test_mutual_tls_lets_in_who_shows_a_certificate_of_its_authority(
    authority: Authority, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    clients = Authority(tmp_path, "clients")
    mine, foreign = clients.issue("gateway.test"), authority.issue("gateway.test")
    async with serve(worker := FakeWorker(), tls=authority.server(clients_of=clients)):
        shown = Tls(ca_file=authority.ca_file, cert_file=mine.cert_file, key_file=mine.key_file)
        client = WorkerClient(at(worker.url, shown), session)
        assert await client.served_models()
        assert [item async for item in client.sample(BODY)]
        wrong = Tls(ca_file=authority.ca_file, cert_file=foreign.cert_file, key_file=foreign.key_file)
        for tls in (Tls(ca_file=authority.ca_file), wrong):
            with pytest.raises(WorkerUnreachable):
                await WorkerClient(at(worker.url, tls), session).served_models()
    assert len(worker.requests) == 1
