"""`python -m scorers --config FILE`: run the scorer server."""

import argparse
import errno
import logging
import os
import signal
import socket
import ssl
import sys
from pathlib import Path

import uvicorn

from scorers.configuration import ServerSettings, read_settings
from scorers.credentials import Secret, api_key
from scorers.errors import ConfigurationError
from scorers.loading import load_scorer
from scorers.local import is_loopback
from scorers.metrics import Metrics
from scorers.model_path import LoadError, model_path
from scorers.scorer_settings import ScorerConfig, weights_of
from scorers.server import create_app
from scorers.service import Service
from scorers.tls import server_context

_DRAIN_S = 10

_EXAMPLE = """\
the configuration file, as for the rest of Bestow (other keys are ignored):

  scorers:
    reward:                              # the name: what requests put in `model`
      kind: reward                       # one raw number, never squashed
      model: Skywork/Skywork-Reward-V2-Qwen3-0.6B    # Hugging Face id or local folder
    safety:
      kind: safety                       # a probability for each category
      model: ./models/safety
  scorer_server: {port: 8201}

then ask it:

  curl localhost:8201/readyz
  curl localhost:8201/v1/score -d '{"model": "reward", "messages": [{"role": "user", "content": "Hi"}],
       "candidates": [{"role": "assistant", "content": "Hello!"}]}'
"""


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped. Returns the exit code: 0 stopped, 1 cannot serve, 2 wrong arguments or file."""
    options = _parser().parse_args(arguments)
    try:
        settings = read_settings(options.config)
        own = settings.server
        key = api_key("scorer_server", own.api_key_file, own.api_key_env)
        tls = server_context("scorer_server", own.tls_cert_file, own.tls_key_file)
        missing = [_missing(name, scorer) for name, scorer in settings.scorers.items()]
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    if any(missing):
        print("\n".join(filter(None, missing)), file=sys.stderr)
        return 1
    # Threads that spin while they wait take the cores from vLLM and from other models; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    host = options.host or own.host
    port = own.port if options.port is None else options.port
    try:
        listener = _listen(host, port)
    except OSError as error:
        print(_why_not(error, host, port), file=sys.stderr)
        return 1
    return _serve(settings, listener, key, tls)


def _missing(name: str, scorer: ScorerConfig) -> str | None:
    """Why there can be no model, told before torch is loaded for nothing."""
    model = weights_of(scorer)
    try:
        if model:
            model_path(model)
    except LoadError as error:
        return f"The scorer {name} cannot be served. {error}"
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scorers",
        description="Serve the reward models and safety classifiers of a configuration file that have no `url`.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="configuration file (YAML)")
    parser.add_argument("--host", help="address to listen on, over the file's scorer_server.host")
    parser.add_argument("--port", type=_port, help="port to listen on, over scorer_server.port; 0: any free one")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535")
    return int(text)


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, so that a taken port is known before anything is loaded."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken: stop what uses it, or choose another with --port."
    return f"The scorer server cannot listen on {host}:{port}: {error.strerror or error}."


def _serve(settings: ServerSettings, listener: socket.socket, key: Secret | None, tls: ssl.SSLContext | None) -> int:
    failures: list[str] = []

    def failed(sentence: str) -> None:
        failures.append(sentence)
        server.should_exit = True

    metrics = Metrics()
    service = Service(settings.scorers, settings.server, load_scorer, metrics, failed)
    loopback = is_loopback(listener.getsockname()[0])
    app = create_app(service, metrics, settings.server.max_body_bytes, key, loopback=loopback)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_DRAIN_S,
            ssl_context_factory=(lambda *_: tls) if tls else None,
            timeout_keep_alive=75,  # longer than a client's pool keeps a connection, or it meets closed ones
        )
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logging.info(
        "listening on %s://%s:%d, loading %s", "https" if tls else "http", shown, port, ", ".join(settings.scorers)
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn drains, then raises the signal again; a stop that was asked for is no failure.
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listener])
    for sentence in failures:
        print(sentence, file=sys.stderr)
    code = 1 if failures else 0
    if service.loader is not None and service.loader.is_alive():
        sys.stderr.flush()
        os._exit(code)  # a model still loads in a thread that nothing can interrupt
    return code


if __name__ == "__main__":
    sys.exit(main())
