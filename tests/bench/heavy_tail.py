"""Selection rules on a reward with heavy-tailed errors, on the demo models: where argmax falls, do the others stay?

    python -m tests.bench.heavy_tail [--rounds N] [--write]

The reward is the demo reward model's plus 0.5 sigma t: t of Student with 1.5 degrees of freedom, the same for the same
answer (a verifier of its own, `shared/proxies.py`, added to the reward model by an ensemble of the scorer server);
sigma is the reward's deviation within a prompt. 128 candidates of each held-out prompt are sampled, scored and listed
once, by the gateway. Cut into sets of n, every rule is asked for its probabilities on the same sets
(`selection/rules.py`, which the gateway runs), so the gold score of its pick is an exact mean over its draws. Nothing
is guarded: this is about selection alone.

Then every rule is served at n = 16, its own draws included. Candidates have the seeds of the first set, so what is
served is held against what was expected of that set. Intervals are 95 %, by a bootstrap over prompts.
"""

import argparse
import asyncio
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.decoding.selection.rules import probabilities
from gateway.decoding.selection.settings import SelectionConfig
from tests.bench.shared.demo_stack import DemoGateway, NotServed, client_of, demo_stack
from tests.bench.shared.paired import less
from tests.bench.shared.proxies import ENTRY_POINTS, HEAVY_TAIL
from tests.bench.shared.report import progress, show, table, told
from tests.e2e.stack import Stack
from training.demo.conversation import Message
from training.demo.gold import judge
from training.demo.prompts import held_out_prompts
from training.demo.statistics import Figure, mean

SEED = 0
CANDIDATES = 128
SIZES = (1, 4, 16, 64, 128)
SERVED = 16
NOISE = 0.5
FIRST_PROMPTS, FIRST_CANDIDATES = 24, 16
RULES: Mapping[str, SelectionConfig] = {
    "argmax": SelectionConfig(),
    "soft, temperature 0.05": SelectionConfig(rule="soft", temperature=0.05),
    "poisson, mean 8": SelectionConfig(rule="poisson", mean=8),
    "pessimism, beta 0.5 sigma": SelectionConfig(rule="pessimism", beta=0.5),
}
# The same argmax by the reward model alone, which has no such errors.
CLEAN = "argmax, no such errors"


@dataclass(frozen=True, slots=True)
class Sampled:
    """One prompt's candidates, in the order of their seeds: the flawed reward, the reward model's own, and gold."""

    flawed: tuple[float, ...]
    clean: tuple[float, ...]
    gold: tuple[float, ...]


def expected(sampled: Sampled, rule: str, n: int, sigma: float, *, sets: int | None = None) -> float:
    """Mean gold of the rule's pick over sets of n, the first `sets` of them or all."""
    values, settings = (sampled.clean, RULES["argmax"]) if rule == CLEAN else (sampled.flawed, RULES[rule])
    starts = range(0, len(values) - n + 1, n)[:sets]
    return statistics.mean(
        sum(
            chance * gold
            for chance, gold in zip(
                probabilities(values[start : start + n], settings, sigma), sampled.gold[start : start + n], strict=True
            )
        )
        for start in starts
    )


async def deviation(gateway: DemoGateway) -> float:
    """Of the reward model's rewards within a prompt, over prompts that nothing else is measured on."""
    profile = {"n": FIRST_CANDIDATES, "safety": None}
    await gateway.put_profile("first", profile)
    variances = []
    for number, messages in enumerate(held_out_prompts(FIRST_PROMPTS, seed=SEED + 1)):
        reply = await gateway.ask("first", messages, 1000 * number, return_candidates=True)
        variances.append(statistics.variance([one.reward for one in reply.candidates if one.reward is not None]))
    return math.sqrt(statistics.mean(variances))


async def put_flawed(gateway: DemoGateway, sigma: float) -> None:
    """The scorer `flawed`, and a profile for each rule at n = 16."""
    await gateway.put_scorer("noise", {"kind": "verifier", "check": HEAVY_TAIL})
    members = {"reward": 1.0, "noise": NOISE * sigma}
    await gateway.put_scorer("flawed", {"kind": "ensemble", "members": members, "standardise": False})
    base = {"reward": "flawed", "safety": None}
    await gateway.put_profile("all", {**base, "n": CANDIDATES})
    for number, settings in enumerate(RULES.values()):
        said = settings.model_dump(exclude_defaults=True)
        if settings.rule == "pessimism":
            said["beta"] = settings.beta * sigma  # without a model card it is in raw rewards
        await gateway.put_profile(f"rule-{number}", {**base, "n": SERVED, "selection": said})


