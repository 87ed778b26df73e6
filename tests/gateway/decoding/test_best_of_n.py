import asyncio
from dataclasses import replace

import pytest

from gateway.decoding.best_of_n import best_of_n
from gateway.decoding.strategy import Decision, Progress, Settled, Task
from gateway.errors import DeadlineExceeded, GuardUnavailable, WorkerError
from tests.gateway.decoding.judged import judged
from tests.gateway.decoding.scripted import ScriptedJudge, ScriptedSampler


async def decide(
    sampler: ScriptedSampler, judge: ScriptedJudge, *, n: int = 4, resample: int = 1, seconds: float = 5.0
) -> Decision:
    deadline = asyncio.get_running_loop().time() + seconds
    return await best_of_n(Task(n, resample, deadline, unjudged_passes=False), sampler, judge, Progress())


async def test_the_best_safe_candidate_is_first() -> None:
    judge = ScriptedJudge(lambda i: judged(i, float(i), flagged=i == 3))
    decision = await decide(ScriptedSampler(), judge)
    assert decision.order == (2, 1, 0)
    assert decision.degraded is None
    assert len(decision.judged) == 4


async def test_candidates_are_judged_while_others_still_decode() -> None:
    sampler = ScriptedSampler(pause_s=0.02)
    judge = ScriptedJudge(lambda i: judged(i, float(i)))
    decision = await decide(sampler, judge)
    last_finished = judge.begun_s[-1]
    assert all(begun < last_finished for begun in judge.begun_s[:-1])
    assert len(judge.begun_s) == 4
    assert decision.order[0] == 3


async def test_another_wave_is_sampled_when_none_is_safe() -> None:
    sampler = ScriptedSampler()
    decision = await decide(sampler, ScriptedJudge(lambda i: judged(i, float(i), flagged=i < 4)))
    assert sampler.waves == [4, 4]
    assert decision.order[0] == 7
    assert len(decision.judged) == 8


async def test_when_no_wave_has_a_safe_one_the_order_is_empty() -> None:
    sampler = ScriptedSampler()
    decision = await decide(sampler, ScriptedJudge(lambda i: judged(i, 1.0, flagged=True)))
    assert sampler.waves == [4, 4]
    assert decision.order == ()


async def test_without_any_guard_answer_nothing_is_delivered_and_nothing_refused() -> None:
    with pytest.raises(GuardUnavailable):
        await decide(ScriptedSampler(), ScriptedJudge(lambda i: judged(i, 1.0, unjudged=True)))


async def test_a_candidate_the_guard_could_not_judge_is_passed_over() -> None:
    decision = await decide(ScriptedSampler(), ScriptedJudge(lambda i: judged(i, float(i), unjudged=i == 3)))
    assert decision.order[0] == 2
    assert decision.degraded == "guard_partial"


async def test_no_reward_at_all_delivers_the_first_finished_and_says_so() -> None:
    judge = ScriptedJudge(lambda i: judged(i, None, finished_s=10.0 - i))
    decision = await decide(ScriptedSampler(), judge)
    assert decision.order[0] == 3
    assert decision.degraded == "reward_unavailable"


async def test_some_rewards_missing_is_said() -> None:
    decision = await decide(ScriptedSampler(), ScriptedJudge(lambda i: judged(i, None if i else 1.0)))
    assert decision.order[0] == 0
    assert decision.degraded == "reward_partial"


async def test_survivors_are_delivered_when_the_worker_breaks_off() -> None:
    sampler = ScriptedSampler(failure=WorkerError("gone"), fail_after=2)
    decision = await decide(sampler, ScriptedJudge(lambda i: judged(i, float(i))))
    assert decision.order == (1, 0)
    assert decision.degraded == "worker_partial"


async def test_nothing_sampled_is_the_workers_error() -> None:
    with pytest.raises(WorkerError, match="gone"):
        await decide(ScriptedSampler(failure=WorkerError("gone")), ScriptedJudge(lambda i: judged(i, 1.0)))


async def test_at_the_deadline_the_best_so_far_is_delivered() -> None:
    sampler = ScriptedSampler(pause_s=0.2)
    decision = await decide(sampler, ScriptedJudge(lambda i: judged(i, float(i))), n=100, seconds=0.5)
    assert decision.degraded == "deadline"
    assert 1 <= len(decision.judged) < 100
    assert sampler.closed == 1


async def test_a_deadline_before_any_candidate_is_a_504() -> None:
    with pytest.raises(DeadlineExceeded):
        await decide(ScriptedSampler(pause_s=5.0), ScriptedJudge(lambda i: judged(i, 1.0)), seconds=0.05)


async def test_a_judge_that_is_late_is_cut_off_and_those_judged_in_time_decide() -> None:
    slow = ScriptedJudge(lambda i: judged(i, float(i)))
    slow.delay_of = lambda index: 0.0 if index == 1 else 60.0
    decision = await decide(ScriptedSampler(), slow, seconds=0.1)
    assert [one.candidate.index for one in decision.judged] == [1]
    assert decision.degraded == "deadline"


async def test_a_candidate_that_breaks_the_form_loses_to_one_that_keeps_it() -> None:
    judge = ScriptedJudge(lambda i: judged(i, float(i), broken=None if i == 1 else "no JSON"))
    decision = await decide(ScriptedSampler(), judge)
    assert decision.order == (1, 3, 2, 0)
    assert decision.degraded is None


async def test_when_all_break_the_form_the_best_is_delivered_and_it_is_said() -> None:
    decision = await decide(ScriptedSampler(), ScriptedJudge(lambda i: judged(i, float(i), broken="no JSON")))
    assert decision.order[0] == 3
    assert decision.degraded == "format_broken"


async def test_the_judge_settles_once_on_the_candidates_of_all_waves_together() -> None:
    judge = ScriptedJudge(lambda i: judged(i, None, flagged=i < 4))
    judge.settles = lambda all_of_them: Settled(tuple(replace(one, reward=1.0) for one in all_of_them), skipped=True)
    decision = await decide(ScriptedSampler(), judge)
    assert judge.settled == list(range(8))
    assert [one.reward for one in decision.judged] == [1.0] * 8
    assert decision.order[0] == 4


async def test_a_prune_stage_that_gave_no_score_is_said() -> None:
    judge = ScriptedJudge(lambda i: judged(i, 1.0), settles=lambda found: Settled(tuple(found), skipped=True))
    assert (await decide(ScriptedSampler(), judge)).degraded == "prune_unavailable"


async def test_what_was_pruned_is_no_missing_reward() -> None:
    pruned = ScriptedJudge(lambda i: replace(judged(i, 1.0 if i else None), reward_error=None))
    assert (await decide(ScriptedSampler(), pruned)).degraded is None


async def test_a_judge_that_is_late_to_settle_is_cut_off_and_what_it_said_before_decides() -> None:
    judge = ScriptedJudge(lambda i: judged(i, float(i)), settle_s=60.0)
    decision = await decide(ScriptedSampler(), judge, seconds=0.1)
    assert decision.order[0] == 3
    assert decision.degraded == "deadline"


async def test_cancelling_closes_the_sampler() -> None:
    sampler = ScriptedSampler(pause_s=5.0)
    task = asyncio.create_task(decide(sampler, ScriptedJudge(lambda i: judged(i, 1.0))))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sampler.closed == 1
