"""Sampling in waves: for strategies that look at what they have before they sample more.

A wave is one request to the workers, all of it judged before the next begins. The alternative, to begin one sequence
whenever another ends, would never wait for a wave's slowest; but then who finishes first would decide how many are
sampled and which, so that short answers would win more often and chance would take part in answers that a seed should
determine. The worker's batch is full all the same: places that a wave no longer needs while it waits for its slowest
are free at once (`Place.finished`), and other requests begin in them. Where there are none, nobody waits for them.

A wave begins only where the token limit allows it, and where it would end before the deadline if it took as long as the
longest so far, unless nothing may be delivered yet. At the deadline sampling stops and the judge answers with what it
has (a verdict without a reward, say): strategies decide among those.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.decoding.best_of_n import JUDGE_GRACE_S, sample_wave
from gateway.decoding.candidate import Judged
from gateway.decoding.laws.best_of_n import kl
from gateway.decoding.selection.chooser import Outcomes
from gateway.decoding.shortfall import degraded_by
from gateway.decoding.strategy import Decision, Judge, Progress, Sampler, Task
from gateway.errors import ApiError

More = Callable[[Sequence[Judged]], int]
"""How many more to sample, given all judged so far, in no order: above 0 at first, 0 once it is enough."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """All candidates, by index, as the judge left them. failure: why sampling broke off. skipped: see `Settled`."""

    judged: tuple[Judged, ...]
    failure: ApiError | None
    skipped: bool
    timed_out: bool

    def decision(
        self, order: tuple[int, ...], outcomes: Outcomes, progress: Progress, *, otherwise: str | None = None
    ) -> Decision:
        """What a strategy decides on them. otherwise: its own reason for `degraded`, where there is no graver one."""
        now = asyncio.get_running_loop().time()
        degraded = degraded_by(
            self.judged, order, timed_out=self.timed_out, skipped=self.skipped, lost=self.failure is not None
        )
        return Decision(self.judged, order, outcomes, degraded or otherwise, now - (progress.last_candidate_s or now))


async def in_waves(task: Task, sampler: Sampler, judge: Judge, progress: Progress, more: More) -> Sampled:
    """At most n candidates, as many at a time as `more` says; then n at a time while none is safe and rounds are left.

    It ends early where the workers fail, and at the deadline. The first wave teaches the law of rewards.
    """
    loop = asyncio.get_running_loop()
    failure: ApiError | None = None
    skipped = False
    wave, sampled, rounds, longest_s = 0, 0, task.resample, 0.0
    try:
        async with asyncio.timeout_at(task.deadline + JUDGE_GRACE_S):
            while failure is None and loop.time() < task.deadline:
                safe = any(one.safe(task.unjudged_passes) for one in progress.judged)
                wanted = min(more(progress.judged), task.n - sampled) if sampled < task.n else 0
                if not wanted and rounds and not safe and not any(one.unjudged for one in progress.judged):
                    wanted, rounds = task.n, rounds - 1
                n = task.affordable(wanted, sampler.sampled_tokens)
                begun = loop.time()
                if wave == 0:
                    n = max(n, 1)
                elif not n or (safe and begun + longest_s > task.deadline):
                    break
                failure = await sample_wave(task, n, wave, sampler, judge, progress)
                if wave == 0:
                    task.law.learn([value for one in progress.judged if (value := worth(task, one)) is not None])
                wave, sampled, longest_s = wave + 1, sampled + n, max(longest_s, loop.time() - begun)
            progress.judged.sort(key=lambda one: one.candidate.index)
            settled = await judge.settle(progress.judged)
            progress.judged[:], skipped = settled.judged, settled.skipped
    except TimeoutError:
        pass
    judged = sorted(progress.judged, key=lambda one: one.candidate.index)
    return Sampled(tuple(judged), failure, skipped, loop.time() >= task.deadline)


def worth(task: Task, one: Judged) -> float | None:
    """What the selection rule compares; None for one that loses to any that has this: unsafe, unscored, or broken."""
    value = task.chooser.value(one)
    if value is None or value.under_floor or one.broken is not None or not one.safe(task.unjudged_passes):
        return None
    return value.number


def choice_bound(most: int, outcomes: Outcomes) -> float:
    """Nats between what is delivered and the policy's own answers, at most, for a choice among up to `most` of these.

    log(most) - H, H of the draw: the choice as a message that says which (data processing); and no choice among that
    many moves further than the best of them. `most` is how many there could have been, not how many there were: who
    stops at the first of at least tau has moved the law by log(1 / P(v >= tau)), also where that was the first sample.
    """
    drawn = math.log(most) + math.fsum(one * math.log(one) for one in outcomes.candidates if one)
    return min(kl(most), max(0.0, drawn))
