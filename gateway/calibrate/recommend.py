"""What a model card says a profile should be, for a target: pure.

    gain=0.9       this share of what the best of the largest measured n gains over one answer, as cheaply as can be
    tokens=2000    the most gain for so many sampled tokens a request
    latency=1500   the most gain within so many milliseconds, the median of a request alone
    flagged=0.01   guard thresholds at which a category flags at most this share of the answers

Each is answered by best-of-n; and by early stopping and halving where those do it for less. Early stopping is played
through on prompts that are drawn from the card's residuals, halving on rewards with the lower bounds of the measured
correlations.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from random import Random
from statistics import fmean, pstdev
from typing import Any, Literal, cast, get_args

from gateway.decoding.card import CurvePoint, GuardLaw, ModelCard, PartialPoint, Recommendation
from gateway.decoding.halving import HalvingOptions
from gateway.decoding.laws import halving
from gateway.decoding.reward_laws import RewardLaw
from gateway.profile_settings import ProfileConfig

# ruff: noqa: PLC0415
Kind = Literal["gain", "tokens", "latency", "flagged"]

# A strategy that is harder to understand must save at least this much.
_WORTH = 0.95
_PLAYED = 2000
# Of a sample, in deviations: from hardly anything to more than most gain.
_PRICES = tuple(0.002 * 1.1**step for step in range(58))
_SHARES = (0.25, 0.375, 0.5, 0.625, 0.75)
_CHECKPOINTS = 3


@dataclass(frozen=True, slots=True)
class Target:
    """What is wanted."""

    kind: Kind
    value: float

    def __str__(self) -> str:
        return f"{self.kind}={self.value:g}"


DEFAULT_TARGETS = (Target("gain", 0.9),)


def parse_target(text: str) -> Target:
    """Raises ValueError saying what a target is."""
    kind, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    share = kind in ("gain", "flagged")
    if kind not in get_args(Kind) or not (0 < number <= 1 if share else 0 < number < math.inf):
        raise ValueError(f"{text!r} is no target such as gain=0.9, tokens=2000, latency=1500 (ms) or flagged=0.01")
    return Target(cast("Kind", kind), number)


def recommendations(card: ModelCard, targets: Sequence[Target]) -> list[Recommendation]:
    """In the order of the targets; several for one where several strategies do it."""
    found: list[Recommendation] = []
    for target in targets:
        if target.kind == "flagged":
            found += [thresholds(card, target)] if card.guard else []
            continue
        if len(card.curve) < 2 or _gain(card, card.curve[-1].n) <= 0:
            found.append(Recommendation(str(target), {"n": 1}, "More answers gain nothing here."))
            continue
        fixed = _fixed_n(card, target)
        found.append(_best_of_n(card, target, fixed))
        if target.kind != "latency" and fixed:
            found += [one for one in (_early_stopping(card, target, fixed), _halving(card, target, fixed)) if one]
    return found


def reward_at(card: ModelCard, n: int) -> float:
    """The curve at n, linear in log n between measured points."""
    for before, after in pairwise(card.curve):
        if n <= after.n:
            share = math.log(n / before.n) / math.log(after.n / before.n)
            return before.reward + share * (after.reward - before.reward)
    return card.curve[-1].reward


def latency_at(card: ModelCard, n: int) -> float | None:
    """Milliseconds, linear between measured points; None beyond them."""
    points = [(point.n, point.latency_ms) for point in card.curve if point.latency_ms is not None]
    if points and n == points[0][0]:
        return points[0][1]
    for (low, before), (high, after) in pairwise(points):
        if low <= n <= high:
            return before + (n - low) / (high - low) * (after - before)
    return None


def _gain(card: ModelCard, n: int) -> float:
    return reward_at(card, n) - card.curve[0].reward


def _share(card: ModelCard, n: int) -> float:
    return _gain(card, n) / _gain(card, card.curve[-1].n)


def _fixed_n(card: ModelCard, target: Target) -> int:
    """0 where none will do."""
    all_n = range(1, card.curve[-1].n + 1)
    if target.kind == "gain":
        return next(n for n in all_n if _share(card, n) >= target.value - 1e-9)
    if target.kind == "tokens":
        return max((n for n in all_n if n * card.mean_tokens <= target.value), default=0)
    return max((n for n in all_n if (ms := latency_at(card, n)) is not None and ms <= target.value), default=0)


def _best_of_n(card: ModelCard, target: Target, n: int) -> Recommendation:
    top: CurvePoint = card.curve[-1]
    if not n:
        if target.kind == "latency":
            one = latency_at(card, 1)
            because = "Latency was not measured." if one is None else f"One answer alone takes {one:.0f} ms."
        else:
            because = f"One answer has {card.mean_tokens:.0f} tokens on average."
        return Recommendation(str(target), {}, f"No n does it. {because}")
    latency = latency_at(card, n)
    took = f", in {latency:.0f} ms" if latency is not None else ""
    because = (
        f"The best of {n} gains {_gain(card, n):.3f} over one answer, {_share(card, n):.0%} of what the best of "
        f"{top.n} does ({_gain(card, top.n):.3f}, {top.gain_low:.3f} to {top.gain_high:.3f}), for "
        f"{n * card.mean_tokens:.0f} of its {top.tokens:.0f} tokens{took}."
    )
    return Recommendation(str(target), _settings("best_of_n", n), because)


def _early_stopping(card: ModelCard, target: Target, fixed: int) -> Recommendation | None:
    """The price that does what `fixed` answers always would do, or better, for less. None where it saves too little."""
    top = card.curve[-1].n
    played = _play(card, top)
    always = [fmean(max(one[:n]) for one in played) for n in range(1, top + 1)]
    best: tuple[float, float, float] | None = None
    for price in _PRICES:
        reward, draws = _stopped(card, played, top, price)
        enough = reward >= always[fixed - 1] if target.kind == "gain" else draws * card.mean_tokens <= target.value
        if enough and (best is None or (draws < best[2] if target.kind == "gain" else reward > best[1])):
            best = price, reward, draws
    if best is None:
        return None
    price, reward, draws = best
    as_good = sum(one <= reward for one in always)
    if draws > _WORTH * fixed if target.kind == "gain" else as_good <= fixed:
        return None
    because = (
        f"It stops after {draws:.1f} answers on average, {draws * card.mean_tokens:.0f} tokens, and gains what the "
        f"best of {as_good} always would, {_share(card, as_good):.0%} of what the best of {top} does (played through "
        f"on {_PLAYED} prompts drawn from the card)."
    )
    per_thousand = float(f"{price * 1000 / card.mean_tokens:.3g}")
    return Recommendation(str(target), _settings("early_stopping", top, price=per_thousand), because)


def _play(card: ModelCard, n: int) -> list[list[float]]:
    """n rewards of each of many prompts, less the prompt's mean."""
    rng = Random(0)
    # Each as likely as the others; of deviation 1, which residuals of few answers fall short of.
    values = [(before + after) / 2 for before, after in pairwise(card.residuals)]
    mean = fmean(values)
    scale = card.deviation / (pstdev(values) or 1.0)
    return [[scale * (one - mean) for one in rng.choices(values, k=n)] for _ in range(_PLAYED)]


