"""Every strategy and selection rule against best-of-16, on the demo models: gold score, reward, tokens, wall time.

    python -m tests.bench.decoding [--rounds N] [--only NAME ...] [--write]        make bench-decoding

Starts the real stack. Each held-out prompt is asked of every row, one request at a time, and another row begins each
time; candidate i has the same seed in every row, so rows that keep the same candidate deliver the same text. Gold is
computed on that text. Compared is prompt by prompt, with best-of-16 by argmax:

    gold, reward        the difference, and what is kept of the gain: (row - one sample) / (best-of-16 - one sample)
    tokens, wall time   sampled in all, and until the answer is there, as a share of best-of-16's: sums over prompts
    first text          of streams of other prompts, in ms, against live streams of one sample: through the gateway with
                        its guard, and of vLLM alone; medians of the prompts' ratios

Intervals are 95 %, by a bootstrap over prompts. Prompts that the guard refuses (nothing is sampled then) are left out.
A row that the gateway does not serve, or stops serving, is told with its reason. Before all that, `bestow calibrate`
measures the model's card, which some rows need, on other prompts.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.bench.shared.demo_stack import MODEL, DemoGateway, NotServed, Reply, client_of, demo_stack
from tests.bench.shared.paired import less, median_ratio
from tests.bench.shared.report import percent, progress, show, table, told
from tests.e2e.stack import PROJECT, Stack
from training.demo.conversation import Message
from training.demo.gold import judge
from training.demo.prompts import held_out_prompts
from training.demo.statistics import Figure, mean, ratio_of_sums

SEED = 0
N = 16
BEST, ONE = "best-of-16", "one sample"
ANSWERS = 32  # to each prompt, for the card


@dataclass(frozen=True, slots=True)
class Row:
    """A profile to compare: its settings over n = 16 and those of all."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def strategy(self) -> str:
        return str(self.settings.get("strategy", "best_of_n"))


