"""More gateways beside the stack's, each a process with a configuration of its own, in front of the same backends."""

import copy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.e2e.stack import PROJECT, Stack, written_config
from tests.ports import free_ports


@contextmanager
def second_gateway(stack: Stack, folder: Path, change: Callable[[Any], None]) -> Iterator[str]:
    """Another gateway beside the stack's, whose configuration `change` edits.

    Profiles are shared by way of Redis: one that `change` edits gets a name of its own.
    """
    [port] = free_ports(1)
    config = copy.deepcopy(written_config(stack))
    config["gateway"] = {"port": port, "drain_delay_s": 0}
    config["data_dir"] = str(folder / "data")
    change(config)
    _rename_edited(config, copy.deepcopy(written_config(stack)), f"-{port}")
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


def _rename_edited(config: Any, original: Any, ending: str) -> None:
    """Give each profile that differs from the original's another name, also where models name it."""
    edited = {name for name, profile in config["profiles"].items() if original["profiles"].get(name) != profile}
    config["profiles"] = {
        name + ending if name in edited else name: profile for name, profile in config["profiles"].items()
    }
    for model in config["models"].values():
        if model.get("profile", "default") in edited:
            model["profile"] = model.get("profile", "default") + ending


async def running_sequences(stack: Stack) -> float:
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{stack.worker_url}/metrics")).text
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("vllm:num_requests_running")
    )


@contextmanager
def live_profiles(stack: Stack, profiles: Mapping[str, dict[str, Any]]) -> Iterator[httpx.Client]:
    """The stack's gateway with these new profiles, which are plain again afterwards."""
    with httpx.Client(base_url=stack.url, timeout=120) as http:

        def put(name: str, version: int, settings: dict[str, Any]) -> None:
            body = {"version": version, "settings": settings, "reason": "e2e"}
            reply = http.put(f"/admin/v1/profiles/{name}", json=body)
            assert reply.status_code == 200, reply.text

        for name, settings in profiles.items():
            put(name, 0, settings)
        yield http
        for name in profiles:
            put(name, 1, {})
