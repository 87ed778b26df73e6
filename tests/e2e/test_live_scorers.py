"""A new reward model, from a local folder by the shadow to traffic and out again; nothing is restarted."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import torch
from redis.asyncio import Redis
from safetensors.torch import load_file, save_file

from gateway.log import streams
from tests.e2e.gateways import second_gateway
from tests.e2e.stack import Stack
from training.demo.prompts import held_out_prompts

REQUESTS = 40
NAME = "reward-2"


def perturbed(reward: Path, folder: Path) -> Path:
    """The demo's reward model with another head: near enough to agree mostly, and not always."""
    shutil.copytree(reward, folder)
    tensors = load_file(folder / "model.safetensors")
    head = tensors["score.weight"].float()
    noise = torch.randn(head.shape, generator=torch.Generator().manual_seed(1)) * head.std()
    tensors["score.weight"] = (head + 0.7 * noise).to(tensors["score.weight"].dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def run(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway.cli", *arguments, "--json", "--url", url]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def bestow(url: str, *arguments: str) -> Any:
    """What a command prints that does what it should."""
    done = run(url, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(url: str, *arguments: str) -> str:
    """What a command says that cannot do what it should."""
    done = run(url, *arguments)
    assert done.returncode == 1, done.stdout
    return done.stderr


def processes(stack: Stack) -> set[tuple[int, float]]:
    children = psutil.Process(stack.process.pid).children(recursive=True)
    return {(one.pid, one.create_time()) for one in children if "-m" in one.cmdline()}


async def ask(url: str, prompts: list[list[dict[str, str]]]) -> list[dict[str, Any]]:
    """The receipts."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as http:

        async def one(number: int, messages: list[dict[str, str]]) -> dict[str, Any]:
            body = {"model": "bestow-demo", "messages": messages, "seed": 1000 * number}
            reply = await http.post("/v1/chat/completions", json=body)
            assert reply.status_code == 200, reply.text
            return dict(reply.json()["guidance"])

        return list(await asyncio.gather(*(one(number, messages) for number, messages in enumerate(prompts))))


async def agreement(url: str, requests: int) -> dict[str, Any]:
    """Of the new scorer, once so many requests have been counted."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as http, asyncio.timeout(60):
        while True:
            found = (await http.get(f"/admin/v1/scorers/{NAME}")).json()["agreement"]
            if found and found[0]["requests"] >= requests:
                return dict(found[0])
            await asyncio.sleep(0.1)


async def served(stack: Stack) -> set[str]:
    """What the scorer server has."""
    async with httpx.AsyncClient(timeout=30) as http:
        found = (await http.get(f"{stack.scorer_url}/v1/scorers")).json()
    return {one["id"] for one in (*found["data"], *found.get("added", ()))}


async def test_a_reward_model_from_a_folder_is_tried_in_the_shadow_promoted_and_taken_back(
    stack: Stack, redis: Redis, tmp_path: Path, report: Callable[[str], None]
) -> None:
    folder = perturbed(Path(stack.config.scorers["reward"].model), tmp_path / NAME)  # type: ignore[union-attr]
    before, there = processes(stack), await served(stack)

    def own_profile(config: Any) -> None:
        config["profiles"]["default"] |= {"n": 4}

    with second_gateway(stack, tmp_path, own_profile) as url:
        [profile] = [one["name"] for one in bestow(url, "profile", "list")["data"] if one["models"]]

        begun = time.monotonic()
        added = bestow(url, "scorers", "add", NAME, "--model", str(folder), "--shadow", profile)
        report(f"a reward model added from a folder, loaded and in the shadow: {time.monotonic() - begun:.1f} s")
        assert (added["state"], added["serving"], added["shadow_of"]) == ("ready", f"{NAME}@1", [profile])

        prompts = [list(prompt) for prompt in held_out_prompts(REQUESTS, seed=5)]
        assert {receipt["reward_model"] for receipt in await ask(url, prompts)} == {"reward@1"}
        found = await agreement(url, REQUESTS // 2)
        assert (found["profile"], found["decided_by"]) == (f"{profile}@2", "reward@1") and not found["failures"]
        rank, other = found["rank_correlation"], found["other_winner"]
        report(
            f"shadow scoring: {found['requests']} requests, tau-b {rank['mean']:.2f} +- {rank['stderr']:.2f}, other "
            f"winner in {other['share']:.0%} +- {other['stderr']:.0%}, {found['mean_ms']:.0f} ms a request"
        )
        # It seldom chooses another winner, so that among the first half of the requests there may be none.
        assert 0 < rank["mean"] < 1 and other["share"] < 1
        assert (await agreement(stack.url, 1))["scorer"] == f"{NAME}@1", "the other gateway knows it too"
        records = [one.record async for one in streams.shadow(redis, "0").after()]
        logged = [record for record in records if record.profile == f"{profile}@2"]
        assert logged and {record.scorer for record in logged} == {f"{NAME}@1"}
        assert all(len(record.scores) >= 2 for record in logged)

        bestow(url, "scorers", "promote", NAME, "--profile", profile, "--reason", "it agrees")
        [receipt] = await ask(url, prompts[:1])
        assert (receipt["reward_model"], receipt["profile"]) == (f"{NAME}@1", f"{profile}@3")
        bestow(url, "profile", "revert", profile, "--to", "1")
        [receipt] = await ask(url, prompts[:1])
        assert (receipt["reward_model"], receipt["profile"]) == ("reward@1", f"{profile}@4")

        assert f"{NAME}@1 stays" in refusal(url, "scorers", "add", NAME, "--model", str(tmp_path))
        bestow(url, "scorers", "remove", NAME)
        assert await served(stack) == there
    assert processes(stack) == before
