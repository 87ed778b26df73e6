"""Best-of-n: sample n candidates together, judge each as it finishes, deliver the best safe one.

Needs: a sampler, and a judge (reward model, safety classifier, either or both). Costs: n completions of one prefill,
n scores; the wall time of the slowest candidate plus one score, since scoring overlaps with decoding.
KL to the policy at most log n - (n-1)/n, win-rate n/(n+1) (Beirami et al. 2024, arXiv:2401.01879).

When no candidate is safe it samples another wave; what is still unsafe then is the caller's refusal. At the deadline it
decides among what has been judged.
"""

import asyncio

from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.selection import rank
from gateway.decoding.strategy import Decision, Judge, Progress, Sampler, Task
from gateway.errors import ApiError, DeadlineExceeded, GuardUnavailable, WorkerError


async def best_of_n(task: Task, sampler: Sampler, judge: Judge, progress: Progress) -> Decision:
    """Decide one request.

    Raises GuardUnavailable where candidates could not be judged for safety and none else is safe, the sampler's
    ApiError where nothing could be sampled, DeadlineExceeded where nothing was judged in time.
    """
    loop = asyncio.get_running_loop()
    failure: ApiError | None = None
    timed_out = False
    try:
        async with asyncio.timeout_at(task.deadline):
            for wave in range(1 + task.resample):
                failure = await _run_wave(task.n, wave, sampler, judge, progress)
                if failure or any(one.safe(task.unjudged_passes) or one.unjudged for one in progress.judged):
                    break
    except TimeoutError:
        timed_out = True

    judged = tuple(sorted(progress.judged, key=lambda one: one.candidate.index))
    if not judged:
        raise failure or (
            DeadlineExceeded("no candidate was finished and judged in time", retry_after=5.0)
            if timed_out
            else WorkerError("the worker finished without a candidate")
        )
    ranking = rank(judged, unjudged_passes=task.unjudged_passes)
    if not ranking.order and any(one.unjudged for one in judged):
        raise GuardUnavailable("the safety check cannot answer; nothing is delivered unchecked", retry_after=2.0)
    if not ranking.order and failure:
        raise failure
    if not ranking.order and timed_out:
        raise DeadlineExceeded("no candidate that is safe to deliver was found in time", retry_after=5.0)
    return Decision(
        judged=judged,
        order=ranking.order,
        propensities=ranking.propensities,
        degraded=_degraded(judged, timed_out=timed_out, lost=failure is not None),
        scoring_tail_s=loop.time() - (progress.last_candidate_s or loop.time()),
    )


async def _run_wave(n: int, wave: int, sampler: Sampler, judge: Judge, progress: Progress) -> ApiError | None:
    """Sample and judge one wave into `progress`. Returns why the sampler stopped early, or None."""
    failure: ApiError | None = None
    async with asyncio.TaskGroup() as scoring:
        candidates = sampler.sample(n, wave)
        try:
            async for candidate in candidates:
                progress.last_candidate_s = candidate.finished_s
                if progress.first_candidate_s is None:
                    progress.first_candidate_s = candidate.finished_s
                    progress.first_candidate.set()
                scoring.create_task(_judge_into(progress.judged, judge, candidate))
        except ApiError as error:
            failure = error
        finally:
            await candidates.aclose()
    return failure


async def _judge_into(judged: list[Judged], judge: Judge, candidate: Candidate) -> None:
    judged.extend(await judge.judge([candidate]))


def _degraded(judged: tuple[Judged, ...], *, timed_out: bool, lost: bool) -> str | None:
    """The gravest of what went wrong, as one word for `guidance.degraded`."""
    if timed_out:
        return "deadline"
    if any(one.unjudged for one in judged):
        return "guard_partial"
    if all(one.reward is None and one.reward_error for one in judged):
        return "reward_unavailable"
    if any(one.reward_error for one in judged):
        return "reward_partial"
    return "worker_partial" if lost else None
