"""The addresses, keys and TLS of everything that a configuration makes the gateway speak to, read once at the start."""

import logging
from dataclasses import dataclass
from ssl import SSLContext

from gateway.config import Config, GatewayConfig
from gateway.errors import ConfigError
from gateway.launch.addresses import scorer_server_url
from gateway.log.connection import RedisAddress, redis_address
from scorers.endpoint import Endpoint, endpoint
from scorers.errors import ConfigurationError
from scorers.scorer_settings import calls_of
from scorers.settings import Upstream
from scorers.tls import server_context

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Upstreams:
    """workers: those of each policy, in the configuration's order. scorers: by name, those with an address."""

    workers: dict[str, list[Endpoint]]
    scorers: dict[str, Endpoint]
    redis: RedisAddress


def read_upstreams(config: Config) -> Upstreams:
    """Reads every key, password and certificate that the configuration names.

    Raises ConfigError with one line for each that cannot be used.
    """
    mistakes: list[str] = []

    def read(where: str, url: str, upstream: Upstream) -> Endpoint:
        try:
            return upstream_endpoint(where, url, upstream)
        except ConfigError as error:
            mistakes.append(str(error))
            return Endpoint(url)

    workers = {
        name: [
            read(f"policies.{name}.workers.{index}", worker.url, worker) for index, worker in enumerate(policy.workers)
        ]
        for name, policy in config.policies.items()
    }
    scorers = {
        name: read(f"scorers.{name}", scorer.url, scorer) for name, scorer in config.scorers.items() if scorer.url
    }
    redis = RedisAddress("")
    try:
        redis = redis_address(config.redis)
    except ConfigError as error:
        mistakes.append(str(error))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return Upstreams(workers, scorers, redis)


def scorer_home(config: Config, upstreams: Upstreams) -> Endpoint | None:
    """The scorer server that takes scorers while the gateway runs: the one that the configuration's are at.

    Where they are at several, the one that scorer_server describes; None where that is none of them.
    """
    found = {one.url: one for one in upstreams.scorers.values()}
    return next(iter(found.values())) if len(found) == 1 else found.get(scorer_server_url(config.scorer_server))


def upstream_endpoint(where: str, url: str, upstream: Upstream) -> Endpoint:
    """One worker's or scorer server's, described by the section `where`. Raises ConfigError."""
    try:
        return endpoint(where, url, upstream)
    except ConfigurationError as error:
        raise ConfigError(str(error)) from None


def front_tls(gateway: GatewayConfig) -> SSLContext | None:
    """What the gateway itself serves HTTPS with; None: plain HTTP. Raises ConfigError."""
    try:
        return server_context("gateway", gateway.tls_cert_file, gateway.tls_key_file)
    except ConfigurationError as error:
        raise ConfigError(str(error)) from None


def unverified(config: Config) -> list[str]:
    """The sections whose servers' certificates are not verified."""
    sections = {"redis": config.redis.verify}
    for name, policy in config.policies.items():
        sections |= {f"policies.{name}.workers.{index}": one.verify for index, one in enumerate(policy.workers)}
    for name, scorer in config.scorers.items():
        sections[f"scorers.{name}"] = scorer.verify
        sections |= {f"scorers.{name}.{key}": called.verify for key, called in calls_of(scorer).items()}
    return [where for where, verify in sections.items() if not verify]


def warn_of_unverified(config: Config) -> None:
    """One line in the log for each."""
    for where in unverified(config):
        logger.warning("%s.verify is false: whoever answers there is believed, keys and prompts included", where)
