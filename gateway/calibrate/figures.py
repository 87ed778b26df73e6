"""From measurements to a model card's figures: pure, with numpy.

Rewards of a prompt's answers are compared with each other and never with another prompt's, so what the card says of
choosing is within prompts. Prompts, not answers, are what was drawn independently: intervals are of resampled prompts
(the percentile bootstrap, Efron 1979), 95 %, with a fixed seed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from gateway.calibrate.measured import Answer, Begun, Sampled, Setup, Timed
from gateway.decoding.card import FORMAT, CurvePoint, GuardLaw, LengthPoint, ModelCard, PartialPoint
from gateway.decoding.laws.best_of_n import expected_bests
from gateway.errors import StartError
from scorers.calibration.lowess import lowess
from scorers.calibration.quantiles import law_of

Floats = NDArray[np.float64]

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
RESAMPLES = 2000
# The curve goes as far as this share of the prompts has answers.
_HAVE = 0.9
# Fewer beginnings than this at a position say nothing.
LEAST_BEGUN = 20
# Where beginnings are scored, as shares of an answer's mean tokens.
_PLACES = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)
_RESIDUALS, _LENGTHS, _GUARD, _LENGTH_POINTS = 257, 65, 201, 25


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def positions_for(sampled: Iterable[Sampled]) -> list[int]:
    """After how many tokens beginnings are scored: enough answers go on there to say something."""
    lengths = [answer.tokens for one in sampled for answer in one.answers]
    if not lengths:
        return []
    mean = sum(lengths) / len(lengths)
    places = sorted({max(1, round(share * mean)) for share in _PLACES})
    return [place for place in places if sum(length > place for length in lengths) >= LEAST_BEGUN]


def curve(rewards: Sequence[Sequence[float]], seed: int) -> dict[int, tuple[Interval, Interval]]:
    """By n, the mean reward of the best of n, and what it gains: each prompt's by the unbiased estimator, averaged.

    rewards: of each prompt's answers. All n are of the same prompts, those with enough answers for the largest.
    """
    counts = np.array([len(one) for one in rewards])
    top = max(size for size in {*SIZES, int(counts.max())} if np.mean(counts >= size) >= _HAVE or size == 1)
    sizes = [size for size in SIZES if size < top] + [top]
    rows = np.array([expected_bests(one, one, sizes) for one in rewards if len(one) >= top])
    rewarded, gained = (_means(table, seed) for table in (rows, rows - rows[:, :1]))
    return {size: (rewarded[place], gained[place]) for place, size in enumerate(sizes)}


def _means(table: Floats, seed: int) -> list[Interval]:
    """Of each column, rows resampled."""
    means = table.mean(axis=0)
    low, high = np.percentile(_weights(len(table), seed) @ table, (2.5, 97.5), axis=0)
    # Where nothing varies, rounding must not put the mean outside.
    return [
        Interval(float(mean), float(min(mean, below)), float(max(mean, above)))
        for mean, below, above in zip(means, low, high, strict=True)
    ]


def deviation_within(rewards: Sequence[Sequence[float]]) -> tuple[float, list[float]]:
    """The pooled deviation of rewards from their prompt's mean, and all those differences over it."""
    several = [np.asarray(one, dtype=np.float64) for one in rewards if len(one) > 1]
    freedom = sum(len(one) - 1 for one in several)
    if not freedom:
        raise StartError("No prompt has two answers with a reward: ask for more with --answers.")
    apart = np.concatenate([one - one.mean() for one in several])
    deviation = float(np.sqrt(np.sum(apart**2) / freedom))
    if not deviation > 0:
        raise StartError("All answers to a prompt have the same reward: there is nothing to choose by.")
    return deviation, (apart / deviation).tolist()


def correlation_within(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], seed: int) -> Interval | None:
    """Of x and y, each less its prompt's mean. pairs: each prompt's x and y. None where one of them does not vary."""
    sums = []
    for xs, ys in pairs:
        x, y = np.asarray(xs, dtype=np.float64), np.asarray(ys, dtype=np.float64)
        x, y = x - x.mean(), y - y.mean()
        sums.append((x @ y, x @ x, y @ y))
    table = np.array(sums, dtype=np.float64).reshape(-1, 3)
    value = _correlation(table.sum(axis=0)[None])
    found = _correlation(_weights(len(table), seed) @ table) if len(table) > 1 else value
    found = found[np.isfinite(found)]
    if not np.isfinite(value[0]) or not len(found):
        return None
    low, high = np.percentile(found, (2.5, 97.5))
    return Interval(float(value[0]), float(min(low, value[0])), float(max(high, value[0])))


