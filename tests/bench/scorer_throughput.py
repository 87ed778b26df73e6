"""How fast answers are scored: the scorer server against plain transformers calls and against vLLM's /classify.

    python -m tests.bench.scorer_throughput [rounds] [--dtype float32|bfloat16] [--threads N]

The demo reward model, on one core each, or without vLLM on N (with OMP_WAIT_POLICY=PASSIVE on a machine that
does other things too). A round is 16 held-out conversations with 8 written answers each, new ones in every round, so
that no cache of anybody knows them. The four take turns in each round:

    transformers   one by one in this process: apply_chat_template, one forward pass
    backend        token ids to rewards in this process, all at once (`scorers.backends.local`)
    server         the scorer server over HTTP, from messages, 16 requests of 8 candidates at once
    vllm           vLLM over HTTP, from token ids that are at hand, 16 requests of 8 inputs at once

Prints one JSON object: the median and quartiles over the rounds of the ratios of times, of which more than 1 means that
the first is faster; answers a second; the largest difference of a reward to that of plain transformers. Then what a
beginning that candidates share is worth: 8 candidates after a prompt of 1,500 tokens, together and one by one, against
the same without sharing.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import torch
from transformers import AutoModelForSequenceClassification

from scorers.backend import Pooled
from scorers.backends.local import LocalModel
from scorers.backends.weights import load_weights
from scorers.contract import Message
from scorers.model_files import ModelFiles, load_files
from scorers.reward import reward_parts
from scorers.scorer_settings import Dtype
from tests.e2e.pooling_workers import CLASSIFY, Served, vllm_servers
from tests.ports import free_ports
from training.demo.answers import mixed_answer
from training.demo.prompts import held_out

MODEL = Path(__file__).parents[2] / "training" / "demo" / "models" / "reward"
CONVERSATIONS, CANDIDATES = 16, 8
BATCH_TOKENS = 8192
LONG_PROMPT = 1500
WARM_UP = 2


@dataclass(frozen=True)
class Asked:
    """A conversation and its candidates; ids: what the model reads of each."""

    messages: list[Message]
    candidates: list[Message]
    ids: list[list[int]]


def rounds_of(count: int, files: ModelFiles) -> list[list[Asked]]:
    """Conversations for so many rounds, all different."""
    rng = random.Random(0)
    encoder, _ = reward_parts(files)
    asked = []
    for prompt in held_out(count * CONVERSATIONS, seed=5):
        messages = prompt.as_messages()
        candidates = [{"role": "assistant", "content": mixed_answer(prompt, rng)} for _ in range(CANDIDATES)]
        asked.append(Asked(messages, candidates, [encoder.encode(messages, one, []) for one in candidates]))
    return [asked[at : at + CONVERSATIONS] for at in range(0, len(asked), CONVERSATIONS)]


Way = Callable[[Sequence[Asked]], Awaitable[list[float]]]


def transformers_calls(files: ModelFiles, dtype: Dtype) -> Way:
    """One by one."""
    model: Any = AutoModelForSequenceClassification.from_pretrained(MODEL, dtype=getattr(torch, dtype)).eval()

    async def score(asked: Sequence[Asked]) -> list[float]:
        rewards = []
        with torch.inference_mode():
            for one in asked:
                for candidate in one.candidates:
                    given: Any = files.tokenizer.apply_chat_template(
                        [*one.messages, candidate], return_tensors="pt", return_dict=True
                    )
                    rewards.append(float(model(**given).logits[0, 0]))
        return rewards

    return score


def backend_calls(dtype: Dtype) -> Way:
    """All at once, in batches as the server makes them."""
    local = LocalModel(load_weights(str(MODEL), Pooled(), dtype), Pooled())

    async def score(asked: Sequence[Asked]) -> list[float]:
        waiting = [ids for one in asked for ids in one.ids]
        rewards: list[float] = []
        while waiting:
            chosen = local.plan(waiting, BATCH_TOKENS)
            assert chosen == list(range(len(chosen)))
            rewards += [row[0] for row in local.forward(waiting[: len(chosen)]).rows]
            waiting = waiting[len(chosen) :]
        return rewards

    return score


def server_calls(session: aiohttp.ClientSession, url: str) -> Way:
    """All conversations at once, each a request."""

    async def ask(one: Asked) -> list[float]:
        body = {"model": "reward", "messages": one.messages, "candidates": one.candidates}
        async with session.post(f"{url}/v1/score", json=body) as reply:
            assert reply.status == 200, await reply.text()
            return [float(score["value"]) for score in (await reply.json())["scores"]]

    async def score(asked: Sequence[Asked]) -> list[float]:
        return [value for values in await asyncio.gather(*map(ask, asked)) for value in values]

    return score


def vllm_calls(session: aiohttp.ClientSession, url: str) -> Way:
    """All conversations at once, each a request of token ids."""

    async def ask(one: Asked) -> list[float]:
        body = {"model": "scorer", "input": one.ids, "add_special_tokens": False, "use_activation": False}
        async with session.post(f"{url}/classify", json=body) as reply:
            assert reply.status == 200, await reply.text()
            return [float(item["probs"][0]) for item in (await reply.json())["data"]]

    async def score(asked: Sequence[Asked]) -> list[float]:
        return [value for values in await asyncio.gather(*map(ask, asked)) for value in values]

    return score


async def compare(ways: dict[str, Way], rounds: Sequence[Sequence[Asked]]) -> dict[str, Any]:
    """All ways in turns, in another order each round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    furthest = dict.fromkeys(ways, 0.0)
    for number, asked in enumerate(rounds):
        names = list(ways)
        rewards: dict[str, list[float]] = {}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            begun = time.perf_counter()
            rewards[name] = await ways[name](asked)
            seconds[name].append(time.perf_counter() - begun)
        for name in names:
            apart = (abs(one - other) for one, other in zip(rewards[name], rewards["transformers"], strict=True))
            furthest[name] = max(furthest[name], *apart)
    seconds = {name: times[WARM_UP:] for name, times in seconds.items()}
    answers = CONVERSATIONS * CANDIDATES
    pairs = [(one, other) for other in ("transformers", "vllm") if other in ways for one in ("server", "backend")]
    return {
        "rounds": len(rounds) - WARM_UP,
        "answers_per_round": answers,
        "tokens_per_answer": round(statistics.mean(len(ids) for asked in rounds for one in asked for ids in one.ids)),
        "times_as_fast": {f"{one} / {other}": spread(seconds[other], seconds[one]) for one, other in pairs},
        "answers_per_s": {name: round(answers / statistics.median(times)) for name, times in seconds.items()},
        "furthest_from_transformers": {name: round(apart, 6) for name, apart in furthest.items()},
    }