async def sample(gateway: DemoGateway, messages: Sequence[Message], seed: int) -> Sampled:
    """Raises NotServed, also where a candidate has no reward."""
    reply = await gateway.ask("all", list(messages), seed, return_candidates=True)
    flawed = [one.reward for one in reply.candidates]
    if len(flawed) != CANDIDATES or None in flawed:
        raise NotServed(f"only {sum(one is not None for one in flawed)} of {CANDIDATES} candidates have a reward")
    return Sampled(
        tuple(one for one in flawed if one is not None),
        tuple(one.parts["reward"] for one in reply.candidates),
        tuple(judge(messages, one.text or "").total for one in reply.candidates),
    )


async def measure(stack: Stack, rounds: int) -> tuple[str, dict[str, Any]]:
    sampled: list[Sampled] = []
    served: dict[str, list[float]] = {rule: [] for rule in RULES}
    prompts = held_out_prompts(rounds, seed=SEED)
    async with client_of(stack) as gateway:
        sigma = await deviation(gateway)
        await put_flawed(gateway, sigma)
        with progress("heavy tail", rounds) as done:
            for number, messages in enumerate(prompts):
                sampled.append(await sample(gateway, messages, 1000 * number))
                for index, rule in enumerate(RULES):
                    reply = await gateway.ask(f"rule-{index}", messages, 1000 * number)
                    served[rule].append(judge(messages, reply.text).total)
                done()
    return tables(sampled, served, sigma)


def tables(
    sampled: Sequence[Sampled], served: Mapping[str, Sequence[float]], sigma: float
) -> tuple[str, dict[str, Any]]:
    """Gold of the pick by rule and n, and the served ones against what was expected of the same candidates."""
    golds = {rule: {n: [expected(one, rule, n, sigma) for one in sampled] for n in SIZES} for rule in (*RULES, CLEAN)}
    figures = {rule: {n: _mean(values) for n, values in by_n.items()} for rule, by_n in golds.items()}
    falls = {rule: _mean(less(by_n[CANDIDATES], by_n[SERVED])) for rule, by_n in golds.items()}
    first = {rule: [expected(one, rule, SERVED, sigma, sets=1) for one in sampled] for rule in RULES}
    apart = {rule: _mean(less(served[rule], first[rule])) for rule in RULES}
    rows = [
        [
            rule,
            *(told(figures[rule][n]) for n in SIZES),
            told(falls[rule]),
            f"{told(_mean(served[rule]))}; off by {told(apart[rule])}" if rule in RULES else "",
        ]
        for rule in (*RULES, CLEAN)
    ]
    heads = [
        "gold score of the pick",
        *(f"n = {n}" for n in SIZES),
        f"{CANDIDATES} less {SERVED}",
        f"served, n = {SERVED}",
    ]
    found = {
        "prompts": len(sampled),
        "seed": SEED,
        "sigma": round(sigma, 4),
        "noise": NOISE,
        "gold": {rule: {n: one.as_dict() for n, one in by_n.items()} for rule, by_n in figures.items()},
        f"{CANDIDATES}_less_{SERVED}": {rule: one.as_dict() for rule, one in falls.items()},
        f"served_{SERVED}": {rule: _mean(values).as_dict() for rule, values in served.items()},
        "served_less_expected": {rule: one.as_dict() for rule, one in apart.items()},
    }
    return table(heads, rows), found


def _mean(values: Sequence[float]) -> Figure:
    return mean(values, "prompts", SEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="prompts")
    parser.add_argument("--write", action="store_true", help="keep the table in the README and the rest as JSON")
    given = parser.parse_args()
    with demo_stack(ENTRY_POINTS) as stack:
        markdown, found = asyncio.run(measure(stack, given.rounds))
    show("bench-heavy-tail", markdown, found, write=given.write)


if __name__ == "__main__":
    main()
