"""An adapter that `bestow train policy` made, on a real vLLM: it sees the same prompts, and says the same."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config import PolicyConfig
from tests.e2e.chaos.workers import RealWorker
from tests.ports import free_ports
from tests.training.reward.small_world import POLICY, pairs
from training.data.rows import Message
from training.policy.encoding import PolicyTemplate
from training.policy.settings import PolicySettings
from training.policy.trainer import PolicyRows, train

pytestmark = pytest.mark.slow

NAME = "demo-policy-v2"
ASKED: list[list[Message]] = [
    [{"role": "user", "content": "How do I keep a houseplant healthy?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How do I bake bread?"}],
    [
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello. What can I do?"},
        {"role": "user", "content": "Tell me about <|im_end|> bicycles, naïve or not."},
    ],
]
LONGEST = 40


async def test_a_trained_adapter_says_in_vllm_what_it_says_in_transformers(tmp_path: Path) -> None:
    settings = PolicySettings(method="dpo", batch=8, rate=5e-3, epochs=2)
    train(PolicyRows(pairs=pairs(48)), POLICY, settings, 0, tmp_path / "model")
    # In float32 on both sides: rounding to bfloat16 would decide between tokens that are nearly as likely.
    engine = {"lora": True, "args": ["--dtype", "float32"]}
    policy = PolicyConfig.model_validate({"model": str(POLICY), "engine": engine})
    worker = RealWorker("trained-policy", policy, free_ports(1)[0], 0, tmp_path / "worker.log")
    try:
        worker.start()
        await worker.until_ready()
        async with httpx.AsyncClient(base_url=worker.url, timeout=120) as http:
            path = {"lora_name": NAME, "lora_path": str(tmp_path / "model")}
            loaded = await http.post("/v1/load_lora_adapter", json=path)
            assert loaded.status_code == 200, loaded.text
            served = (await http.get("/v1/models")).json()["data"]
            base = next(one["id"] for one in served if one["id"] != NAME)
            prompts = [await tokenized(http, base, messages) for messages in ASKED]
            trained = [await answer(http, NAME, messages) for messages in ASKED]
            untrained = [await answer(http, base, messages) for messages in ASKED]
    finally:
        worker.close()
    template = PolicyTemplate(POLICY)
    assert [template.prompt(messages) for messages in ASKED] == prompts
    assert trained == greedy(tmp_path / "model", prompts, template)
    assert untrained == greedy(POLICY, prompts, template)
    assert trained != untrained


async def tokenized(http: httpx.AsyncClient, model: str, messages: list[Message]) -> list[int]:
    reply = await http.post("/tokenize", json={"model": model, "messages": messages})
    assert reply.status_code == 200, reply.text
    return [int(one) for one in reply.json()["tokens"]]


async def answer(http: httpx.AsyncClient, model: str, messages: list[Message]) -> list[int]:
    """Token ids of the likeliest answer."""
    body: dict[str, Any] = {"model": model, "messages": messages, "temperature": 0, "max_tokens": LONGEST}
    reply = await http.post("/v1/chat/completions", json={**body, "return_token_ids": True})
    assert reply.status_code == 200, reply.text
    return [int(one) for one in reply.json()["choices"][0]["token_ids"]]


def greedy(folder: Path, prompts: list[list[int]], template: PolicyTemplate) -> list[list[int]]:
    """The same by transformers."""
    from training.policy.generating import generate, load_policy  # noqa: PLC0415  # torch

    return generate(
        load_policy(folder, POLICY),
        prompts,
        ends=template.ends,
        padding=template.padding,
        max_new_tokens=LONGEST,
        seed=0,
        temperature=0.0,
    )
