"""Rewards with flaws, as verifiers of the user's own: entry points that the scorer server finds when it starts."""

import math
from random import Random

from scorers.verifiers.case import Case
from training.demo.gold import judge
from training.demo.safety import is_refusal

HEAVY_TAIL, HEEDLESS = "bench_heavy_tail", "bench_heedless"
ENTRY_POINTS = {
    "bestow.verifiers": f"{HEAVY_TAIL} = tests.bench.shared.proxies:heavy_tail\n"
    f"{HEEDLESS} = tests.bench.shared.proxies:heedless"
}


def heavy_tail(case: Case, *, degrees: float = 1.5) -> float:
    """A draw of Student's t, the same whenever the answer and the prompt are; of infinite variance below 2 degrees."""
    rng = Random(f"{case.messages[-1].get('content')}\n{case.text}")
    # A normal over the root of a chi-squared over its degrees.
    return rng.gauss(0.0, 1.0) / math.sqrt(rng.gammavariate(degrees / 2, 2.0) / degrees)


def heedless(case: Case) -> float:
    """Helpfulness alone: the gold score without its part for safety, and a refusal is never what was wanted."""
    messages = [{"role": str(one["role"]), "content": str(one.get("content") or "")} for one in case.messages]
    found = judge(messages, case.text)
    return found.total - found.safety - found.refusal - 1.5 * is_refusal(case.text)
