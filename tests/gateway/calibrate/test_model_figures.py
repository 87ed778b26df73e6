"""A model card's figures on synthetic prompts whose law is known, and on a few that can be counted by hand."""

import math

import msgspec
import numpy as np
import pytest

from gateway.calibrate.figures import (
    LEAST_BEGUN,
    card_of,
    correlation_within,
    curve,
    deviation_within,
    guard_laws,
    length_points,
    partial_points,
    positions_for,
)
from gateway.calibrate.measured import Answer, Begun, Sampled, Setup, Timed
from gateway.control.card_changes import check_card
from gateway.decoding.card import ModelCard
from gateway.decoding.laws.halving import expected_maximum
from gateway.errors import StartError

SETUP = Setup("m", "policy@1", "reward@1", "safety@1", 1.0, 96, 16, {"": 0.5})


def normal(prompts: int, answers: int, scale: float, seed: int = 1) -> list[list[float]]:
    """Rewards with a mean of their own for each prompt, far more apart than within."""
    rng = np.random.default_rng(seed)
    rewards = rng.normal(0, 5, (prompts, 1)) + scale * rng.normal(size=(prompts, answers))
    return [[float(one) for one in row] for row in rewards]


def sampled(rewards: list[list[float]], tokens: int = 40) -> list[Sampled]:
    return [
        Sampled(SETUP.print, str(index), [Answer(tokens, reward) for reward in one])
        for index, one in enumerate(rewards)
    ]


def test_the_gain_of_the_best_of_n_is_that_of_normal_rewards() -> None:
    """Drawing n of the 16 with replacement would give 0.8 * 1.6 at 16, off by nine errors."""
    found = curve(normal(600, 16, 0.8), seed=0)
    assert list(found) == [1, 2, 3, 4, 6, 8, 12, 16]
    for n, (_, gain) in found.items():
        error = (gain.high - gain.low) / (2 * 1.96)
        assert abs(gain.value - 0.8 * expected_maximum(n)) <= 5 * error + 1e-12, n
        # Between-prompt deviation, 5, is in the reward's interval and not in the gain's.
        assert error < 0.03
    reward, _ = found[16]
    assert (reward.high - reward.low) / (2 * 1.96) == pytest.approx(5 / math.sqrt(600), rel=0.1)


def test_the_curve_is_the_mean_over_all_subsets_of_each_prompt() -> None:
    found = {n: reward.value for n, (reward, _) in curve([[3.0, 1.0, 2.0], [10.0, 13.0, 10.0]], seed=0).items()}
    assert found == pytest.approx({1: (2 + 11) / 2, 2: (8 / 3 + 12) / 2, 3: 8.0})


def test_prompts_with_too_few_answers_count_at_no_n() -> None:
    """Else another set of prompts would make up each point, and the curve could fall."""
    rewards = [[0.0, 1.0, 0.0, 1.0]] * 19
    found = curve([*rewards, [100.0]], seed=0)
    assert list(found) == [1, 2, 3, 4] and found[1][0].value == pytest.approx(0.5)


def test_the_deviation_is_pooled_within_prompts() -> None:
    deviation, residuals = deviation_within([[1.0, 3.0], [10.0, 10.0, 13.0], [7.0]])
    assert deviation == pytest.approx(math.sqrt((2 + 6) / (1 + 2)))
    assert [one * deviation for one in residuals] == pytest.approx([-1, 1, -1, -1, 2])
    with pytest.raises(StartError, match="two answers"):
        deviation_within([[1.0], [2.0]])
    with pytest.raises(StartError, match="the same reward"):
        deviation_within([[1.0, 1.0], [2.0, 2.0]])


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8])
def test_the_correlation_is_that_within_prompts_whatever_is_between_them(rho: float) -> None:
    """Without taking each prompt's mean out it would be near -1 here."""
    rng = np.random.default_rng(3)
    pairs = []
    for level in rng.normal(0, 20, 300):
        final = rng.normal(size=8)
        partial = rho * final + math.sqrt(1 - rho**2) * rng.normal(size=8)
        pairs.append(((partial - level).tolist(), (final + level).tolist()))
    found = correlation_within(pairs, seed=0)
    assert found is not None
    error = (1 - rho**2) / math.sqrt(300 * 7)
    assert abs(found.value - rho) < 5 * error
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(error, rel=0.15)


