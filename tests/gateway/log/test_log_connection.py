"""Redis behind a password and behind TLS: what `connect` does, against a real Redis."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import AuthenticationError, ConnectionError

from gateway.config import RedisConfig
from gateway.errors import ConfigError
from gateway.log.connection import RedisAddress, connect, redis_address
from scorers.tls import tls_problem
from tests.certificates import Authority
from tests.gateway.log.conftest import RedisServer

PASSWORD = "very-secret-0815"


@contextlib.asynccontextmanager
async def behind_tls(port: int, tls: ssl.SSLContext) -> AsyncIterator[str]:
    """A TLS port in front of a plain one, as a TLS-built Redis or stunnel has it; gives its rediss:// address."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pipe(reader, their_writer), pipe(their_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()


async def ping(config: RedisConfig | str) -> None:
    async with connect(config if isinstance(config, str) else redis_address(config)) as client:
        assert await client.echo(b"hello") == b"hello"


async def test_a_password_comes_from_a_file_or_the_environment(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    monkeypatch.setenv("REDIS_PASSWORD", PASSWORD)
    async with connect(redis_server.url) as admin:
        await admin.config_set("requirepass", PASSWORD)
        await admin.acl_setuser("bestow", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+@all"], keys=["*"])
    await ping(RedisConfig(url=redis_server.url, password_file=tmp_path / "password"))
    await ping(RedisConfig(url=redis_server.url, password_env="REDIS_PASSWORD"))
    await ping(RedisConfig(url=redis_server.url, username="bestow", password_env="REDIS_PASSWORD"))
    await ping(redis_server.url.replace("://", f"://:{PASSWORD}@"))


async def test_a_password_that_is_missing_or_wrong_is_refused_without_being_shown(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with connect(redis_server.url) as admin:
        await admin.config_set("requirepass", PASSWORD)
    (tmp_path / "password").write_text("wrong-secret")
    with pytest.raises(AuthenticationError) as caught:
        await ping(RedisConfig(url=redis_server.url, password_file=tmp_path / "password"))
    assert "secret" not in str(caught.value)
    with pytest.raises(AuthenticationError):
        await ping(RedisConfig(url=redis_server.url))


async def test_a_changed_password_is_used_at_the_next_connection(redis_server: RedisServer, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first-secret")
    async with connect(redis_server.url) as admin:
        await admin.config_set("requirepass", "first-secret")
    async with connect(redis_address(RedisConfig(url=redis_server.url, password_file=file))) as client:
        await client.echo(b"one")
        await client.config_set("requirepass", PASSWORD)
        file.write_text(PASSWORD)
        await client.connection_pool.disconnect()
        assert await client.echo(b"two") == b"two"


async def test_tls_is_verified(redis_server: RedisServer, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    async with behind_tls(redis_server.port, authority.server()) as url:
        await ping(RedisConfig(url=url, ca_file=authority.ca_file))
        await ping(RedisConfig(url=url, verify=False))
        for config in (RedisConfig(url=url), RedisConfig(url=url, ca_file=other.ca_file)):
            with pytest.raises(ConnectionError) as caught:
                await ping(config)
            assert "not trusted here" in str(tls_problem(caught.value))
    async with behind_tls(redis_server.port, authority.server("elsewhere.test")) as url:
        with pytest.raises(ConnectionError) as caught:
            await ping(RedisConfig(url=url, ca_file=authority.ca_file))
        assert "for another name" in str(tls_problem(caught.value))


async def test_mutual_tls_shows_our_certificate(redis_server: RedisServer, tmp_path: Path) -> None:
    authority, clients = Authority(tmp_path), Authority(tmp_path, "clients")
    mine = clients.issue("gateway.test")
    async with behind_tls(redis_server.port, authority.server(clients_of=clients)) as url:
        ours = RedisConfig(url=url, ca_file=authority.ca_file, cert_file=mine.cert_file, key_file=mine.key_file)
        await ping(ours)
        with pytest.raises((ConnectionError, OSError)):
            await ping(RedisConfig(url=url, ca_file=authority.ca_file))


def test_an_address_shows_neither_its_url_nor_its_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    address = redis_address(RedisConfig(url="redis://host:1/0", password_file=tmp_path / "password"))
    assert PASSWORD not in f"{address!r} {address.shown}"
    in_url = RedisAddress(f"redis://user:{PASSWORD}@host:1/0")
    assert PASSWORD not in f"{in_url!r} {in_url.shown}" and in_url.shown == "redis://host:1/0"


def test_a_password_file_that_cannot_be_read_is_the_configurations_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^redis\.password_file: there is no file"):
        redis_address(RedisConfig(url="redis://host:1/0", password_file=tmp_path / "none"))
