"""LoRA adapters on a real vLLM, loaded and unloaded through a gateway's admin API."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy
import pytest
from safetensors.numpy import save_file

from gateway.config import PolicyConfig
from tests.e2e.chaos.workers import RealWorker
from tests.e2e.gateways import second_gateway
from tests.e2e.stack import Stack
from tests.ports import free_ports

pytestmark = pytest.mark.slow

# A policy of its own: the stack's gateway shares the Redis, and its worker takes no adapters.
POLICY = "adapted-policy"
BACK_WITHIN_S = 300.0
RANK = 8


def make_adapter(folder: Path, model: Path, seed: int = 1) -> Path:
    """An adapter of random weights, large enough to be heard."""
    shape = json.loads((model / "config.json").read_text())
    hidden, head = shape["hidden_size"], shape["head_dim"]
    out = {"q_proj": shape["num_attention_heads"] * head, "v_proj": shape["num_key_value_heads"] * head}
    random = numpy.random.default_rng(seed)
    tensors = {}
    for layer in range(shape["num_hidden_layers"]):
        for name, size in out.items():
            where = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{where}.lora_A.weight"] = random.standard_normal((RANK, hidden), dtype=numpy.float32)
            tensors[f"{where}.lora_B.weight"] = random.standard_normal((size, RANK), dtype=numpy.float32)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    described = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": list(out), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(described))
    return folder


@asynccontextmanager
async def adapted_worker(stack: Stack, folder: Path) -> AsyncIterator[RealWorker]:
    """A vLLM that takes adapters while it runs, ready."""
    model = stack.config.policies["demo-policy"].model
    policy = PolicyConfig.model_validate({"model": model, "engine": {"lora": True}})
    worker = RealWorker(POLICY, policy, free_ports(1)[0], 0, folder / "worker.log")
    try:
        worker.start()
        await worker.until_ready()
        yield worker
    finally:
        worker.close()


def serving(worker: RealWorker, model: str) -> Callable[[Any], None]:
    """A configuration in which `base` is the policy as it is, and `styled` the same with an adapter."""

    def change(config: Any) -> None:
        config["policies"] = {POLICY: {"model": model, "workers": [{"url": worker.url}]}}
        config["profiles"] = {"plain": {"n": 1, "reward": None, "safety": None}}
        config["models"] = {
            "base": {"policy": POLICY, "profile": "plain"},
            "styled": {"policy": POLICY, "profile": "plain", "adapter": "style"},
        }

    return change


class Gateway:
    """What the test asks of it."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def chat(self, model: str, **fields: Any) -> httpx.Response:
        messages = [{"role": "user", "content": "How do I keep a houseplant healthy?"}]
        body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 24, **fields}
        return await self._http.post("/v1/chat/completions", json=body)

    async def answer(self, model: str) -> str:
        reply = await self.chat(model)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["choices"][0]["message"]["content"])

    async def worker(self) -> dict[str, Any]:
        [found] = (await self._http.get("/admin/v1/workers")).json()["data"]
        return dict(found)

    async def load(self, path: Path) -> httpx.Response:
        return await self._http.post("/admin/v1/adapters", json={"policy": POLICY, "name": "style", "path": str(path)})

    async def unload(self) -> httpx.Response:
        return await self._http.delete(f"/admin/v1/adapters/{POLICY}/style")


async def test_an_adapter_is_loaded_survives_its_worker_and_goes(
    stack: Stack, tmp_path: Path, report: Callable[[str], None]
) -> None:
    model = stack.config.policies["demo-policy"].model
    adapter = make_adapter(tmp_path / "style", Path(model))
    async with adapted_worker(stack, tmp_path) as worker:
        with second_gateway(stack, tmp_path, serving(worker, model)) as url:
            async with httpx.AsyncClient(base_url=url, timeout=120) as http:
                gateway = Gateway(http)
                base = await gateway.answer("base")
                assert (await gateway.chat("styled")).status_code == 503

                refused = await gateway.load(tmp_path / "nothing-there")
                assert refused.status_code == 502
                said = refused.json()["error"]
                known = await gateway.worker()
                assert said["code"] == "adapter_not_loaded"
                assert known["id"] in said["message"] and "127.0.0.1" not in said["message"]
                assert known["state"] == "up" and known["adapters"] == []

                begun = time.monotonic()
                loaded = await gateway.load(adapter)
                report(f"a LoRA adapter on one vLLM worker, through the admin API: {time.monotonic() - begun:.2f} s")
                assert loaded.status_code == 201 and loaded.json()["loaded_on"] == [known["id"]], loaded.text
                styled = await gateway.answer("styled")
                assert styled != base and await gateway.answer("base") == base

                await worker.kill()
                worker.start()
                assert await until_back(gateway) == styled

                running = asyncio.create_task(gateway.chat("styled", max_tokens=1500, ignore_eos=True))
                while not await worker.sampling():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                assert (await gateway.unload()).status_code == 200
                finished = (await running).json()
                assert finished["choices"][0]["finish_reason"] == "length", finished
                assert finished["usage"]["completion_tokens"] == 1500
                assert (await gateway.chat("styled")).status_code == 503
                assert (await gateway.worker())["adapters"] == [] and await gateway.answer("base") == base


async def until_back(gateway: Gateway) -> str:
    """What the adapter's model says once it answers; the worker is never up without it."""
    deadline = time.monotonic() + BACK_WITHIN_S
    while True:
        assert time.monotonic() < deadline, await gateway.worker()
        known = await gateway.worker()
        assert known["state"] != "up" or known["adapters"] == ["style"], known
        reply = await gateway.chat("styled")
        if reply.status_code == 200:
            return str(reply.json()["choices"][0]["message"]["content"])
        assert reply.status_code in (429, 502, 503), reply.text
        await asyncio.sleep(0.1)
