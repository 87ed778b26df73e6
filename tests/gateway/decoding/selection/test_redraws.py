"""What the log says of a draw, against the draw itself: a hundred thousand times."""

import math
from collections import Counter
from functools import cache
from random import Random

import pytest

from gateway.decoding.candidate import Judged
from gateway.decoding.second_check import checked_again
from gateway.decoding.selection.chooser import Chooser
from gateway.decoding.selection.settings import SelectionConfig
from gateway.decoding.strategy import Decision, Progress
from gateway.log.records import Message, Verdict
from tests.gateway.decoding.judged import judged

REDRAWS = 100_000
DRAWN = {
    "argmax": SelectionConfig(explore=0.3),
    "soft": SelectionConfig(rule="soft", temperature=0.4, explore=0.1),
    "poisson": SelectionConfig(rule="poisson", mean=2.0, explore=0.05),
    "pessimism": SelectionConfig(rule="pessimism", beta=0.8, explore=0.1),
}
MIXED = [
    judged(0, 1.0, text="a"),
    judged(1, 9.0, text="b", flagged=True),
    judged(2, 3.0, text="c"),
    judged(3, 2.0, text="a"),
    judged(4, 2.5, text="d"),
    judged(5, None, text="e"),
    judged(6, 3.0, text="f", broken="no JSON"),
]


def text_of(one: Judged) -> str:
    return str(one.candidate.message["content"])


def near(seen: int, chance: float, of: int) -> bool:
    """Within five deviations of a binomial: a chance that is 1 % off shows."""
    return abs(seen - of * chance) <= 5 * math.sqrt(of * chance * (1 - chance)) + 1e-6


@cache
def orders(rule: str) -> Counter[tuple[int, ...]]:
    """How often each order came out of the redraws."""
    chooser = Chooser(DRAWN[rule], rng=Random(7))
    return Counter(chooser.rank(MIXED).order for _ in range(REDRAWS))


def logged(rule: str) -> tuple[float, ...]:
    return Chooser(DRAWN[rule]).rank(MIXED).outcomes.candidates


@pytest.mark.parametrize("rule", DRAWN)
def test_a_hundred_thousand_redraws_come_out_as_logged(rule: str) -> None:
    """The first as the outcomes say; the second as if drawn again without the first."""
    chances = logged(rule)
    assert [at for at, chance in enumerate(chances) if chance] == [0, 2, 4]
    firsts: Counter[int] = Counter()
    seconds: Counter[tuple[int, ...]] = Counter()
    for order, count in orders(rule).items():
        firsts[order[0]] += count
        seconds[order[:2]] += count
    for first, chance in enumerate(chances):
        assert near(firsts[first], chance, REDRAWS)
        for second, other in enumerate(chances):
            if first != second and chance:
                assert near(seconds[first, second], other / (1 - chance), firsts[first])


@pytest.mark.parametrize("failing", ["c", "ca", "cad"])
@pytest.mark.parametrize("rule", DRAWN)
async def test_redraws_of_the_second_check_come_out_as_logged(rule: str, failing: str) -> None:
    """A guard that flags some of the texts: whatever was drawn first, the log says the same, and it comes out so."""
    before = logged(rule)
    outcomes = Chooser(DRAWN[rule]).rank(MIXED).outcomes

    async def check(message: Message) -> Verdict:
        bad = message["content"] in failing
        return Verdict(categories={"x": 0.9 if bad else 0.1}, flagged=["x"] if bad else [])

    delivered: Counter[int] = Counter()
    said = set()
    for order, count in orders(rule).items():
        decision = Decision(tuple(MIXED), order, outcomes, None, 0.0)
        after = await checked_again(decision, 1, check, Progress(), unjudged_passes=False)
        delivered[after.order[0]] += count
        said.add((tuple(round(chance, 12) for chance in after.outcomes.candidates), after.outcomes.refusal))
    [(chances, refusal)] = said
    assert math.fsum(chances) + refusal == pytest.approx(1.0, abs=1e-9)
    passing = [at for at, chance in enumerate(before) if chance and text_of(MIXED[at]) not in failing]
    # Where nothing that could be drawn passes it is the next in order: the one without a reward.
    expected = {at: before[at] / math.fsum(before[one] for one in passing) for at in passing} or {5: 1.0}
    assert {at: chance for at, chance in enumerate(chances) if chance} == pytest.approx(expected)
    for at, chance in enumerate(chances):
        assert near(delivered[at], chance, REDRAWS)


@pytest.mark.parametrize("rule", DRAWN)
def test_a_seed_draws_the_same_again_and_another_seed_does_not(rule: str) -> None:
    def drawn(seed: int) -> list[tuple[int, ...]]:
        chooser = Chooser(DRAWN[rule], rng=Random(seed))
        return [chooser.rank(MIXED).order for _ in range(40)]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
