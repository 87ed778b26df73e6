"""More gateways beside the stack's, each a process with a configuration of its own, in front of the same backends."""

import copy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.e2e.stack import PROJECT, Stack, free_ports, written_config


@contextmanager
def second_gateway(stack: Stack, folder: Path, change: Callable[[Any], None]) -> Iterator[str]:
    """Another gateway beside the stack's, whose configuration `change` edits."""
    [port] = free_ports(1)
    config = copy.deepcopy(written_config(stack))
    config["gateway"] = {"port": port, "drain_delay_s": 0}
    config["data_dir"] = str(folder / "data")
    change(config)
    path = folder / "second.yaml"
    path.write_text(yaml.safe_dump(config))
    process = subprocess.Popen([sys.executable, "-m", "gateway", "--config", str(path)], cwd=PROJECT)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"{url}/healthz", timeout=2)
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline, "the second gateway did not start"
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        assert process.wait(30) == 0


async def running_sequences(stack: Stack) -> float:
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{stack.worker_url}/metrics")).text
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("vllm:num_requests_running")
    )
