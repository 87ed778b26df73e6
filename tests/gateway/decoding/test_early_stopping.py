import asyncio
import math
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.early_stopping import EarlyStoppingOptions, early_stopping
from gateway.decoding.laws import pandora
from gateway.decoding.laws.best_of_n import kl
from gateway.decoding.reward_laws import RewardLaw
from gateway.decoding.selection.chooser import Chooser
from gateway.decoding.selection.settings import SelectionConfig
from gateway.decoding.strategy import Decision, Progress, Settled, Task
from gateway.errors import DeadlineExceeded, GuardUnavailable, WorkerError
from tests.gateway.decoding.judged import judged
from tests.gateway.decoding.scripted import ScriptedJudge, ScriptedSampler

# A scripted candidate has two tokens.
TOKENS = 2


def priced(a_sample: float, **options: Any) -> EarlyStoppingOptions:
    """A price of so many deviations for each candidate."""
    return EarlyStoppingOptions(price=a_sample * 1000 / TOKENS, **options)


async def decide(
    options: EarlyStoppingOptions,
    verdict: Callable[[int], Judged] | Sequence[float],
    *,
    n: int = 16,
    sampler: ScriptedSampler | None = None,
    seconds: float = 30.0,
    resample: int = 1,
    **task: Any,
) -> tuple[Decision, list[int]]:
    """The decision, and the waves that were sampled for it. verdict: of candidate i, or its reward."""
    say = verdict if callable(verdict) else lambda i: judged(i, verdict[i], text=str(i))
    sampler = sampler or ScriptedSampler()
    deadline = asyncio.get_running_loop().time() + seconds
    asked = Task(n, resample, deadline, unjudged_passes=False, options=options, **task)
    return await early_stopping(asked, sampler, ScriptedJudge(say), Progress()), sampler.waves


async def test_by_threshold_it_stops_at_the_first_wave_that_has_one_good_enough() -> None:
    rewards = [0.1, 0.5, 0.2, 0.0, 0.4, 0.95, 0.3, 0.9, *[2.0] * 8]
    decision, waves = await decide(EarlyStoppingOptions(threshold=0.9), rewards)
    assert waves == [4, 4]
    assert decision.order[0] == 5
    assert (decision.degraded, decision.instead) == (None, None)


async def test_where_none_is_good_enough_it_samples_n_and_delivers_the_best() -> None:
    decision, waves = await decide(EarlyStoppingOptions(threshold=100.0), [*range(16)])
    assert waves == [4, 4, 4, 4]
    assert decision.order[0] == 15
    assert decision.degraded is None


async def test_pandoras_rule_draws_and_nets_what_its_closed_form_says_and_beats_every_fixed_n() -> None:
    rng, price, requests = random.Random(7), 0.005, 1200
    tau = pandora.uniform(price)
    options = EarlyStoppingOptions(threshold=tau, first=1, wave=1)
    draws, nets = [], []
    for _ in range(requests):
        rewards = [rng.random() for _ in range(128)]
        decision, _ = await decide(options, rewards, n=128)
        draws.append(len(decision.judged))
        nets.append(rewards[decision.order[0]] - price * len(decision.judged))
    expected = pandora.expected_draws(1 - tau)
    assert expected == pytest.approx(10.0)
    # Geometric: a deviation of sqrt(1 - p) / p = 9.5 a request. One wave too many would be 11.
    assert fmean(draws) == pytest.approx(expected, abs=5 * 9.5 / math.sqrt(requests) * 0.7)
    assert fmean(nets) == pytest.approx(tau, abs=5 * 0.056 / math.sqrt(requests))
    best_fixed = max(n / (n + 1) - price * n for n in range(1, 129))
    assert best_fixed == pytest.approx(0.864, abs=0.001)
    assert fmean(nets) > best_fixed + 0.02


