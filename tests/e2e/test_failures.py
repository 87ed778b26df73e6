"""A part that is down: a clear 503, or the documented degraded answer."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import httpx

from gateway.access.cache import cache_file
from tests.e2e.gateways import second_gateway
from tests.e2e.stack import Stack

BODY = {"model": "bestow-demo", "messages": [{"role": "user", "content": "How do I keep a houseplant healthy?"}]}
NOBODY = "http://127.0.0.1:9"


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

    # A gateway that has known Redis keeps the last keys it saw; one that never did cannot tell who may call.
    (tmp_path / "data").mkdir()
    shutil.copy(cache_file(stack.data_dir), cache_file(tmp_path / "data"))
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
