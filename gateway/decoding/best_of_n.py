"""Best-of-n: sample n candidates together, judge each as it finishes, deliver the best safe one.

Needs: a sampler, and a judge (reward model, safety classifier, either or both). Costs: n completions of one prefill,
n scores; the wall time of the slowest candidate plus one score, since scoring overlaps with decoding. Where the judge
prunes, or compares candidates with each other, its last scores come after the last candidate.
KL to the policy at most log n - (n-1)/n, win-rate n/(n+1) (Beirami et al. 2024, arXiv:2401.01879).

When no candidate is safe it samples another wave; what is still unsafe then is the caller's refusal. At the deadline
sampling stops and the judge answers with what it has (a verdict without a reward, say): it decides among those.
"""

import asyncio

from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.selection import rank
from gateway.decoding.shortfall import degraded_by, guard_unavailable
from gateway.decoding.strategy import Decision, Judge, Progress, Sampler, Task
from gateway.errors import ApiError, DeadlineExceeded, WorkerError

# A judge ends at the deadline by itself; one that does not is cut off this much later.
_JUDGE_GRACE_S = 0.25


async def best_of_n(task: Task, sampler: Sampler, judge: Judge, progress: Progress) -> Decision:
    """Decide one request.

    Raises GuardUnavailable where candidates could not be judged for safety and none else is safe, the sampler's
    ApiError where nothing could be sampled, DeadlineExceeded where nothing was judged in time.
    """
    loop = asyncio.get_running_loop()
    failure: ApiError | None = None
    skipped = False
    try:
        async with asyncio.timeout_at(task.deadline + _JUDGE_GRACE_S):
            for wave in range(1 + task.resample):
                failure = await _run_wave(task, wave, sampler, judge, progress)
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
    ranking = rank(judged, unjudged_passes=task.unjudged_passes)
    if not ranking.order:
        _explain(judged, failure, timed_out=timed_out)
    return Decision(
        judged=judged,
        order=ranking.order,
        propensities=ranking.propensities,
        degraded=degraded_by(judged, ranking.order, timed_out=timed_out, skipped=skipped, lost=failure is not None),
        scoring_tail_s=loop.time() - (progress.last_candidate_s or loop.time()),
    )


def _explain(judged: tuple[Judged, ...], failure: ApiError | None, *, timed_out: bool) -> None:
    """Raise for why nothing can be delivered; returns where all were judged and none was safe."""
    if timed_out:
        raise DeadlineExceeded("no candidate that is safe to deliver was finished and judged in time", retry_after=5.0)
    if any(one.unjudged for one in judged):
        raise guard_unavailable(judged)
    if failure:
        raise failure
    if not judged:
        raise WorkerError("the worker finished without a candidate")


async def _run_wave(task: Task, wave: int, sampler: Sampler, judge: Judge, progress: Progress) -> ApiError | None:
    """Sample and judge one wave into `progress`. Returns why the sampler stopped early, or None."""
    failure: ApiError | None = None
    async with asyncio.TaskGroup() as scoring:
        candidates = sampler.sample(task.n, wave)
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
