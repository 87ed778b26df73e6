"""Several reward models as one: on one scale, all of them or none, each told by its name; summed, or with caution."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from scorers.calibration.calibrated import CalibratedScorer
from scorers.calibration.calibration import FORMAT, Calibration
from scorers.calibration.quantiles import law_of
from scorers.contract import Gives, Kind, Message, Score, ScoreRequest, ScorerInfo, ServedScorer
from scorers.ensemble import Ensemble, load
from scorers.errors import Overloaded
from scorers.loading import Loading, load_scorer
from scorers.model_path import LoadError
from scorers.scorer_settings import EnsembleConfig, RewardConfig
from scorers.settings import ScorerServerConfig
from tests.scorers.models import make_classifier, make_llama_classifier

FINITE = st.floats(-1e3, 1e3)
CAUTIOUS = ("worst", "uncertainty")

USER: Message = {"role": "user", "content": "What is the capital of France?"}
REQUEST = ScoreRequest("both", [USER], [{"content": "Paris."}, {"content": "Rome."}])


@dataclass
class Member:
    """Answers what it is told to; `together`, if any, is passed when all of its parties are being asked."""

    scores: Sequence[Score]
    name: str = "it"
    kind: Kind = "reward"
    gives: Gives = "value"
    max_tokens: int = 512
    relative: bool = False
    partial: bool = True
    vocabulary: str = ""
    together: asyncio.Barrier | None = None
    failure: Exception | None = None
    cancelled: bool = False
    asked: list[ScoreRequest] = field(default_factory=list)
    waiting: int = 0

    @property
    def info(self) -> ScorerInfo:
        return ScorerInfo(
            id=self.name,
            kind=self.kind,
            gives=self.gives,
            version=f"{self.name}@1",
            prompt_only=False,
            max_tokens=self.max_tokens,
            relative=self.relative,
            partial=self.partial,
            vocabulary=self.vocabulary,
        )

    async def score(self, request: ScoreRequest) -> list[Score]:
        self.asked.append(request)
        try:
            if self.together is not None:
                await self.together.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.failure is not None:
            raise self.failure
        return list(self.scores)

    async def close(self) -> None:
        raise AssertionError("a member is closed by whoever serves it")


def values(*numbers: float) -> list[Score]:
    return [Score(value=number, tokens=3) for number in numbers]


def calibrated(member: Member, rewards: Sequence[float]) -> CalibratedScorer:
    return CalibratedScorer(member, Calibration(FORMAT, "it@1", 0.0, reward=law_of(rewards)))


def configured(weights: dict[str, float], **settings: Any) -> EnsembleConfig:
    return EnsembleConfig.model_validate({"kind": "ensemble", "members": weights, "version": 4, **settings})


def ensemble(weights: dict[str, float], standardise: bool = False, **members: ServedScorer) -> Ensemble:
    config = configured(weights, standardise=standardise)
    scorer, _ = load("both", config, Loading(ScorerServerConfig(), loaded=members))
    return scorer


def combined(rewards: Sequence[Sequence[float]], weights: Sequence[float] = (), **settings: Any) -> list[float | None]:
    """What an ensemble makes of each member's rewards for the same candidates, on one scale already."""
    members: dict[str, ServedScorer] = {f"m{place}": Member(values(*own)) for place, own in enumerate(rewards)}
    config = configured(dict(zip(members, weights or [1.0] * len(members), strict=True)), standardise=False, **settings)
    scorer, _ = load("both", config, Loading(ScorerServerConfig(), loaded=members))
    request = ScoreRequest("both", [USER], [{"content": "x"}] * len(rewards[0]))
    return [score.value for score in asyncio.run(scorer.score(request))]


async def test_rewards_are_summed_by_weight_and_told_by_name() -> None:
    both = ensemble({"a": 2.0, "b": -0.5}, a=Member(values(1.0, 3.0)), b=Member(values(10.0, -4.0)))
    first, second = await both.score(REQUEST)
    assert first == Score(value=-3.0, parts={"a": 1.0, "b": 10.0}, tokens=6)
    assert second == Score(value=8.0, parts={"a": 3.0, "b": -4.0}, tokens=6)


async def test_rewards_are_put_on_one_scale_before_they_are_summed_and_told_raw() -> None:
    wide = calibrated(Member(values(10.0, 30.0)), [-10.0, 30.0])
    narrow = calibrated(Member(values(0.1, 0.0)), [-0.01, 0.03])
    both = ensemble({"wide": 1.0, "narrow": 1.0}, True, wide=wide, narrow=narrow)
    first, second = await both.score(REQUEST)
    deviation = math.sqrt(2)
    assert first.value == pytest.approx((0.1 - 0.01) / (0.02 * deviation))
    assert second.value == pytest.approx(20 / (20 * deviation) - 0.01 / (0.02 * deviation))
    assert first.parts == {"wide": 10.0, "narrow": 0.1}
    assert first.calibrated is None


