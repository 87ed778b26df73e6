"""How the servers that `bestow up` starts are called: http or https, and what vouches for their certificates."""

from gateway.config import Config, GatewayConfig
from gateway.errors import ConfigError
from scorers.credentials import api_key
from scorers.endpoint import Endpoint
from scorers.errors import ConfigurationError
from scorers.settings import ScorerServerConfig
from scorers.tls import refusal, server_context, trusting


def reachable(host: str) -> str:
    """An address to call a server at that listens on `host`, as it is written in a URL."""
    if host in ("0.0.0.0", ""):
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def scorer_server_url(server: ScorerServerConfig) -> str:
    return f"{'https' if server.tls_cert_file else 'http'}://{reachable(server.host)}:{server.port}"


def gateway_endpoint(gateway: GatewayConfig) -> Endpoint:
    """The gateway as it is asked from here. Raises ConfigError where its certificate cannot be read."""
    address = f"{reachable(gateway.host)}:{gateway.port}"
    if gateway.tls_cert_file is None:
        return Endpoint(f"http://{address}")
    try:
        # Its certificate names what the world calls it, not this address.
        tls = trusting("gateway.tls_cert_file", gateway.tls_cert_file, any_name=True)
    except ConfigurationError as error:
        raise ConfigError(str(error)) from None
    return Endpoint(f"https://{address}", tls=tls)


def check_own_servers(config: Config, *, scorers: bool) -> None:
    """Whether the gateway and the scorer server can serve with their keys and certificates, before they are started.

    Raises ConfigError with one line a mistake.
    """
    mistakes: list[str] = []
    try:
        server_context("gateway", config.gateway.tls_cert_file, config.gateway.tls_key_file)
    except ConfigurationError as error:
        mistakes.append(str(error))
    if scorers:
        try:
            _check_scorer_server(config.scorer_server)
        except ConfigurationError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def _check_scorer_server(server: ScorerServerConfig) -> None:
    api_key("scorer_server", server.api_key_file, server.api_key_env)
    shown = server_context("scorer_server", server.tls_cert_file, server.tls_key_file)
    if shown is None or server.tls_cert_file is None:
        return
    host = reachable(server.host).strip("[]")
    if problem := refusal(shown, trusting("scorer_server.tls_cert_file", server.tls_cert_file), host):
        raise ConfigurationError(
            f"scorer_server.tls_cert_file: the gateway would refuse {server.tls_cert_file} when it calls {host}: "
            f"{problem}. Use a certificate for {host}, or set scorer_server.host to what it is for."
        )