async def test_with_a_learnt_law_it_nets_more_than_any_fixed_n_and_near_what_full_knowledge_would() -> None:
    rng, law, price, requests = random.Random(11), RewardLaw(), 0.05, 1000

    async def request(options: EarlyStoppingOptions) -> float:
        prompt = rng.gauss(0, 5)
        rewards = [rng.gauss(prompt, 2.0) for _ in range(32)]
        decision, _ = await decide(options, rewards, n=32, law=law)
        return (rewards[decision.order[0]] - prompt) / 2.0 - price * len(decision.judged)

    nets = [await request(priced(price, first=4, wave=1)) for _ in range(requests)]
    # In deviations: m_n - price n is at most 1.039 (n = 10), tau is 1.256 where law and means are known. A request's
    # net is off by 0.4, so five standard errors are 0.06; all 32 would net 0.47, the four of the first wave 0.83.
    assert 1.06 < fmean(nets) < 1.25


async def test_a_free_sample_is_taken_up_to_n() -> None:
    _, waves = await decide(priced(0.0), [*range(16)], n=16)
    assert waves == [4, 4, 4, 4]


async def test_at_a_price_beyond_all_gain_there_is_one_wave() -> None:
    _, waves = await decide(priced(50.0), [*range(16)])
    assert waves == [4]


async def test_a_higher_price_never_samples_more() -> None:
    rng = random.Random(3)
    for _ in range(60):
        rewards = [rng.gauss(0, 1) for _ in range(16)]
        counts = [sum((await decide(priced(price), rewards))[1]) for price in (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)]
        assert counts == sorted(counts, reverse=True)
        assert counts[0] == 16


async def test_affine_rewards_change_nothing() -> None:
    rng = random.Random(4)
    seen = set()
    for _ in range(60):
        rewards = [rng.gauss(0, 1) for _ in range(16)]
        plain, waves = await decide(priced(0.05), rewards)
        moved, moved_waves = await decide(priced(0.05), [100 + 30 * reward for reward in rewards])
        assert (waves, plain.order) == (moved_waves, moved.order)
        seen.add(len(waves))
    assert len(seen) > 1


async def test_the_order_of_a_waves_candidates_changes_nothing_about_when_it_stops() -> None:
    rng = random.Random(5)
    for _ in range(40):
        rewards = [rng.gauss(0, 1) for _ in range(16)]
        shuffled = [*rng.sample(rewards[:4], 4), *rewards[4:]]
        assert (await decide(priced(0.05), rewards))[1] == (await decide(priced(0.05), shuffled))[1]


async def test_a_longer_answer_costs_more() -> None:
    rewards = [0.0, 1.0, 0.5, -1.0, *[0.0] * 12]

    def of_tokens(tokens: int) -> Callable[[int], Judged]:
        def say(i: int) -> Judged:
            one = judged(i, rewards[i], text=str(i))
            return replace(one, candidate=replace(one.candidate, completion_tokens=tokens))

        return say

    options = EarlyStoppingOptions(price=0.2)
    assert len((await decide(options, of_tokens(10)))[1]) > len((await decide(options, of_tokens(10_000)))[1]) == 1


async def test_equal_rewards_promise_no_gain() -> None:
    _, waves = await decide(priced(0.01), [3.0] * 16)
    assert waves == [4]


async def test_the_first_wave_and_no_other_teaches_the_law() -> None:
    law = RewardLaw()
    _, waves = await decide(priced(0.0), [0.0, 2.0, 0.0, 2.0, *[1000.0 * i for i in range(12)]], law=law)
    assert len(waves) == 4
    assert law.deviation == pytest.approx(math.sqrt(4 / 3))


async def test_unsafe_broken_and_low_ones_are_never_good_enough() -> None:
    chooser = Chooser(SelectionConfig.model_validate({"floor": {"part": "safety", "least": 0.0}}))
    for verdict in (
        lambda i: judged(i, 5.0 if i == 0 else 0.0, flagged=i == 0),
        lambda i: judged(i, 5.0 if i == 0 else 0.0, unjudged=i == 0),
        lambda i: judged(i, 5.0 if i == 0 else 0.0, broken="no JSON" if i == 0 else None),
    ):
        _, waves = await decide(EarlyStoppingOptions(threshold=1.0), verdict)
        assert waves == [4, 4, 4, 4]
    # Without the floor's part there is no value to compare.
    _, waves = await decide(EarlyStoppingOptions(threshold=1.0), lambda i: judged(i, 5.0), chooser=chooser)
    assert waves == [4, 4, 4, 4]