def test_a_correlation_that_is_not_defined_is_none() -> None:
    assert correlation_within([([1.0, 1.0], [0.0, 1.0])], seed=0) is None
    assert correlation_within([], seed=0) is None
    found = correlation_within([([1.0, 2.0], [5.0, 9.0]), ([0.0, 4.0], [-1.0, 15.0])], seed=0)
    assert found is not None and (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_only_answers_that_go_on_count_at_a_position() -> None:
    """Answers of 5 and of 50 tokens; what has ended is told from what goes on by its rewards."""
    rng = np.random.default_rng(4)
    prompts, begun = [], []
    for index in range(LEAST_BEGUN):
        rewards = rng.normal(size=4).tolist()
        lengths = [5, 5, 50, 50]
        prompts.append(Sampled(SETUP.print, str(index), [Answer(*one) for one in zip(lengths, rewards, strict=True)]))
        late = [None, None, *rewards[2:]]
        begun.append(Begun(SETUP.print, str(index), [2, 10], [[-one for one in rewards], late]))
    found = partial_points({one.prompt: one for one in prompts}, begun, [2, 10], seed=0)
    assert [(one.tokens, one.answers, round(one.correlation, 9)) for one in found] == [
        (2, 4 * LEAST_BEGUN, -1.0),
        (10, 2 * LEAST_BEGUN, 1.0),
    ]
    assert partial_points({"0": prompts[0]}, begun[:1], [2, 10], seed=0) == []
    # 1/16 to all of the mean, 27.5, where enough go on.
    assert positions_for(prompts) == [2, 3, 7, 10, 14, 21, 28]
    assert positions_for(prompts[:3]) == []


def test_a_reward_that_grows_with_length_has_that_slope() -> None:
    rng = np.random.default_rng(5)
    answers = [Answer(tokens, 2 - 0.05 * tokens) for tokens in rng.integers(5, 200, 300).tolist()]
    found = length_points(answers)
    assert len(found) > 10 and [one.tokens for one in found] == sorted({one.tokens for one in found})
    assert [one.reward for one in found] == pytest.approx([2 - 0.05 * one.tokens for one in found], abs=1e-5)
    assert length_points([Answer(7, 1.0), Answer(7, 2.0)]) == []


def test_the_guards_law_is_of_the_answers_that_it_judged() -> None:
    answers = [
        Answer(1, 0.0, {"weapons": one / 10, "fraud": 0.5}, ["weapons"] if one == 10 else []) for one in range(11)
    ]
    found = guard_laws([*answers, Answer(1, 0.0)])
    assert found["weapons"].quantiles == pytest.approx([one / 10 for one in range(11)])
    assert (found["weapons"].flagged, found["fraud"].flagged) == (1 / 11, 0.0)


def test_a_whole_card_is_one_that_the_gateways_take() -> None:
    rewards = normal(30, 16, 0.8)
    timed = [Timed(SETUP.print, "0", n, again, 10.0 * n + again) for n in (1, 16) for again in range(3)]
    refused = Sampled(SETUP.print, "refused", [])
    card = card_of(SETUP, [*sampled(rewards), refused], [], [], timed, created=7.0)
    check_card(card)
    assert (card.model, card.policy, card.reward_model) == ("m", "policy@1", "reward@1")
    assert (card.prompts, card.answers, card.mean_tokens, card.created) == (30, 480, 40.0, 7.0)
    assert [(one.n, one.latency_ms) for one in card.curve if one.latency_ms] == [(1, 11.0), (16, 161.0)]
    assert card.curve[-1].tokens == 640 and len(card.residuals) == 257 and card.lengths[0] == card.lengths[-1] == 40
    assert card.deviation == pytest.approx(0.8, rel=0.15)
    encoded = msgspec.json.encode(card)
    assert msgspec.json.decode(encoded, type=ModelCard) == card and len(encoded) < 65_536


def test_too_little_for_a_card_is_said() -> None:
    with pytest.raises(StartError, match="1 prompts with answers are too few"):
        card_of(SETUP, [*sampled([[1.0, 2.0]]), Sampled(SETUP.print, "refused", [])], [], [], [], created=0.0)