def spread(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of the paired ratios."""
    low, middle, high = statistics.quantiles([one / other for one, other in zip(slow, fast, strict=True)], n=4)
    return {"median": round(middle, 2), "q1": round(low, 2), "q3": round(high, 2)}


def long_prompt(rounds: int, asked: Sequence[Asked], dtype: Dtype) -> dict[str, Any]:
    """8 candidates after 1,500 tokens, of another prompt in each round."""
    sharing = LocalModel(load_weights(str(MODEL), Pooled(), dtype), Pooled(), 2**28)
    plain = LocalModel(load_weights(str(MODEL), Pooled(), dtype), Pooled())
    words = [token for one in asked for token in one.ids[0]]
    seconds: dict[str, list[float]] = {"together": [], "one by one": [], "unshared": []}
    for number in range(rounds + WARM_UP):
        prompts = [(words[start:] + words[:start])[:LONG_PROMPT] for start in (2 * number + 1, 2 * number + 2)]
        answers = [ids[-60:] for ids in asked[number % len(asked)].ids]
        both = [[[*prompt, *answer] for answer in answers] for prompt in prompts]
        for name, model, batches in (
            ("together", sharing, [both[0]]),
            ("one by one", sharing, [[ids] for ids in both[1]]),
            ("unshared", plain, [[ids] for ids in both[1]]),
        ):
            begun = time.perf_counter()
            for batch in batches:
                model.forward(batch)
            seconds[name].append(time.perf_counter() - begun)
    seconds = {name: times[WARM_UP:] for name, times in seconds.items()}
    return {
        "prompt_tokens": LONG_PROMPT,
        "candidates": CANDIDATES,
        "times_as_fast": {
            f"{name} / unshared": spread(seconds["unshared"], seconds[name]) for name in ("together", "one by one")
        },
        "ms": {name: round(1000 * statistics.median(times), 1) for name, times in seconds.items()},
    }


@contextlib.contextmanager
def scorer_server(folder: Path, dtype: Dtype, threads: int) -> Iterator[str]:
    """`python -m scorers` with the demo reward model; its address, once it is ready."""
    [port] = free_ports(1)
    config = folder / "bestow.yaml"
    config.write_text(
        f"scorers:\n  reward: {{kind: reward, model: {MODEL}, dtype: {dtype}}}\n"
        f"scorer_server: {{port: {port}, threads: {threads}, max_batch_tokens: {BATCH_TOKENS}}}\n"
    )
    log = (folder / "scorers.log").open("wb")
    process = subprocess.Popen([sys.executable, "-m", "scorers", "--config", str(config)], stdout=log, stderr=log)
    try:
        asyncio.run(_ready(f"http://127.0.0.1:{port}/readyz", process))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
        log.close()


async def _ready(url: str, process: subprocess.Popen[bytes]) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(120):
        while process.poll() is None:
            try:
                async with session.get(url) as reply:
                    if reply.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise RuntimeError("the scorer server ended")


async def _against(
    ways: dict[str, Way], server: str, vllm: str | None, rounds: Sequence[Sequence[Asked]]
) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session:
        all_ways = ways | {"server": server_calls(session, server)}
        return await compare(all_ways | ({"vllm": vllm_calls(session, vllm)} if vllm else {}), rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=20)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    files = load_files(str(MODEL))
    rounds = rounds_of(given.rounds + WARM_UP, files)
    served = Served(MODEL, args=(*CLASSIFY, "--dtype", given.dtype))  # the last --dtype counts
    ways = {"transformers": transformers_calls(files, given.dtype), "backend": backend_calls(given.dtype)}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # A test's vLLM computes on one core.
        workers = stack.enter_context(vllm_servers(served, folder=folder)) if given.threads == 1 else []
        server = stack.enter_context(scorer_server(folder, given.dtype, given.threads))
        report = asyncio.run(_against(ways, server, workers[0].url if workers else None, rounds))
    prompt = long_prompt(given.rounds, [one for asked in rounds for one in asked], given.dtype)
    facts = {"dtype": given.dtype, "cores": len(os.sched_getaffinity(0)), "threads_each": given.threads}
    print(json.dumps({**facts, **report, "long_prompt": prompt}, indent=1))


if __name__ == "__main__":
    main()
