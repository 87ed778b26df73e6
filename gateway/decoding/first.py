"""One sample, streamed live: parts leave as the guard clears them.

Needs: a sampler that gives one candidate token by token; a live guard, or none. Costs: one completion; the first part
leaves after the first window of text and one check. No choice is made, so the reward (asked for at the end) decides
nothing: it is there for the receipt and the log.

Sampling goes on while the guard reads. Text that is flagged never leaves, and neither does anything after it. At the
deadline the answer ends with what was cleared until then.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.selection.chooser import certain
from gateway.decoding.shortfall import degraded_by, guard_unavailable
from gateway.decoding.strategy import Decision, Progress, Task
from gateway.errors import ApiError, DeadlineExceeded, WorkerError
from gateway.guard.live import Lengths, LiveGuard, lengths, text_length
from gateway.guard.verdict import merged
from gateway.log.records import Message, Verdict
from gateway.tasks import end
from gateway.workers.stream import Accumulator, Part
from scorers.contract import Score


class LiveSampler(Protocol):
    def live(self) -> AsyncGenerator[Part | Candidate, None]:
        """The parts of one candidate, then the candidate; closing it aborts the worker's work. Raises ApiError."""
        ...


class LiveJudge(Protocol):
    async def score(self, message: Message) -> Score | None: ...

    async def check(self, message: Message) -> Verdict | None: ...

    def judged(self, candidate: Candidate, score: Score | None, verdict: Verdict | None) -> Judged: ...


@dataclass(slots=True)
class _Inbox:
    """What the worker has sent and nobody has taken yet. size: characters in `parts`. done: no more will come."""

    parts: deque[Part] = field(default_factory=deque)
    size: int = 0
    done: bool = False
    candidate: Candidate | None = None
    failure: ApiError | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def fill(self, sampler: LiveSampler, deadline: float) -> None:
        """Read the worker to its end, its failure, or the deadline."""
        try:
            async with asyncio.timeout_at(deadline), aclosing(sampler.live()) as items:
                async for item in items:
                    if isinstance(item, Candidate):
                        self.candidate = item
                    else:
                        self.parts.append(item)
                        self.size += text_length(item.delta)
                    self.news.set()
        except TimeoutError:
            pass
        except ApiError as error:
            self.failure = error
        finally:
            self.done = True
            self.news.set()

    async def wait(self, characters: int) -> None:
        """Until that much text is here, or no more will come."""
        while not self.done and self.size < characters:
            self.news.clear()
            await self.news.wait()

    def take(self, characters: int | None) -> list[Part]:
        """Parts of at least that many characters, where there are so many; None: all."""
        taken: list[Part] = []
        size = 0
        while self.parts and (characters is None or size < characters):
            taken.append(self.parts.popleft())
            size += text_length(taken[-1].delta)
        self.size -= size
        return taken


@dataclass(slots=True)
class _Text:
    """An answer growing: `seen` is all that a check has read or reads, `out` all that has left."""

    seen: Accumulator = field(default_factory=Accumulator)
    out: Accumulator = field(default_factory=Accumulator)
    cleared: Lengths = field(default_factory=dict)
    verdict: Verdict | None = None

    def candidate(self, of: Accumulator, finish_reason: str | None) -> Candidate:
        """The answer as far as it got."""
        return Candidate(
            index=0,
            wave=0,
            seed=None,
            message=of.message,
            finish_reason=finish_reason,
            stop_reason=None,
            logprobs=of.logprobs,
            token_ids=of.token_ids,
            completion_tokens=of.tokens,
            finished_s=asyncio.get_running_loop().time(),
            token_logprobs=of.token_logprobs,
        )