@pytest.mark.parametrize("combine", ["weighted", *CAUTIOUS])
@given(st.lists(FINITE, min_size=2, max_size=8, unique=True), st.floats(0.01, 100), st.floats(-50, 50))
def test_the_scale_and_the_zero_of_a_member_change_nothing(
    combine: str, rewards: list[float], scale: float, shift: float
) -> None:
    if max(rewards) - min(rewards) < 1e-3:
        return
    plain = calibrated(Member(values(*rewards)), rewards)
    scaled = [scale * reward + shift for reward in rewards]
    moved = calibrated(Member(values(*scaled)), scaled)
    other = calibrated(Member(values(*reversed(rewards))), rewards)
    request = ScoreRequest("both", [USER], [{"content": "x"}] * len(rewards))
    config = configured({"one": 1.0, "other": 0.3 if combine == "weighted" else 1.0}, combine=combine)

    def scored_with(one: ServedScorer) -> list[float | None]:
        scorer, _ = load("both", config, Loading(ScorerServerConfig(), loaded={"one": one, "other": other}))
        return [score.value for score in asyncio.run(scorer.score(request))]

    assert scored_with(moved) == pytest.approx(scored_with(plain), abs=1e-4)


def test_the_worst_reward_and_the_mean_less_half_the_variance_by_hand() -> None:
    rewards = [[1.0, 4.0], [3.0, 4.0], [8.0, 4.0]]
    assert combined(rewards, combine="worst") == [1.0, 4.0]
    # Mean 4, squares 9 + 1 + 16: the variance is 26 / 3 with ddof 0, and 13 with the ddof 1 of the paper's PPO code.
    assert combined(rewards, combine="uncertainty") == pytest.approx([4 - 0.5 * 26 / 3, 4.0])
    assert combined(rewards, combine="uncertainty", penalty=1.0) == pytest.approx([4 - 26 / 3, 4.0])


@given(st.lists(st.tuples(FINITE, FINITE), min_size=2, max_size=6), st.floats(0, 10))
def test_caution_is_never_above_the_members(rewards: list[tuple[float, float]], penalty: float) -> None:
    candidates = list(zip(*rewards, strict=True))
    means = [math.fsum(of_one) / len(of_one) for of_one in candidates]
    assert combined(rewards, combine="worst") == [min(of_one) for of_one in candidates]
    assert combined(rewards, combine="uncertainty", penalty=0.0) == pytest.approx(means, abs=1e-9)
    for mean, cautious in zip(means, combined(rewards, combine="uncertainty", penalty=penalty), strict=True):
        assert cautious is not None
        assert cautious <= mean + 1e-9


@pytest.mark.parametrize("combine", ["weighted", *CAUTIOUS])
@given(st.permutations([[0.1, -2.5], [1e3, 0.3], [-7.0, 1 / 3], [0.7, 0.7]]))
def test_the_order_of_members_is_irrelevant(combine: str, rewards: list[list[float]]) -> None:
    assert combined(rewards, combine=combine) == combined(sorted(rewards), combine=combine)


@pytest.mark.parametrize("combine", ["weighted", *CAUTIOUS])
async def test_a_member_of_weight_0_is_asked_and_told_of_and_does_not_count(combine: str) -> None:
    floor = Member(values(-1e6, 3.0))  # without a calibration, which it does not need
    members: dict[str, ServedScorer] = {
        "a": calibrated(Member(values(1.0, 3.0)), [-1.0, 1.0]),
        "b": calibrated(Member(values(2.0, 1.0)), [-1.0, 1.0]),
    }
    request = ScoreRequest("both", [USER], [{"content": "x"}, {"content": "y"}])
    weights = {"a": 1.0, "b": 1.0}
    without, _ = load("both", configured(weights, combine=combine), Loading(ScorerServerConfig(), loaded=members))
    with_it, _ = load(
        "both",
        configured({"floor": 0.0, **weights}, combine=combine),
        Loading(ScorerServerConfig(), loaded={**members, "floor": floor}),
    )
    found = await with_it.score(request)
    assert [score.value for score in found] == [score.value for score in await without.score(request)]
    assert [score.parts for score in found] == [{"floor": -1e6, "a": 1.0, "b": 2.0}, {"floor": 3.0, "a": 3.0, "b": 1.0}]
    floor.scores = [Score(error="It is too long."), *values(1.0)]
    assert [score.error for score in await with_it.score(request)] == ["floor: It is too long.", None]