def _stopped(card: ModelCard, played: Sequence[Sequence[float]], n: int, price: float) -> tuple[float, float]:
    """Mean reward and answers of `decoding.early_stopping` with waves as it has them. price: of an answer."""
    law = RewardLaw(card)
    width = max(2, n // 4)
    ends = list(range(width, n, width))
    # The mean of what was seen is added to it: rewards have no zero.
    over = {end: law.reservation([0.0] * end, price, min(width, n - end)) for end in ends}
    rewards, draws = [], []
    for one in played:
        end = next((end for end in ends if max(one[:end]) >= fmean(one[:end]) + over[end]), n)
        rewards.append(max(one[:end]))
        draws.append(end)
    return fmean(rewards), fmean(draws)


@dataclass(frozen=True, slots=True)
class _Schedule:
    """Halving: share goes on at each checkpoint. tokens: of a request, on average."""

    n: int
    points: tuple[PartialPoint, ...]
    share: float
    alive: tuple[int, ...]
    tokens: float


def _halving(card: ModelCard, target: Target, fixed: int) -> Recommendation | None:
    """The schedule that does it for least, or why there is none. None where no beginnings were measured."""
    if not card.partial:
        return None
    least = HalvingOptions().min_correlation
    top = card.curve[-1].n
    best: tuple[_Schedule, float] | None = None
    for one in _schedules(card, [point for point in card.partial if point.correlation >= least]):
        affordable = target.value if target.kind == "tokens" else _WORTH * fixed * card.mean_tokens
        if one.tokens > affordable or (best and target.kind == "gain"):
            break
        wanted = target.value if target.kind == "gain" else best[1] if best else _share(card, fixed) / _WORTH
        if _share(card, one.n) >= wanted and (kept := _kept(card, one)) >= wanted:
            best = one, kept
    if best is None:
        return Recommendation(str(target), {}, _not_halving(card, top))
    one, kept = best
    because = (
        f"Where {_joined([f'{count}' for count in one.alive])} run on, {kept:.0%} of the gain of the best of {top} is "
        f"left, for {one.tokens:.0f} tokens instead of the {fixed * card.mean_tokens:.0f} of best-of-{fixed}: by the "
        f"lower bounds of the correlations, {_joined([_said(point) for point in one.points])}."
    )
    checkpoints = [point.tokens for point in one.points]
    return Recommendation(str(target), _settings("halving", one.n, checkpoints=checkpoints, keep=one.share), because)


def _schedules(card: ModelCard, points: Sequence[PartialPoint]) -> list[_Schedule]:
    """Cheapest first."""
    found = []
    for n in (one.n for one in card.curve if one.n >= 4):
        for count in range(1, _CHECKPOINTS + 1):
            for chosen, share in product(combinations(points, count), _SHARES):
                alive = halving.survivors(n, share, count)
                if list(alive) == sorted(set(alive), reverse=True):
                    found.append(_Schedule(n, chosen, share, alive, _halved_tokens(card, alive, chosen)))
    return sorted(found, key=lambda one: one.tokens)


def _kept(card: ModelCard, schedule: _Schedule) -> float:
    """Of the gain of the largest n."""
    # numpy takes a moment.
    from gateway.calibrate.halved import kept

    return _share(card, schedule.n) * kept(schedule.n, schedule.alive, [point.low for point in schedule.points])


def _not_halving(card: ModelCard, top: int) -> str:
    early = min(card.partial, key=lambda point: abs(point.tokens - card.mean_tokens / 4))
    keep = max(1, round(top / 4))
    left = halving.retained(top, keep, early.low)
    cost = _halved_tokens(card, (top, keep), (early,)) / (top * card.mean_tokens)
    return (
        f"Halving does not do it for less: {_said(early)}, by whose lower bound {keep} of {top} running on from there "
        f"would keep {left:.0%} of the gain at {cost:.0%} of the tokens."
    )


def _said(point: PartialPoint) -> str:
    return f"{point.correlation:.2f} ({point.low:.2f} to {point.high:.2f}) after {point.tokens} tokens"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _halved_tokens(card: ModelCard, alive: Sequence[int], points: Sequence[PartialPoint]) -> float:
    return halving.tokens(alive, [point.tokens for point in points], card.lengths or [card.mean_tokens])


def thresholds(card: ModelCard, target: Target) -> Recommendation:
    """For the categories that flag more than that; the others stay as they are."""
    over = {name: law for name, law in card.guard.items() if law.flagged > target.value}
    flagged = ", ".join(f"{name} {law.flagged:.1%}" for name, law in card.guard.items())
    if not over:
        return Recommendation(str(target), {}, f"The thresholds can stay: of the answers are flagged {flagged}.")
    chosen = {name: _threshold(law, target.value) for name, law in over.items()}
    because = (
        f"Flagged are {flagged} of {card.answers} answers, and with these thresholds at most {target.value:.1%} in "
        "each: right only where these answers are harmless, so read some first (`bestow calibrate safety` has labels)."
    )
    return Recommendation(str(target), {"category_thresholds": chosen}, because)


def _threshold(law: GuardLaw, share: float) -> float:
    """Just above the quantile of the rank 1 - share."""
    place = (1 - share) * (len(law.quantiles) - 1)
    value = law.quantiles[math.ceil(place - 1e-9)]
    return min(1.0, round((math.floor(value * 1e4) + 1) / 1e4, 4))


def _settings(strategy: str, n: int, **options: Any) -> dict[str, Any]:
    """As in a profile; max_n where its default is less."""
    found: dict[str, Any] = {"strategy": strategy, "n": n}
    if n > ProfileConfig.model_fields["max_n"].default:
        found["max_n"] = n
    return {**found, "options": options} if options else found
