"""Several reward models as one: on one scale, all of them or none, each told by its name."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def ensemble(weights: dict[str, float], standardise: bool = False, **members: ServedScorer) -> Ensemble:
    config = EnsembleConfig(kind="ensemble", members=weights, standardise=standardise, version=4)
    scorer, _ = load("both", config, Loading(ScorerServerConfig(), loaded=members))
    return scorer


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


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8, unique=True), st.floats(0.01, 100), st.floats(-50, 50))
def test_the_scale_and_the_zero_of_a_member_change_nothing(rewards: list[float], scale: float, shift: float) -> None:
    if max(rewards) - min(rewards) < 1e-3:
        return
    plain = calibrated(Member(values(*rewards)), rewards)
    scaled = [scale * reward + shift for reward in rewards]
    moved = calibrated(Member(values(*scaled)), scaled)
    other = calibrated(Member(values(*reversed(rewards))), rewards)
    request = ScoreRequest("both", [USER], [{"content": "x"}] * len(rewards))
    weights = {"one": 1.0, "other": 0.3}
    expected = asyncio.run(ensemble(weights, True, one=plain, other=other).score(request))
    found = asyncio.run(ensemble(weights, True, one=moved, other=other).score(request))
    assert [score.value for score in found] == pytest.approx([score.value for score in expected], abs=1e-4)


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
