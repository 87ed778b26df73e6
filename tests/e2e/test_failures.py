"""A part that is down: a clear 503, or the documented degraded answer. A client that leaves: nothing runs on."""

import asyncio
import copy
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.stack import PROJECT, Stack, free_ports, written_config

BODY = {"model": "bestow-demo", "messages": [{"role": "user", "content": "How do I keep a houseplant healthy?"}]}
NOBODY = "http://127.0.0.1:9"


@contextmanager
def second_gateway(stack: Stack, folder: Path, change: Any) -> Iterator[str]:
    """Another gateway beside the stack's, whose configuration `change` edits."""
    [port] = free_ports(1)
    config = copy.deepcopy(written_config(stack))
    config["gateway"] = {"port": port}
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


def ask(url: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=60)


def test_without_a_worker_the_answer_is_a_clear_503(stack: Stack, tmp_path: Path) -> None:
    def change(config: Any) -> None:
        config["policies"]["demo-policy"]["workers"] = [{"url": NOBODY}]

    with second_gateway(stack, tmp_path, change) as url:
        reply = ask(url)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "unavailable")
        assert NOBODY not in reply.text
        ready = httpx.get(f"{url}/readyz")
        assert ready.status_code == 503
        assert ready.json()["policies"]["demo-policy"] != "ready"


def test_without_the_reward_model_the_first_safe_answer_is_delivered_and_says_so(stack: Stack, tmp_path: Path) -> None:
    def change(config: Any) -> None:
        config["scorers"]["reward"]["url"] = NOBODY

    with second_gateway(stack, tmp_path, change) as url:
        reply = ask(url)
        assert reply.status_code == 200
        receipt = reply.json()["guidance"]
        assert receipt["degraded"] == reply.headers["x-bestow-degraded"] == "reward_unavailable"
        assert receipt["reward"] is None
        assert 'reason="reward_unavailable"} 1.0' in httpx.get(f"{url}/metrics").text


def test_without_the_guard_nothing_is_delivered(stack: Stack, tmp_path: Path) -> None:
    def change(config: Any) -> None:
        config["scorers"]["safety"]["url"] = NOBODY

    with second_gateway(stack, tmp_path, change) as url:
        reply = ask(url)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "guard_unavailable")


def test_without_redis_answers_go_on_and_the_log_waits(stack: Stack, tmp_path: Path) -> None:
    def change(config: Any) -> None:
        config["redis"]["url"] = "redis://127.0.0.1:9/0"

    with second_gateway(stack, tmp_path, change) as url:
        reply = ask(url)
        assert reply.status_code == 200
        vote = {"id": reply.json()["id"], "kind": "thumbs", "value": True}
        assert httpx.post(f"{url}/v1/feedback", json=vote).status_code == 202
        kept = httpx.get(f"{url}/v1/feedback/{vote['id']}").json()
        assert kept["data"][0]["value"] is True
        assert httpx.get(f"{url}/readyz").json()["log"]["pending"] >= 1


async def test_many_seeded_long_prompts_at_once_do_not_kill_the_worker(stack: Stack) -> None:
    # vLLM 0.32 on CPU dies where it splits the prefill of a request with a seed.
    async with httpx.AsyncClient(base_url=stack.url, timeout=300) as http:

        async def one(seed: int) -> int:
            text = f"{seed} " + "How do I keep a houseplant healthy? " * 80
            body = {"model": "bestow-demo", "messages": [{"role": "user", "content": text}], "seed": seed}
            body |= {"max_tokens": 4, "guidance": {"n": 2}}
            return (await http.post("/v1/chat/completions", json=body)).status_code

        assert set(await asyncio.gather(*(one(seed) for seed in range(24)))) == {200}


async def running_sequences(stack: Stack) -> float:
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{stack.worker_url}/metrics")).text
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("vllm:num_requests_running")
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_sampling_on_the_worker(stack: Stack, stream: bool) -> None:
    body = {**BODY, "stream": stream, "max_tokens": 256, "ignore_eos": True, "min_tokens": 256, "n": 16}
    body["guidance"] = {"n": 16}
    for _ in range(5):
        async with httpx.AsyncClient(timeout=60) as http:
            request = asyncio.create_task(http.post(f"{stack.url}/v1/chat/completions", json=body))
            for _ in range(200):
                if await running_sequences(stack) > 0 or request.done():
                    break
            if not request.done():
                request.cancel()
                break
    else:
        pytest.fail("sampling was always over before it could be interrupted")
    deadline = time.monotonic() + 5
    while await running_sequences(stack) > 0:
        assert time.monotonic() < deadline, "the worker still samples for nobody"
        await asyncio.sleep(0.05)
