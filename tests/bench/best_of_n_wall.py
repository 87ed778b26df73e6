"""What judging adds: best-of-8 through Bestow against one bare vLLM request with n = 8, interleaved in one run.

    python -m tests.bench.best_of_n_wall [rounds]

Starts the real stack. Prints one JSON object: the median of the paired ratios of wall times (same prompt, same seed,
same sampling), the medians in ms, and where the gateway's time went by its own timings. One request at a time.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis

from gateway.log import streams
from tests.e2e import stack as stacks
from tests.e2e.stack import Stack
from training.demo.prompts import held_out_prompts

N = 8
SAMPLING = {"temperature": 1.0, "max_tokens": 96}


async def timed(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> float:
    """Milliseconds until the whole answer is there."""
    begun = time.perf_counter()
    async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
        assert reply.status == 200, await reply.text()
        await reply.read()
    return (time.perf_counter() - begun) * 1000


async def measure(stack: Stack, rounds: int) -> dict[str, Any]:
    guided: list[float] = []
    bare: list[float] = []
    async with aiohttp.ClientSession() as session:
        for seed, messages in enumerate(held_out_prompts(rounds, seed=77)):
            common = {"messages": messages, "seed": 1000 * seed, **SAMPLING}
            ours = {"model": "bestow-demo", "guidance": {"n": N}, **common}
            theirs = {"model": "demo-policy", "n": N, **common}
            # Whoever comes second finds the prompt in vLLM's prefix cache: take turns.
            for which in ("ours", "theirs") if seed % 2 else ("theirs", "ours"):
                if which == "ours":
                    guided.append(await timed(session, stack.url, ours))
                else:
                    bare.append(await timed(session, stack.worker_url, theirs))
    await asyncio.sleep(1)
    redis = Redis.from_url(stack.redis_url)
    records = [one.record for one in await streams.interactions(redis, "0").last(rounds)]
    await redis.aclose()
    split = {
        name: round(statistics.median(getattr(record.timings, name) for record in records if record.candidates), 2)
        for name in ("guard_ms", "sampling_ms", "scoring_tail_ms", "overhead_ms", "total_ms")
    }
    ratios = [ours / theirs for ours, theirs in zip(guided, bare, strict=True)]
    return {
        "rounds": rounds,
        "n": N,
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_quartiles": [round(one, 3) for one in statistics.quantiles(ratios, n=4)],
        "guided_ms": round(statistics.median(guided), 1),
        "bare_ms": round(statistics.median(bare), 1),
        "gateway_split_median_ms": split,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=60)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        stack = stacks.start(Path(folder))
        try:
            print(json.dumps(asyncio.run(measure(stack, rounds)), indent=1))
        finally:
            stacks.stop(stack)


if __name__ == "__main__":
    main()