@pytest.mark.parametrize("combine", ["weighted", *CAUTIOUS])
@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
async def test_a_reward_that_is_no_finite_number_is_a_failure(combine: str, reward: float) -> None:
    broken = Member(values(reward, 2.0))
    config = configured({"a": 1.0, "b": 1.0}, combine=combine, standardise=False)
    scorer, _ = load("both", config, Loading(ScorerServerConfig(), loaded={"a": Member(values(1.0, 2.0)), "b": broken}))
    first, second = await scorer.score(REQUEST)
    assert (first.value, first.parts) == (None, {})
    assert f"b: Its reward is {reward}" in str(first.error)
    assert second.value is not None


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"combine": "worst", "members": {"a": 1, "b": 0.5}}, "members.b has the weight 0.5, and combine: worst knows"),
        ({"combine": "uncertainty", "members": {"a": 1, "b": -1}}, "members.b has the weight -1"),
        ({"combine": "worst", "members": {"a": 1, "b": 0}}, "at least two of them need the weight 1"),
        ({"combine": "worst", "penalty": 0.5}, "penalty is for combine: uncertainty, and this one is worst"),
        ({"penalty": 0}, "penalty is for combine: uncertainty, and this one is weighted"),
        ({"combine": "uncertainty", "penalty": -0.1}, "greater than or equal to 0"),
        ({"combine": "uncertainty", "penalty": math.inf}, "finite number"),
        ({"combine": "mean"}, "'weighted', 'worst' or 'uncertainty'"),
    ],
)
def test_settings_that_make_no_sense_together_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        configured(**{"weights": settings.pop("members", {"a": 1, "b": 1}), **settings})


def test_settings_survive_being_written_out_with_every_default() -> None:
    for combine in ("weighted", *CAUTIOUS):
        config = configured({"a": 1, "b": 1}, combine=combine)
        assert EnsembleConfig.model_validate(config.model_dump(mode="json")) == config


def mean_gold(n: int, shared: float, combine: str, trials: int = 300) -> float:
    """Mean gold of the best of n by four members that see it with heavy-tailed errors (reference/decoding.md, (d)).

    Gold is N(0, 1), an error 0.5 * Student's t of 1.5 degrees of freedom; `shared` is the share of it in common.
    """
    rng = np.random.default_rng(6)
    picked = []
    for _ in range(trials):
        gold = rng.standard_normal(n)
        own: NDArray[np.float64] = 0.5 * rng.standard_t(1.5, (4, n))
        rewards = gold + shared * 0.5 * rng.standard_t(1.5, n) + (1 - shared) * own
        found = combined(rewards.tolist(), combine=combine)
        picked.append(gold[int(np.argmax([value for value in found if value is not None]))])
    return float(np.mean(picked))


def test_independent_members_protect_from_what_one_errs_about_and_shared_errors_do_not() -> None:
    few, many = 16, 256
    # The reference's simulation: .92 and .22 for one model, 1.52 and 2.54 for the worst of four, .97 and .27 where
    # most of their error is shared. A mean's standard error is below 0.06 here.
    assert mean_gold(few, 0.0, "worst") == pytest.approx(1.52, abs=0.2)
    assert mean_gold(many, 0.0, "worst") == pytest.approx(2.54, abs=0.2)
    assert mean_gold(many, 0.9, "worst") < 0.7
    assert mean_gold(few, 0.9, "worst") > mean_gold(many, 0.9, "worst")
    assert mean_gold(many, 0.0, "uncertainty") > mean_gold(few, 0.0, "uncertainty") + 0.5
    assert mean_gold(many, 0.0, "weighted") < 1.0


async def test_a_candidate_that_one_member_cannot_score_has_no_score() -> None:
    failing = Member([Score(error="It is too long.", tokens=9), *values(1.0)])
    first, second = await ensemble({"a": 1.0, "b": 1.0}, a=Member(values(1.0, 2.0)), b=failing).score(REQUEST)
    assert first == Score(error="b: It is too long.", tokens=12)
    assert second.value == 3.0


async def test_what_no_member_can_read_is_unreadable() -> None:
    image = Member([Score(error="Only text can be read.", unreadable=True), *values(1.0)])
    first, _ = await ensemble({"a": 1.0, "b": 1.0}, a=image, b=Member(values(1.0, 2.0))).score(REQUEST)
    assert first.unreadable


async def test_a_sum_that_is_no_finite_number_is_no_score() -> None:
    both = ensemble({"a": 1e300, "b": 1.0}, a=Member(values(1e300, 1.0)), b=Member(values(1.0, 1.0)))
    first, second = await both.score(REQUEST)
    assert first.value is None
    assert "no finite number" in str(first.error)
    assert second.value is not None