def partial_points(
    sampled: Mapping[str, Sampled], begun: Sequence[Begun], positions: Sequence[int], seed: int
) -> list[PartialPoint]:
    """One for each position at which enough answers go on."""
    found = []
    for index, position in enumerate(positions):
        pairs = []
        for one in begun:
            answers = sampled[one.prompt].answers
            both = [
                (partial, answer.reward)
                for partial, answer in zip(one.rewards[index], answers, strict=True)
                if partial is not None
            ]
            if len(both) > 1:
                pairs.append(([partial for partial, _ in both], [final for _, final in both]))
        count = sum(len(xs) for xs, _ in pairs)
        interval = correlation_within(pairs, seed) if count >= LEAST_BEGUN else None
        if interval is not None:
            found.append(PartialPoint(position, interval.value, interval.low, interval.high, count))
    return found


def length_points(answers: Sequence[Answer]) -> list[LengthPoint]:
    """LOWESS of reward against tokens, at lengths that are equally far apart in rank."""
    places, fitted = lowess([answer.tokens for answer in answers], [answer.reward for answer in answers])
    if len(places) < 2:
        return []
    ranks = np.linspace(0, 1, _LENGTH_POINTS)
    wanted = np.unique(np.quantile([answer.tokens for answer in answers], ranks, method="nearest"))
    return [
        LengthPoint(float(place), _short(float(value)))
        for place, value in zip(wanted, np.interp(wanted, places, fitted), strict=True)
    ]


def guard_laws(answers: Sequence[Answer]) -> dict[str, GuardLaw]:
    """Of each category's probability, over the answers that the guard has judged."""
    judged = [answer for answer in answers if answer.categories]
    names = sorted({name for answer in judged for name in answer.categories})
    return {
        name: GuardLaw(
            _quantiles([answer.categories[name] for answer in judged if name in answer.categories], _GUARD),
            sum(name in answer.flagged for answer in judged) / len(judged),
        )
        for name in names
    }


def card_of(
    setup: Setup,
    sampled: Sequence[Sampled],
    begun: Sequence[Begun],
    positions: Sequence[int],
    timed: Sequence[Timed],
    created: float,
    seed: int = 0,
) -> ModelCard:
    """All of it but the recommendations. Raises StartError where too little was measured."""
    used = [one for one in sampled if one.answers]
    answers = [answer for one in used for answer in one.answers]
    if len(used) < 2:
        raise StartError(f"{len(used)} prompts with answers are too few for a card: give more with --prompts.")
    rewards = [[answer.reward for answer in one.answers] for one in used]
    deviation, residuals = deviation_within(rewards)
    law = law_of([answer.reward for answer in answers], setup.policy)
    mean_tokens = sum(answer.tokens for answer in answers) / len(answers)
    latency = _medians(timed)
    points = [
        CurvePoint(n, one.value, one.low, one.high, n * mean_tokens, latency.get(n), gain.low, gain.high)
        for n, (one, gain) in curve(rewards, seed).items()
    ]
    return ModelCard(
        format=FORMAT,
        model=setup.model,
        policy=setup.policy,
        reward_model=setup.reward_model,
        created=created,
        prompts=len(used),
        answers=len(answers),
        law=replace(law, quantiles=[_short(one) for one in law.quantiles]),
        deviation=deviation,
        residuals=_quantiles(residuals, _RESIDUALS),
        mean_tokens=mean_tokens,
        curve=points,
        partial=partial_points({one.prompt: one for one in sampled}, begun, positions, seed),
        length=length_points(answers),
        guard=guard_laws(answers),
        temperature=setup.temperature,
        max_tokens=setup.max_tokens,
        lengths=_quantiles([float(answer.tokens) for answer in answers], _LENGTHS),
    )


def _medians(timed: Sequence[Timed]) -> dict[int, float]:
    return {n: float(np.median([one.ms for one in timed if one.n == n])) for n in sorted({one.n for one in timed})}


def _weights(prompts: int, seed: int) -> Floats:
    """How much each prompt counts in each resample, (resamples, prompts); rows sum to 1."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=RESAMPLES) / prompts


def _correlation(sums: Floats) -> Floats:
    """(resamples, 3) of the sums of xy, xx and yy; NaN where one of them does not vary."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.clip(sums[:, 0] / np.sqrt(sums[:, 1] * sums[:, 2]), -1.0, 1.0)
    return found


def _quantiles(values: Sequence[float], most: int) -> list[float]:
    points = max(2, min(most, len(values)))
    return [_short(float(one)) for one in np.quantile(values, np.linspace(0, 1, points))]


def _short(value: float) -> float:
    """Six digits are more than is known of it, and the card stays small."""
    return float(f"{value:.6g}")
