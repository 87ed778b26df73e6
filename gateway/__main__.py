"""`python -m gateway --config FILE`: the gateway process."""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import uvicorn
from fastapi import FastAPI

from gateway.access.start import check_address
from gateway.api.wire import JsonHttpProtocol
from gateway.app import create_app
from gateway.config import Config, load
from gateway.errors import BestowError
from gateway.server import Server
from gateway.telemetry.readiness import Readiness
from gateway.upstreams import front_tls


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
    # Before and after the server's own time too, a stop that was asked for is no failure.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    try:
        config = load(options.config)
        check_address(config)
        server = _server(config, create_app(config))
    except BestowError as error:
        print(error, file=sys.stderr)
        return 1
    server.run()
    return 0 if server.started else 1


def _leave(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(0)


def _server(config: Config, app: FastAPI) -> Server:
    """Raises ConfigError where the certificate of gateway.tls_cert_file cannot be used."""
    tls = front_tls(config.gateway)

    def stop() -> None:
        readiness: Readiness = app.state.readiness
        readiness.stop()

    settings = uvicorn.Config(
        app,
        host=config.gateway.host,
        port=config.gateway.port,
        loop="uvloop",
        http=JsonHttpProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        # uvicorn would believe what anyone on this machine forwards: feedback.trusted_proxies decides.
        proxy_headers=False,
        ssl_context_factory=(lambda *_: tls) if tls else None,
        timeout_keep_alive=75,
    )
    return Server(settings, stop, delay_s=config.gateway.drain_delay_s, limit_s=config.gateway.drain_timeout_s)


if __name__ == "__main__":
    sys.exit(main())
