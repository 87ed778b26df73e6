"""The Redis client, with the time limits the log counts on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ssl import SSLContext, create_default_context
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import ConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from gateway.config import RedisConfig
from gateway.errors import ConfigError
from gateway.log import redis_url
from gateway.log.cluster import ClusterRedis
from gateway.log.sentinel import master_of
from gateway.log.verified import VerifiedConnection
from scorers import credentials
from scorers.credentials import Secret
from scorers.errors import ConfigurationError
from scorers.tls import client_context

CONNECT_TIMEOUT_S = 2.0
SOCKET_TIMEOUT_S = 5.0
HEALTH_CHECK_S = 15


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is, and how to speak to it. url: see `redis_url`. tls: None verifies by the system's store.

    sentinel_password: what the Sentinels want, where they want one.
    """

    url: str = field(repr=False)
    username: str | None = None
    password: Secret | None = None
    tls: SSLContext | None = None
    sentinel_password: Secret | None = None

    @property
    def shown(self) -> str:
        """The address as it may be shown."""
        return without_password(self.url)


def redis_address(config: RedisConfig) -> RedisAddress:
    """The address of a configuration; where it has none, that of the Redis that `bestow up` starts.

    Reads the password and the certificates. Raises ConfigError naming the key and the file.
    """
    if config.url is None:
        return RedisAddress(f"redis://127.0.0.1:{config.port}/0")
    try:
        password = credentials.password("redis", config.password_file, config.password_env)
        sentinels = credentials.secret_in_file("redis.sentinel_password_file", config.sentinel_password_file)
        return RedisAddress(config.url, config.username, password, client_context("redis", config), sentinels)
    except ConfigurationError as error:
        raise ConfigError(str(error)) from None


def connect(
    address: RedisAddress | str,
    *,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    socket_timeout_s: float = SOCKET_TIMEOUT_S,
) -> Redis:
    """A client; connects at its first command. Replies are bytes. Raises ValueError where the URL is none.

    It does not retry: the shipper does that itself, with a back-off it can report.
    """
    if isinstance(address, str):
        address = RedisAddress(address)
    place = redis_url.parse(address.url)
    options: dict[str, Any] = {
        "socket_connect_timeout": connect_timeout_s,
        "socket_timeout": socket_timeout_s,
        "health_check_interval": HEALTH_CHECK_S,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": False,
        **_options(place.url, address),
    }
    if place.kind == "server":
        return Redis.from_pool(ConnectionPool(**options))
    del options["host"]
    if place.kind == "cluster":
        return ClusterRedis(place.nodes, options)
    password = address.sentinel_password
    return master_of(place.nodes, place.service, options, password.value if password else None)


def _options(url: str, address: RedisAddress) -> Mapping[str, Any]:
    options: dict[str, Any] = dict(parse_url(url))
    if options.get("connection_class") is SSLConnection:
        options |= {"connection_class": VerifiedConnection, "context": address.tls or create_default_context()}
    if address.password is not None:
        options["credential_provider"] = _Credentials(address.username, address.password)
    return options


class _Credentials(CredentialProvider):
    """Asked at each new connection, so that a changed password needs no restart."""

    def __init__(self, username: str | None, password: Secret) -> None:
        self._username = username
        self._password = password

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        self._password.reread()
        return (self._username, self._password.value) if self._username else (self._password.value,)


def without_password(url: str) -> str:
    """The address as it may be shown."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
