"""`python -m gateway --config FILE`: the gateway process."""

import argparse
import ipaddress
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import uvicorn

from gateway.app import create_app
from gateway.config import Config, GatewayConfig, load
from gateway.errors import BestowError, ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="bestow gateway",
        description="Serve the OpenAI-compatible API as configured. Every worker, scorer and Redis must be named there "
        "(`bestow up` starts what is missing on this machine).",
        epilog="Example: bestow gateway --config bestow.yaml",
    )
    parser.add_argument("--config", required=True, type=Path, help="the configuration file (YAML)")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        config = load(options.config)
        check_address(config.gateway)
        app = create_app(config)
    except BestowError as error:
        print(error, file=sys.stderr)
        return 1
    server = uvicorn.Server(_settings(config, app))
    # uvicorn drains, then raises the signal again; a stop that was asked for and went well is no failure.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    server.run()
    return 0 if server.started else 1


def _leave(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(0)


def _settings(config: Config, app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=config.gateway.host,
        port=config.gateway.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(config.gateway.drain_timeout_s),
    )


def check_address(gateway: GatewayConfig) -> None:
    """Raises ConfigError where strangers could reach a gateway that asks nobody for a key."""
    if gateway.allow_anonymous or gateway.host == "localhost":
        return
    try:
        local = ipaddress.ip_address(gateway.host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ConfigError(
            f"gateway.host is {gateway.host}, which other machines can reach, and there are no API keys. "
            "Use 127.0.0.1, or set gateway.allow_anonymous: true where something in front checks who calls."
        )


if __name__ == "__main__":
    sys.exit(main())
