"""The real stack, started the way a user starts it (`bestow up`), once for the whole test session."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import yaml

from gateway.config import Config, dump
from gateway.launch.demo import demo_config
from tests.ports import free_ports

PROJECT = Path(__file__).resolve().parents[2]
# vLLM, the scorers and Python's imports share two cores while it starts.
READY_WITHIN_S = 300.0
# The demo policy does not reason, but a request can make it: `chat_template_kwargs: {"enable_thinking": true}` and a
# regex that begins with <think>. Without the first its answers are as without this parser.
REASONING = {
    "reasoning_parser": "qwen3",
    "args": [
        "--default-chat-template-kwargs",
        '{"enable_thinking": false}',
        "--structured-outputs-config",
        '{"enable_in_reasoning": true}',
    ],
}


@dataclass
class Stack:
    """A running `bestow up`. config_file is what its gateway reads; log_file what it printed."""

    process: subprocess.Popen[bytes]
    config: Config
    data_dir: Path
    log_file: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.config.gateway.port}"

    @property
    def config_file(self) -> Path:
        return self.data_dir / "run.yaml"

    @property
    def worker_url(self) -> str:
        return f"http://127.0.0.1:{self.config.policies['demo-policy'].engine.port}"

    @property
    def scorer_url(self) -> str:
        return f"http://127.0.0.1:{self.config.scorer_server.port}"

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.config.redis.port}/0"

    def gateway_process(self) -> psutil.Process:
        [found] = [
            process
            for process in psutil.Process(self.process.pid).children(recursive=True)
            if process.cmdline()[1:3] == ["-m", "gateway"]
        ]
        return found


def demo_on_free_ports(data_dir: Path) -> Config:
    """The demo, out of the way of a stack that a developer has running."""
    gateway, redis, worker, scorer = free_ports(4)
    data = demo_config(PROJECT).model_dump(mode="json", exclude_defaults=True)
    data["data_dir"] = str(data_dir)
    data["gateway"] = {"port": gateway}
    data["redis"] = {"port": redis}
    data["scorer_server"] = {"port": scorer}
    data["policies"]["demo-policy"]["engine"] |= {"port": worker, **REASONING}
    return Config.model_validate(data)


def start(folder: Path, *, cached_scores: bool = True) -> Stack:
    """Start the stack and wait until it is ready; fails with what it printed.

    cached_scores: whether an answer that was scored before is not scored again.
    """
    data_dir = folder / "data"
    config = demo_on_free_ports(data_dir)
    if not cached_scores:
        server = config.scorer_server.model_copy(update={"cache_entries": 0})
        config = config.model_copy(update={"scorer_server": server})
    config_file = folder / "bestow.yaml"
    config_file.write_text(dump(config))
    log_file = folder / "up.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "up", "--config", str(config_file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=PROJECT,
        )
    stack = Stack(process, config, data_dir, log_file)
    deadline = time.monotonic() + READY_WITHIN_S
    while not _ready(stack.url):
        if process.poll() is not None or time.monotonic() > deadline:
            stop(stack)
            raise AssertionError(f"the stack did not start:\n{log_file.read_text()[-4000:]}")
        time.sleep(0.5)
    return stack


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def stop(stack: Stack) -> list[str]:
    """Ctrl-C, as a terminal sends it to the whole group. Returns the processes that were left behind."""
    children = psutil.Process(stack.process.pid).children(recursive=True) if stack.process.poll() is None else []
    try:
        os.killpg(stack.process.pid, signal.SIGINT)
        stack.process.wait(60)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        # Where it has ended by itself there may be no group left.
        with suppress(ProcessLookupError):
            os.killpg(stack.process.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=5)
    for process in alive:
        process.kill()
    return [process.name() for process in alive]


def written_config(stack: Stack) -> dict[str, object]:
    """What `bestow up` wrote for its parts, every address filled in."""
    data: dict[str, object] = yaml.safe_load(stack.config_file.read_text())
    return data
