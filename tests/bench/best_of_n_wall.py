"""What judging adds: best-of-n through Bestow against one bare vLLM request with the same n, interleaved in one run.

    python -m tests.bench.best_of_n_wall [--rounds N] [--n N] [--write]

Starts the real stack. One request at a time, scoring and guard on; same prompt, same seeds, same sampling; who is
asked first takes turns. The ratio of wall times is the median of the prompts' ratios, with a 95 % interval by a
bootstrap over prompts. The split is by the gateway's own timings, one after the other as they pass (medians, so that
they do not add up exactly):

    guard     the prompt's verdict              queue     waiting for places at the workers
    sampling  until the last candidate is in; candidates before it are judged meanwhile
    scoring   rewards and verdicts that were still missing then
    gateway   time in which no worker and no scorer was waited for: in between all of these
"""

import argparse
import asyncio
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.log.records import Timings
from tests.bench.shared.demo_stack import Reply, client_of, demo_stack
from tests.bench.shared.paired import less, median_ratio
from tests.bench.shared.report import progress, show, table, told
from tests.e2e.stack import Stack
from training.demo.prompts import held_out_prompts

SEED = 77
PROFILE = "wall"


def split(timings: Timings) -> dict[str, float]:
    """Milliseconds of one request."""
    before = timings.guard_ms + timings.queue_ms
    return {
        "guard": timings.guard_ms,
        "queue": timings.queue_ms,
        "sampling": timings.sampling_ms - before,
        "scoring": timings.scoring_tail_ms,
        "gateway": timings.overhead_ms,
        "total": timings.total_ms,
    }


async def measure(stack: Stack, rounds: int, n: int) -> tuple[str, dict[str, Any]]:
    guided: list[Reply] = []
    bare: list[float] = []
    async with client_of(stack) as gateway:
        await gateway.put_profile(PROFILE, {"n": n})
        with progress("wall time", rounds + 1) as done:
            # The first one is for warming up: connections, and vLLM's own first time at this many sequences.
            for number, messages in enumerate(held_out_prompts(rounds + 1, seed=SEED)):
                seed = 1000 * number
                # Whoever comes second finds the prompt in vLLM's prefix cache: take turns.
                if number % 2:
                    reply = await gateway.ask(PROFILE, messages, seed)
                    alone = await gateway.bare(messages, seed, n)
                else:
                    alone = await gateway.bare(messages, seed, n)
                    reply = await gateway.ask(PROFILE, messages, seed)
                # Where the prompt is refused nothing is sampled.
                if number and reply.refused != "prompt":
                    guided.append(reply)
                    bare.append(alone)
                done()
        records = await gateway.records([reply.id for reply in guided])
    return told_of([reply.wall_ms for reply in guided], bare, [split(record.timings) for record in records], n)


def told_of(
    guided: Sequence[float], bare: Sequence[float], splits: Sequence[Mapping[str, float]], n: int
) -> tuple[str, dict[str, Any]]:
    """The table, and all figures."""
    ratio = median_ratio(guided, bare, SEED)
    medians = {
        "through Bestow": statistics.median(guided),
        "vLLM alone": statistics.median(bare),
        "more": statistics.median(less(guided, bare)),
    }
    parts = {name: statistics.median(one[name] for one in splits) for name in splits[0]}
    found = {
        "prompts": len(guided),
        "n": n,
        "ratio": ratio.as_dict(),
        "ratio_quartiles": [
            round(one, 3)
            for one in statistics.quantiles([one / other for one, other in zip(guided, bare, strict=True)], n=4)
        ],
        "median_ms": {name: round(value, 1) for name, value in medians.items()},
        "split_median_ms": {name: round(value, 2) for name, value in parts.items()},
    }
    heads = ("wall time, n = " + str(n), *medians, *(f"of it {name}" for name in parts if name != "total"))
    cells = [f"{value:.0f} ms" for value in medians.values()]
    cells += [f"{value:.1f} ms" for name, value in parts.items() if name != "total"]
    return table(heads, [[f"{told(ratio)} times", *cells]]), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="prompts, 2 or more")
    parser.add_argument("--n", type=int, default=16, help="candidates, up to 128")
    parser.add_argument("--write", action="store_true", help="keep the table in the README and the rest as JSON")
    given = parser.parse_args()
    with demo_stack() as stack:
        markdown, found = asyncio.run(measure(stack, given.rounds, given.n))
    show("bench-wall", markdown, found, write=given.write)


if __name__ == "__main__":
    main()