async def first(
    task: Task, sampler: LiveSampler, judge: LiveJudge, live: LiveGuard | None, progress: Progress
) -> AsyncGenerator[Part | Decision, None]:
    """The parts that may leave, then the decision.

    Raises the sampler's ApiError, GuardUnavailable, or DeadlineExceeded where nothing could leave in time.
    """
    inbox, text = _Inbox(), _Text()
    reader = asyncio.create_task(inbox.fill(sampler, task.deadline))
    decision: Decision | None = None
    try:
        holds = live is not None and live.mode != "audit"
        parts = _cleared(inbox, text, judge, live, task) if holds and live else _at_once(inbox, text)
        async with aclosing(parts) as released:
            async for part in released:
                text.out.add(part)
                progress.first_candidate.set()
                yield part
        decision = await _decide(inbox, text, judge, live, task, progress)
        yield decision
    finally:
        await end(reader)
        if decision is None:
            # It failed, or the client has left: the log still gets what was sampled.
            for part in inbox.parts:
                text.seen.add(part)
            if text.seen.tokens or inbox.candidate:
                progress.judged.append(judge.judged(text.candidate(text.seen, None), None, text.verdict))


async def _at_once(inbox: _Inbox, text: _Text) -> AsyncGenerator[Part, None]:
    while not inbox.done or inbox.parts:
        await inbox.wait(1)
        for part in inbox.take(None):
            text.seen.add(part)
            yield part


async def _cleared(
    inbox: _Inbox, text: _Text, judge: LiveJudge, live: LiveGuard, task: Task
) -> AsyncGenerator[Part, None]:
    """Ends early when text was flagged or the deadline has come; `text.verdict` says which. Raises GuardUnavailable."""
    while not inbox.done or inbox.parts:
        await inbox.wait(live.window)
        taken = inbox.take(live.window if live.mode == "window" else None)
        for part in taken:
            text.seen.add(part)
        if _unread(text):
            verdict = await _check(judge, live.view(text.seen.message, text.cleared), task.deadline)
            if verdict is None:
                return
            # hold-back reads everything each time, so its last verdict is the one on the whole.
            text.verdict = merged(text.verdict, verdict) if live.mode == "window" else verdict
            if verdict.flagged:
                return
            if verdict.error and not task.unjudged_passes:
                raise guard_unavailable((judge.judged(text.candidate(text.seen, None), None, verdict),))
            text.cleared = lengths(text.seen.message)
        for part in taken:
            yield part


def _unread(text: _Text) -> bool:
    """Whether there is text that no check has read."""
    return lengths(text.seen.message) != text.cleared


async def _check(judge: LiveJudge, message: Message, deadline: float) -> Verdict | None:
    """None where there was no answer by the deadline."""
    verdict = await judge.check(message)
    late = verdict is not None and verdict.error and asyncio.get_running_loop().time() >= deadline
    return None if late else verdict


async def _decide(
    inbox: _Inbox, text: _Text, judge: LiveJudge, live: LiveGuard | None, task: Task, progress: Progress
) -> Decision:
    flagged = bool(text.verdict and text.verdict.flagged)
    if inbox.failure and not flagged:
        raise inbox.failure
    timed_out = not flagged and (inbox.candidate is None or text.seen.message != text.out.message)
    score = None
    if flagged:
        candidate = text.candidate(text.seen, "content_filter")
    elif timed_out:
        if not text.out.tokens:
            if asyncio.get_running_loop().time() < task.deadline:
                raise WorkerError("the worker finished without a candidate")
            raise DeadlineExceeded("nothing that is safe to deliver was sampled in time", retry_after=5.0)
        candidate = text.candidate(text.out, "length")
    else:
        assert inbox.candidate is not None
        candidate = inbox.candidate
        audit = live is not None and live.mode == "audit"
        score, verdict = await asyncio.gather(
            judge.score(candidate.message), _check(judge, candidate.message, task.deadline) if audit else _none()
        )
        if audit:
            text.verdict = verdict or Verdict(error="the guard did not answer by the deadline")
    progress.finished(candidate)
    judged = judge.judged(candidate, score, text.verdict)
    progress.judged.append(judged)
    order = () if flagged else (0,)
    return Decision(
        judged=(judged,),
        order=order,
        outcomes=certain((judged,), order, kl_bound=0.0),
        degraded=degraded_by((judged,), order, timed_out=timed_out),
        scoring_tail_s=asyncio.get_running_loop().time() - candidate.finished_s,
        released_tokens=text.out.tokens,
    )


async def _none() -> None:
    return None