BLOCKWISE = Row("blockwise, 4 x 16 tokens", {"strategy": "blockwise", "n": 4, "options": {"block_tokens": 16}})
# Whatever the model card says of those checkpoints.
ANYWAY = {"unmeasured": True, "min_correlation": -1}
ROWS = (
    Row(BEST),
    Row(ONE, {"n": 1}),
    Row("best-of-12", {"n": 12}),
    Row("soft, temperature 0.05", {"selection": {"rule": "soft", "temperature": 0.05}}),
    Row("poisson, mean 8", {"selection": {"rule": "poisson", "mean": 8}}),
    Row("pessimism, beta 0.5", {"selection": {"rule": "pessimism", "beta": 0.5}}),
    Row("early stopping, price 1", {"strategy": "early_stopping", "options": {"price": 1, "first": 4, "wave": 2}}),
    Row("early stopping, price 2", {"strategy": "early_stopping", "options": {"price": 2, "first": 4, "wave": 2}}),
    Row("halving", {"strategy": "halving"}),
    Row(
        "halving at 8, 12, 15 tokens, keeps 62 %",
        {"strategy": "halving", "options": {"checkpoints": [8, 12, 15], "keep": 0.625, **ANYWAY}},
    ),
    Row(
        "halving at 8 tokens, keeps 25 %",
        {"strategy": "halving", "options": {"checkpoints": [8], "keep": 0.25, **ANYWAY}},
    ),
    BLOCKWISE,
    Row("blockwise, 16 x 16 tokens", {"strategy": "blockwise", "options": {"block_tokens": 16}}),
)
LEFT_OUT = {
    "step_search": "the demo has no process reward model",
    "vote": "the demo's answers are sentences, of which no two end in an answer that could be the same",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt's replies by row, with the gold score of each delivered text."""

    replies: Mapping[str, Reply]
    gold: Mapping[str, float]


class Bench:
    """The rows that are still served. failed: the others, with the reason."""

    def __init__(self, gateway: DemoGateway, rows: Sequence[Row]) -> None:
        self._gateway = gateway
        self.rows = list(rows)
        self.failed: dict[str, str] = {}

    async def prepare(self) -> None:
        """Make the profiles. Raises NotServed where there is nothing to compare with."""
        for row in list(self.rows):
            try:
                await self._gateway.put_profile(profile_of(row), {"n": N, **row.settings})
            except NotServed as error:
                self._give_up(row, error)

    async def ask(self, messages: Sequence[Message], number: int) -> Asked:
        """The prompt of each row, another one first each time. Raises NotServed as `prepare` does."""
        replies: dict[str, Reply] = {}
        start = number % len(self.rows)
        for row in [*self.rows[start:], *self.rows[:start]]:
            try:
                replies[row.name] = await self._gateway.ask(profile_of(row), messages, 1000 * number)
            except NotServed as error:
                self._give_up(row, error)
        return Asked(replies, {name: judge(messages, reply.text).total for name, reply in replies.items()})

    def _give_up(self, row: Row, error: NotServed) -> None:
        if row.name in (BEST, ONE):
            raise error
        self.rows.remove(row)
        self.failed[row.name] = str(error)


def profile_of(row: Row) -> str:
    return "bench-" + "".join(character if character.isalnum() else "-" for character in row.name)


@dataclass(frozen=True, slots=True)
class Compared:
    """A row over all prompts, beside best-of-16. kept: shares of best-of-16's gain over one sample.

    followed: how often each strategy was, by the log. degraded: how often each reason was given.
    """

    gold: Figure
    gold_less: Figure
    gold_kept: Figure
    reward_less: Figure
    reward_kept: Figure
    samples: float
    tokens: Figure
    wall: Figure
    wall_ms: float
    refused: int
    followed: Mapping[str, int]
    degraded: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("gold", "gold_less", "gold_kept", "reward_less", "reward_kept", "tokens", "wall")
        return {
            **{name: getattr(self, name).as_dict() for name in names},
            "samples": round(self.samples, 2),
            "wall_ms_median": round(self.wall_ms, 1),
            "refused": self.refused,
            "followed": dict(self.followed),
            "degraded": dict(self.degraded),
        }


def compared(name: str, asked: Sequence[Asked], followed: Sequence[str]) -> Compared:
    """followed: the strategy that each prompt's answer of this row was found by."""
    gold = {row: [one.gold[row] for one in asked] for row in (name, BEST, ONE)}
    rewards = [
        (of_row.reward, of_best.reward, of_one.reward)
        for of_row, of_best, of_one in ((one.replies[name], one.replies[BEST], one.replies[ONE]) for one in asked)
        if of_row.reward is not None and of_best.reward is not None and of_one.reward is not None
    ]
    replies, best = [one.replies[name] for one in asked], [one.replies[BEST] for one in asked]
    of_row, of_best, of_one = (list(column) for column in zip(*rewards, strict=True))
    return Compared(
        gold=_mean(gold[name]),
        gold_less=_mean(less(gold[name], gold[BEST])),
        gold_kept=_share(less(gold[name], gold[ONE]), less(gold[BEST], gold[ONE])),
        reward_less=_mean(less(of_row, of_best)),
        reward_kept=_share(less(of_row, of_one), less(of_best, of_one)),
        samples=float(np.mean([one.sampled for one in replies])),
        tokens=_share([one.tokens for one in replies], [one.tokens for one in best]),
        wall=_share([one.wall_ms for one in replies], [one.wall_ms for one in best]),
        wall_ms=float(np.median([one.wall_ms for one in replies])),
        refused=sum(one.refused is not None for one in replies),
        followed=Counter(followed),
        degraded=Counter(one.degraded for one in replies if one.degraded),
    )


def _mean(values: Sequence[float]) -> Figure:
    return mean(values, "prompts", SEED)


def _share(ones: Sequence[float], others: Sequence[float]) -> Figure:
    return ratio_of_sums(ones, others, "prompts", SEED)


async def first_texts(gateway: DemoGateway, rounds: int) -> dict[str, Any]:
    """Milliseconds until the first text of a stream, by blocks and of one sample; prompts of their own, in turns."""
    found: dict[str, list[float]] = {"blockwise": [], "one sample, live": [], "vLLM alone": []}
    guidances: dict[str, dict[str, Any]] = {
        "blockwise": {"profile": profile_of(BLOCKWISE), "stream_mode": "block"},
        "one sample, live": {"profile": profile_of(Row(ONE)), "stream_mode": "first"},
    }
    names = list(found)
    with progress("first text", rounds + 1) as done:
        for number, messages in enumerate(held_out_prompts(rounds + 1, seed=SEED + 2)):
            start = number % len(names)
            times: dict[str, float] = {}
            for name in [*names[start:], *names[:start]]:
                seed = 1000 * number
                times[name] = (
                    await gateway.first_token(messages, seed, guidances[name])
                    if name in guidances
                    else await gateway.bare_first_token(messages, seed)
                )
            # The first one is for warming up.
            for name, ms in times.items() if number else ():
                found[name].append(ms)
            done()
    return {
        "ms_median": {name: round(float(np.median(times)), 1) for name, times in found.items()},
        **{
            f"blockwise / {name}": median_ratio(found["blockwise"], found[name], SEED).as_dict()
            for name in names
            if name != "blockwise"
        },
    }


async def calibrate(gateway: DemoGateway, prompts: int) -> None:
    """`bestow calibrate MODEL` as an operator runs it. Raises NotServed with what it said."""
    profile = "bench-calibrate"
    await gateway.put_profile(profile, {"n": ANSWERS})
    stack = gateway.stack
    file, card = stack.data_dir / "prompts.jsonl", stack.data_dir / "demo.card.json"
    asked = held_out_prompts(prompts, seed=SEED + 1)
    file.write_text("".join(json.dumps({"prompt": messages}) + "\n" for messages in asked), encoding="utf-8")
    arguments = ["--prompts", file, "--answers", ANSWERS, "--profile", profile, "--out", card]
    command = [sys.executable, "-m", "gateway.cli", "calibrate", MODEL, *arguments, "--config", stack.config_file]
    process = await asyncio.create_subprocess_exec(*map(str, command), stdout=asyncio.subprocess.PIPE, cwd=PROJECT)
    said, _ = await process.communicate()
    if process.returncode:
        raise NotServed(f"it ended with {process.returncode}; its last words are above")
    print(said.decode(), file=sys.stderr)


async def measure(stack: Stack, rounds: int, rows: Sequence[Row], card_prompts: int) -> tuple[str, dict[str, Any]]:
    async with client_of(stack) as gateway:
        bench = Bench(gateway, rows)
        if card_prompts:
            try:
                await calibrate(gateway, card_prompts)
            except NotServed as error:
                bench.failed["bestow calibrate"] = str(error)
        await bench.prepare()
        prompts = held_out_prompts(rounds + 1, seed=SEED)
        await bench.ask(prompts[-1], rounds)  # connections, and vLLM's own first time at this many sequences
        all_asked: list[Asked] = []
        with progress("decoding", rounds) as done:
            for number, messages in enumerate(prompts[:-1]):
                all_asked.append(await bench.ask(messages, number))
                done()
        asked = [one for one in all_asked if one.replies[BEST].refused != "prompt"]
        if not asked:
            raise SystemExit("every prompt was refused: ask more of them with --rounds")
        found: dict[str, Compared] = {}
        for row in bench.rows:
            logged = await gateway.records([one.replies[row.name].id for one in asked])
            found[row.name] = compared(row.name, asked, [record.strategy for record in logged])
        streams: dict[str, Any] | None = None
        if BLOCKWISE.name in found:
            try:
                streams = await first_texts(gateway, rounds)
            except NotServed as error:
                bench.failed["blockwise, streamed"] = str(error)
    document = {
        "n": N,
        "prompts": len(asked),
        "prompts_refused": rounds - len(asked),
        "seed": SEED,
        "rows": {name: one.as_dict() for name, one in found.items()},
        "first_text": streams,
        "not_served": bench.failed,
        "left_out": LEFT_OUT,
    }
    return markdown({row.name: row for row in bench.rows}, found, document), document


HEADS = (
    "", "gold score", "less best-of-16", "gain kept, gold", "gain kept, reward", "samples", "tokens", "wall time"
)  # fmt: skip


def markdown(rows: Mapping[str, Row], found: Mapping[str, Compared], document: Mapping[str, Any]) -> str:
    """The table, and below it what is no row of it."""
    lines = [
        [
            name + _remarks(rows[name], one),
            told(one.gold),
            "" if name == BEST else told(one.gold_less),
            "" if name in (BEST, ONE) else percent(one.gold_kept),
            "" if name in (BEST, ONE) else percent(one.reward_kept),
            "" if rows[name].strategy == "blockwise" else f"{one.samples:.1f}",
            "100 %" if name == BEST else percent(one.tokens),
            "100 %" if name == BEST else percent(one.wall),
        ]
        for name, one in found.items()
    ]
    text = table(HEADS, lines)
    if streams := document["first_text"]:
        ratios = "; ".join(
            f"{streams[key]['value']:.2f} times ({streams[key]['low']:.2f} to {streams[key]['high']:.2f}) that of {of}"
            for key, of in (
                ("blockwise / one sample, live", "a live stream of one sample"),
                ("blockwise / vLLM alone", "a stream of vLLM alone"),
            )
        )
        text += f"\n\nFirst text of a stream by blocks: {streams['ms_median']['blockwise']:.0f} ms, {ratios}."
    if document["not_served"]:
        text += "\n\n" + "\n".join(f"Not measured: {name}: {why}" for name, why in document["not_served"].items())
    return text


def _remarks(row: Row, one: Compared) -> str:
    """Where a row is not what its name says: other strategies that were followed, and degraded answers."""
    others = {name: count for name, count in {**one.followed, **one.degraded}.items() if name != row.strategy}
    return f" ({', '.join(f'{count} x {name}' for name, count in others.items())})" if others else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="prompts")
    parser.add_argument("--card-prompts", type=int, default=100, help="to measure the card on; 0: serve without one")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows whose names begin so")
    parser.add_argument("--write", action="store_true", help="keep the table in the README and the rest as JSON")
    given = parser.parse_args()
    wanted = tuple(given.only or ("",))
    rows = [
        row
        for row in ROWS
        if row.name in (BEST, ONE) or f"{row.name}\n".startswith(wanted) or row.strategy.startswith(wanted)
    ]
    if len(rows) == 2 and given.only:
        parser.error(f"no row begins with {' or '.join(given.only)} (there is {', '.join(row.name for row in ROWS)})")
    with demo_stack() as stack:
        text, found = asyncio.run(measure(stack, given.rounds, rows, given.card_prompts))
    show("bench-decoding", text, found, write=given.write)


if __name__ == "__main__":
    main()
