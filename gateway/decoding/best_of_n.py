"""Best-of-n: sample n candidates together, judge each as it finishes, deliver the best safe one.

Needs: a sampler, and a judge (reward model, safety classifier, either or both). Costs: n completions of one prefill,
n scores; the wall time of the slowest candidate plus one score, since scoring overlaps with decoding. Where the judge
prunes, or compares candidates with each other, its last scores come after the last candidate.
KL to the policy at most log n - (n-1)/n, win-rate n/(n+1) (Beirami et al. 2024, arXiv:2401.01879).

When no candidate is safe it samples another wave; what is still unsafe then is the caller's refusal. At the deadline
sampling stops and the judge answers with what it has (a verdict without a reward, say): it decides among those.
"""

import asyncio
from collections.abc import Awaitable, Callable

from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.shortfall import degraded_by, explain
from gateway.decoding.strategy import Decision, Judge, Progress, Sampler, Strategy, Task
from gateway.errors import ApiError

# A judge ends at the deadline by itself; one that does not is cut off this much later.
JUDGE_GRACE_S = 0.25

# How a wave is sampled and judged: see `sample_wave`.
Wave = Callable[[Task, int, int, Sampler, Judge, Progress], Awaitable[ApiError | None]]


async def best_of_n(
    task: Task, sampler: Sampler, judge: Judge, progress: Progress, first_wave: Wave | None = None
) -> Decision:
    """Decide one request. first_wave: how that is sampled, where it is another way than the others are.

    Raises GuardUnavailable where candidates could not be judged for safety and none else is safe, the sampler's
    ApiError where nothing could be sampled, DeadlineExceeded where nothing was judged in time.
    """
    loop = asyncio.get_running_loop()
    failure: ApiError | None = None
    skipped = False
    try:
        async with asyncio.timeout_at(task.deadline + JUDGE_GRACE_S):
            for wave in range(1 + task.resample):
                n = task.affordable(task.n, sampler.sampled_tokens)
                if wave and not n:
                    break
                sampled = sample_wave if wave or first_wave is None else first_wave
                failure = await sampled(task, max(n, 1), wave, sampler, judge, progress)
                if failure or any(one.safe(task.unjudged_passes) or one.unjudged for one in progress.judged):
                    break
                if loop.time() >= task.deadline:
                    break
            progress.judged.sort(key=lambda one: one.candidate.index)
            settled = await judge.settle(progress.judged)
            progress.judged[:], skipped = settled.judged, settled.skipped
    except TimeoutError:
        pass
    timed_out = loop.time() >= task.deadline

    judged = tuple(sorted(progress.judged, key=lambda one: one.candidate.index))
    ranking = task.chooser.rank(judged, unjudged_passes=task.unjudged_passes)
    if not ranking.order:
        explain(judged, failure, timed_out=timed_out)
    return Decision(
        judged=judged,
        order=ranking.order,
        outcomes=ranking.outcomes,
        degraded=degraded_by(judged, ranking.order, timed_out=timed_out, skipped=skipped, lost=failure is not None),
        scoring_tail_s=loop.time() - (progress.last_candidate_s or loop.time()),
    )


async def sample_wave(
    task: Task, n: int, wave: int, sampler: Sampler, judge: Judge, progress: Progress
) -> ApiError | None:
    """Sample and judge n candidates into `progress`. Returns why the sampler stopped early, or None."""
    failure: ApiError | None = None
    async with asyncio.TaskGroup() as scoring:
        candidates = sampler.sample(n, wave)
        try:
            async with asyncio.timeout_at(task.deadline):
                async for candidate in candidates:
                    progress.finished(candidate)
                    scoring.create_task(_judge_into(progress.judged, judge, candidate))
        except ApiError as error:
            failure = error
        except TimeoutError:
            pass
        finally:
            await candidates.aclose()
    return failure


async def _judge_into(judged: list[Judged], judge: Judge, candidate: Candidate) -> None:
    judged.extend(await judge.judge([candidate]))


STRATEGY = Strategy(
    name="best_of_n",
    about="Samples n candidates together and delivers the best safe one.",
    run=best_of_n,
)
