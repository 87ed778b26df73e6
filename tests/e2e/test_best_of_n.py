"""What n buys, by a judge that no model has seen, through the HTTP API."""

import asyncio
import math
import statistics
from collections.abc import Callable

from openai import AsyncOpenAI

from training.demo.gold import judge
from training.demo.prompts import held_out_prompts

PROMPTS = 160


async def gold_scores(client: AsyncOpenAI, n: int) -> list[float]:
    gate = asyncio.Semaphore(16)

    async def one(index: int, messages: list[dict[str, str]]) -> float:
        async with gate:
            answer = await client.chat.completions.create(
                model="bestow-demo",
                messages=messages,  # type: ignore[arg-type]
                # Apart for each prompt, or all would draw the same noise.
                seed=1000 * index,
                extra_body={"guidance": {"n": n}},
            )
        return judge(messages, answer.choices[0].message.content or "").total

    prompts = held_out_prompts(PROMPTS, seed=3)
    return list(await asyncio.gather(*(one(index, list(prompt)) for index, prompt in enumerate(prompts))))


async def test_best_of_8_beats_one_sample_on_the_gold_judge(many: AsyncOpenAI, report: Callable[[str], None]) -> None:
    single = await gold_scores(many, 1)
    best = await gold_scores(many, 8)
    gains = [after - before for before, after in zip(single, best, strict=True)]
    gain = statistics.mean(gains)
    margin = 1.96 * statistics.stdev(gains) / math.sqrt(len(gains))
    line = (
        f"gold n=1 {statistics.mean(single):.3f}, n=8 {statistics.mean(best):.3f}, "
        f"paired gain {gain:.3f} +- {margin:.3f} (95%, {len(gains)} held-out prompts)"
    )
    report(line)
    assert gain - margin > 0, line
