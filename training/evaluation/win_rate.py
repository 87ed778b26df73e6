"""How often A's answer is better than B's, by one judge or one reward model. Pure.

A win is 1, a loss 0, a tie 1/2. A reward model says which is higher; a judge gives a probability in each position, and
their mean is the win, as in AlpacaEval 2's weighted win rate. Who was blocked has no answer and loses to who has one;
both blocked is a tie. Where either answer, or the verdict, is missing, the comparison is left out and counted.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from training.evaluation.answers import Answer, Answers, Which
from training.evaluation.intervals import Estimate, mean, mean_share, prompts_needed, resolution, share
from training.evaluation.items import Item
from training.evaluation.judged import Place, Scored
from training.evaluation.judges import Comparison
from training.evaluation.length_control import LengthControlled, length_controlled
from training.evaluation.result import Measure

FINER = (0.05, 0.02, 0.01)


@dataclass(frozen=True, slots=True)
class Pair:
    """The two sides' answers in one place."""

    item: Item
    place: Place
    a: Answer
    b: Answer

    @property
    def longer(self) -> int:
        """Characters that A's answer has more."""
        return len(self.a.text) - len(self.b.text)


@dataclass(frozen=True, slots=True)
class Decided:
    pair: Pair
    win: float
    said: Comparison | None = None


def pairs_of(items: Sequence[Item], answers: Answers, samples: int) -> list[Pair]:
    """Those with an answer, or a block, on both sides."""
    found = []
    for item in items:
        for sample in range(samples):
            for turn in range(len(item.turns)):
                place = (item.id, sample, turn)
                a, b = answers.get(("a", *place)), answers.get(("b", *place))
                if a is not None and b is not None and "failed" not in (a.outcome, b.outcome):
                    found.append(Pair(item, place, a, b))
    return found


def to_be_judged(pair: Pair) -> bool:
    return pair.a.shown and pair.b.shown


def by_judge(version: str, pairs: Sequence[Pair], said: Mapping[Place, Comparison], places: int) -> Measure | None:
    """None where the judge has not been asked about all. places: comparisons that there should be."""
    decided, errors = [], []
    for pair in pairs:
        if not to_be_judged(pair):
            decided.append(Decided(pair, _blocked(pair)))
            continue
        comparison = said.get(pair.place)
        if comparison is None:
            return None
        if comparison.error:
            errors.append(comparison.error)
        else:
            decided.append(Decided(pair, comparison.win, comparison))
    return _measure(version, "judge", decided, places, errors, mean_share)


@dataclass(frozen=True, slots=True)
class ByRewards:
    """decided: by which answer has the higher reward. rewards: of A's and of B's. errors: why others are left out."""

    decided: list[Decided]
    rewards: list[tuple[Pair, float, float]]
    errors: list[str]


def decided_by_rewards(pairs: Sequence[Pair], scores: Mapping[tuple[Which, str, int, int], Scored]) -> ByRewards | None:
    """None where the reward model has not been asked about all."""
    found = ByRewards([], [], [])
    for pair in pairs:
        if not to_be_judged(pair):
            found.decided.append(Decided(pair, _blocked(pair)))
            continue
        a, b = scores.get(("a", *pair.place)), scores.get(("b", *pair.place))
        if a is None or b is None:
            return None
        if a.value is None or b.value is None:
            found.errors.append(a.error or b.error)
            continue
        found.rewards.append((pair, a.value, b.value))
        found.decided.append(Decided(pair, 0.5 if a.value == b.value else float(a.value > b.value)))
    return found


def by_rewards(
    version: str, pairs: Sequence[Pair], scores: Mapping[tuple[Which, str, int, int], Scored], places: int
) -> Measure | None:
    """None where the reward model has not been asked about all."""
    found = decided_by_rewards(pairs, scores)
    if found is None:
        return None
    measure, rewards = _measure(version, "reward", found.decided, places, found.errors, share), found.rewards
    if measure is None or not rewards:
        return measure
    units = [pair.item.unit for pair, _, _ in rewards]
    return replace(
        measure,
        mean_a=mean_or_none([a for _, a, _ in rewards], units),
        mean_b=mean_or_none([b for _, _, b in rewards], units),
        difference=mean_or_none([a - b for _, a, b in rewards], units),
    )


def mean_or_none(values: Sequence[float], units: Sequence[Hashable]) -> Estimate | None:
    """None where there are fewer than two prompts, of which a spread could be told."""
    return mean(values, units) if len(set(units)) > 1 else None


def _blocked(pair: Pair) -> float:
    return 0.5 if pair.a.shown == pair.b.shown else float(pair.a.shown)


def _measure(
    by: str,
    kind: str,
    decided: Sequence[Decided],
    places: int,
    errors: Sequence[str],
    estimate: Callable[[Sequence[float], Sequence[Hashable]], Estimate],
) -> Measure | None:
    if not decided:
        return None
    wins = [one.win for one in decided]
    units = [one.pair.item.unit for one in decided]
    plain = estimate(wins, units)
    controlled = length_controlled(wins, [one.pair.longer for one in decided], units)
    fitted = controlled if isinstance(controlled, LengthControlled) else None
    judged = [(one.said, one.pair.item.unit) for one in decided if one.said is not None]
    judged_units = [unit for _, unit in judged]
    bias = [said.as_first - said.as_second for said, _ in judged]
    against = [float((said.as_first - 0.5) * (said.as_second - 0.5) < 0) for said, _ in judged]
    turns = {one.pair.place[2] for one in decided}

    def grouped(of: Callable[[Decided], str]) -> dict[str, Estimate]:
        groups: dict[str, list[Decided]] = {}
        for one in decided:
            groups.setdefault(of(one), []).append(one)
        return {
            name: estimate([one.win for one in group], [one.pair.item.unit for one in group])
            for name, group in sorted(groups.items())
        }

    categories = grouped(lambda one: one.pair.item.category or "(none)")
    return Measure(
        by=by,
        kind=kind,
        win_rate=plain,
        ties=share([float(win == 0.5) for win in wins], units),
        length_controlled=fitted.win_rate if fitted else None,
        length_slope=fitted.slope if fitted else None,
        uncontrolled=controlled if isinstance(controlled, str) else "",
        by_category=categories if len(categories) > 1 else {},
        by_turn=grouped(lambda one: str(one.pair.place[2] + 1)) if len(turns) > 1 else {},
        position_bias=mean_or_none(bias, judged_units) if judged else None,
        contradictory=share(against, judged_units) if judged else None,
        resolution=resolution(plain),
        prompts_for={str(finer): prompts_needed(plain, finer) for finer in FINER},
        missing=places - len(decided),
        why_missing=next(iter(errors), ""),
        by_prompt=_by_prompt(decided),
    )


def _by_prompt(decided: Sequence[Decided]) -> dict[str, float]:
    wins: dict[str, list[float]] = {}
    for one in decided:
        wins.setdefault(one.pair.item.id, []).append(one.win)
    return {name: sum(its) / len(its) for name, its in wins.items()}