@pytest.mark.parametrize(
    ("weights", "settings"),
    [([1e300, -1e300], {}), ([1.0, 1.0], {}), ([1.0, 1.0], {"combine": "uncertainty"})],
)
def test_members_that_leave_the_range_of_floats_give_no_score(weights: list[float], settings: dict[str, Any]) -> None:
    # inf - inf, a sum and a square that overflow: each raises in Python, and must not fail the other candidates.
    first, second = combined([[1.7e308, 1.0], [1.6e308, 1.0]], weights, **settings)
    assert first is None
    assert second is not None


async def test_members_are_asked_at_the_same_time_for_their_raw_rewards() -> None:
    together = asyncio.Barrier(2)
    a, b = (Member(values(1.0, 2.0), together=together) for _ in "ab")
    async with asyncio.timeout(10):
        await ensemble({"a": 1.0, "b": 1.0}, a=a, b=b).score(REQUEST)
    [request] = a.asked
    assert (request.model, request.messages, request.candidates, request.raw) == (
        "a", REQUEST.messages, REQUEST.candidates, True
    )  # fmt: skip


async def test_a_member_that_is_overloaded_fails_the_request_and_ends_the_others() -> None:
    waits = Member(values(1.0, 1.0), together=asyncio.Barrier(2))
    full = Member([], failure=Overloaded("No room."))
    with pytest.raises(Overloaded, match="No room"):
        await ensemble({"a": 1.0, "b": 1.0}, a=waits, b=full).score(REQUEST)
    assert waits.cancelled


async def test_it_says_what_its_members_can_do_together() -> None:
    a = Member(values(), max_tokens=512, vocabulary="one")
    b = Member(values(), max_tokens=100, vocabulary="one", partial=False)
    c = Member(values(), max_tokens=0, vocabulary="one")
    both = ensemble({"a": 1.0, "b": 1.0, "c": 1.0}, a=a, b=b, c=c)
    info = both.info
    assert (info.id, info.kind, info.gives, info.version) == ("both", "ensemble", "value", "both@4")
    assert (info.max_tokens, info.partial, info.steps, info.vocabulary) == (100, False, False, "one")
    c.vocabulary = "another"
    assert ensemble({"a": 1.0, "c": 1.0}, a=a, c=c).info.vocabulary == ""
    await both.close()
    assert both.waiting == 0


@pytest.mark.parametrize(
    ("weights", "standardise", "why"),
    [
        ({"a": 1.0, "x": 1.0}, False, "has the member x, which this server has not loaded; it has a, guard, judge"),
        ({"a": 1.0, "guard": 1.0}, False, "has the member guard, which guards"),
        ({"a": 1.0, "judge": 1.0}, False, "has the member judge, whose scores depend on the other candidates"),
        ({"a": 0.0, "plain": 0.0}, False, "All members of the ensemble both weigh 0"),
        ({"a": 1.0, "plain": 1.0}, True, "plain has no calibration of its rewards: measure it with `bestow calibrate`"),
    ],
)
def test_members_that_cannot_be_summed_are_refused(weights: dict[str, float], standardise: bool, why: str) -> None:
    members: dict[str, Any] = {
        "a": calibrated(Member(values()), [0.0, 1.0]),
        "guard": Member([], kind="safety", gives="categories"),
        "judge": Member([], kind="judge", relative=True),
        "plain": Member([]),
    }
    with pytest.raises(LoadError, match=why):
        ensemble(weights, standardise, **members)


def test_a_calibration_without_rewards_is_none() -> None:
    empty = CalibratedScorer(Member([]), Calibration(FORMAT, "it@1", 0.0))
    with pytest.raises(LoadError, match="a has no calibration of its rewards"):
        ensemble({"a": 1.0, "b": 1.0}, True, a=empty, b=empty)


async def test_two_models_of_different_architectures_make_one_reward(tmp_path: Path) -> None:
    loading = Loading(ScorerServerConfig())
    folders = {"qwen": make_classifier(tmp_path / "qwen"), "llama": make_llama_classifier(tmp_path / "llama")}
    members = {
        name: load_scorer(name, RewardConfig(kind="reward", model=str(folder)), loading)[0]
        for name, folder in folders.items()
    }
    config = EnsembleConfig(kind="ensemble", members={"qwen": 1.0, "llama": 2.0}, standardise=False)
    both, words = load_scorer("both", config, Loading(ScorerServerConfig(), loaded=members))
    assert words == "1 x qwen, 2 x llama"
    alone = [await members[name].score(REQUEST) for name in ("qwen", "llama")]
    for qwen, llama, score in zip(*alone, await both.score(REQUEST), strict=True):
        assert score.value == pytest.approx(qwen.value + 2 * llama.value, abs=1e-4)
        assert score.parts == pytest.approx({"qwen": qwen.value, "llama": llama.value}, abs=1e-4)
    for scorer in (both, *members.values()):
        await scorer.close()