async def test_samples_that_may_not_be_delivered_make_the_others_dearer() -> None:
    def known() -> RewardLaw:
        law, rng = RewardLaw(), random.Random(6)
        law.learn([rng.gauss(0, 1) for _ in range(4000)])
        return law

    rewards = [-1.0, 0.0, 0.0, 1.2]
    # At which price the best of them is just good enough; four of eight flagged, it counts 9/5 times as much.
    even = next(price for price in (i / 1000 for i in range(1, 1000)) if known().reservation(rewards, price, 8) < 1.2)
    options = priced(even / 1.35, first=4, wave=8)
    safe = {i: judged(i, rewards[i % 4], text=str(i)) for i in range(16)}
    assert (await decide(options, safe.__getitem__, law=known()))[1][:2] == [4, 8]
    options = priced(even / 1.35, first=8)
    mixed = {i: judged(i, rewards[i % 4], text=str(i), flagged=i >= 4) for i in range(16)}
    assert (await decide(options, mixed.__getitem__, law=known()))[1] == [8]


async def test_while_all_are_unsafe_it_goes_on_and_samples_again_as_best_of_n_does() -> None:
    decision, waves = await decide(EarlyStoppingOptions(threshold=0.0), lambda i: judged(i, 9.0, flagged=True))
    assert waves == [4, 4, 4, 4, 16]
    assert decision.order == ()
    assert decision.outcomes.refusal == 1.0
    decision, waves = await decide(EarlyStoppingOptions(threshold=0.0), lambda i: judged(i, 9.0, flagged=i < 6))
    assert waves == [4, 4]
    assert decision.order == (6, 7)


async def test_a_guard_that_never_answers_is_no_refusal() -> None:
    with pytest.raises(GuardUnavailable):
        await decide(EarlyStoppingOptions(threshold=0.0), lambda i: judged(i, 9.0, unjudged=True))


async def test_failed_scores_count_for_nothing_and_those_there_are_decide() -> None:
    decision, waves = await decide(
        EarlyStoppingOptions(threshold=1.0), lambda i: judged(i, None if i % 2 == 0 else float(i > 4))
    )
    assert waves == [4, 4]
    assert decision.order[0] == 5
    assert decision.degraded == "reward_partial"


async def test_where_the_reward_model_says_nothing_no_more_are_sampled() -> None:
    decision, waves = await decide(priced(0.0), lambda i: judged(i, None, finished_s=9.0 - i))
    assert waves == [4]
    assert decision.order[0] == 3
    assert decision.degraded == "reward_unavailable"
    assert decision.outcomes.fallback == 1.0


async def test_rewards_that_come_at_the_end_make_it_best_of_n_and_it_says_so() -> None:
    sampler = ScriptedSampler()
    judge = ScriptedJudge(lambda i: replace(judged(i, None, text=str(i)), reward_error=None))
    judge.settles = lambda all_of_them: Settled(
        tuple(replace(one, reward=float(one.candidate.index)) for one in all_of_them)
    )
    deadline = asyncio.get_running_loop().time() + 30
    task = Task(16, 1, deadline, unjudged_passes=False, options=EarlyStoppingOptions(threshold=0.0))
    decision = await early_stopping(task, sampler, judge, Progress())
    assert sampler.waves == [4, 12]
    assert (decision.instead, decision.because, decision.order[0]) == ("best_of_n", "late_rewards", 15)


async def test_the_token_limit_is_honoured_as_if_each_were_as_long_as_it_may_be() -> None:
    options = priced(0.0)
    decision, waves = await decide(options, [*range(16)], max_tokens=4, token_limit=24)
    # Four cost 8 of 24 tokens; of the 16 left four more may take 4 each; then there are 8 left for two more; and so on.
    assert waves == [4, 4, 2, 1]
    assert decision.degraded is None
    _, waves = await decide(options, [*range(16)], max_tokens=4, token_limit=3)
    assert waves == [1]


@dataclass
class SlowSampler(ScriptedSampler):
    """Each wave takes so long by the event loop's clock, and no time at all."""

    wave_s: float = 10.0

    async def sample(self, n: int, wave: int) -> AsyncGenerator[Candidate, None]:
        loop = asyncio.get_running_loop()
        before = loop.time
        loop.time = lambda: before() + self.wave_s  # type: ignore[method-assign]
        async for one in super().sample(n, wave):
            yield one


async def test_no_wave_begins_that_could_not_end_in_time_and_that_is_no_shortfall() -> None:
    decision, waves = await decide(priced(0.0), [*range(16)], sampler=SlowSampler(), seconds=35.0)
    assert waves == [4, 4, 4]
    assert decision.order[0] == 11
    assert decision.degraded is None


async def test_where_nothing_is_safe_yet_a_wave_is_tried_though_it_may_come_too_late() -> None:
    sampler = SlowSampler()
    with pytest.raises(DeadlineExceeded):
        await decide(priced(0.0), lambda i: judged(i, 1.0, flagged=True), sampler=sampler, seconds=25.0)
    assert sampler.waves == [4, 4, 4]


async def test_a_deadline_within_a_wave_delivers_the_best_so_far() -> None:
    decision, _ = await decide(priced(0.0), [*range(100)], n=100, sampler=ScriptedSampler(pause_s=0.2), seconds=0.5)
    assert decision.degraded == "deadline"
    assert 1 <= len(decision.judged) < 25


async def test_what_a_lost_worker_left_is_delivered() -> None:
    sampler = ScriptedSampler(failure=WorkerError("gone"), fail_after=2)
    decision, waves = await decide(priced(0.0), [*range(16)], sampler=sampler)
    assert waves == [4]
    assert (decision.order, decision.degraded) == ((1, 0), "worker_partial")
    with pytest.raises(WorkerError, match="gone"):
        await decide(priced(0.0), [*range(16)], sampler=ScriptedSampler(failure=WorkerError("gone")))


async def test_as_many_as_are_wanted_are_sampled_however_good_the_first_are() -> None:
    _, waves = await decide(EarlyStoppingOptions(threshold=0.0, first=2, wave=1), [9.0] * 16, deliver=5)
    assert waves == [5]
    verdict: Callable[[int], Judged] = lambda i: judged(i, 9.0, flagged=i == 0)  # noqa: E731
    _, waves = await decide(EarlyStoppingOptions(threshold=0.0, first=2, wave=1), verdict, deliver=5)
    assert waves == [5, 1]


async def test_the_bound_is_that_of_a_choice_among_all_that_could_have_been() -> None:
    decision, _ = await decide(EarlyStoppingOptions(threshold=0.0), [1.0] * 16)
    # A choice among the four that were sampled would be kl(4) = 0.64; stopping by the reward is a choice as well.
    assert decision.outcomes.kl_bound == pytest.approx(math.log(16) - 15 / 16)
    decision, _ = await decide(EarlyStoppingOptions(threshold=0.0, first=16), [*range(16)])
    assert decision.outcomes.kl_bound == pytest.approx(kl(16))


async def test_a_rule_that_draws_draws_among_all_that_was_sampled() -> None:
    chooser = Chooser(SelectionConfig(rule="soft", temperature=1.0), rng=random.Random(0))
    decision, _ = await decide(EarlyStoppingOptions(threshold=3.0), [*range(16)], chooser=chooser)
    chances = decision.outcomes.candidates
    assert len(chances) == 4
    assert sum(chances) == pytest.approx(1.0)
    assert min(chances) > 0
    entropy = -sum(chance * math.log(chance) for chance in chances)
    assert decision.outcomes.kl_bound == pytest.approx(math.log(16) - entropy)


@pytest.mark.parametrize("options", [{}, {"threshold": 1.0, "price": 1.0}])
def test_there_is_one_rule(options: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="by threshold or by price: give one of them"):
        EarlyStoppingOptions.model_validate(options)


def test_a_price_is_no_gift() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        EarlyStoppingOptions(price=-1.0)
