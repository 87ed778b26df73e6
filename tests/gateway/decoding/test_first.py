import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.first import first
from gateway.decoding.strategy import Decision, Progress, Task
from gateway.errors import ApiError, DeadlineExceeded, GuardUnavailable, WorkerError
from gateway.guard.guard import Guard
from gateway.guard.live import LiveGuard, StreamGuardMode
from gateway.log.records import Message, Verdict
from gateway.workers.stream import Accumulator, Part
from scorers.contract import Score

SAFE = Verdict(categories={"x": 0.0})


@dataclass
class ScriptedSampler:
    """Sends these words one by one, `pause_s` apart; then fails with `failure`, or finishes."""

    words: list[str]
    pause_s: float = 0.0
    failure: ApiError | None = None
    closed: int = 0

    async def live(self) -> AsyncGenerator[Part | Candidate, None]:
        whole = Accumulator()
        try:
            for number, word in enumerate(self.words):
                await asyncio.sleep(self.pause_s)
                part = Part(0, {"content": word}, None, [number], 1)
                whole.add(part)
                yield part
            if self.failure:
                raise self.failure
            ids = whole.token_ids or []
            yield Candidate(0, 0, None, whole.message, "stop", None, None, ids, len(ids), 0.0)
        finally:
            self.closed += 1


@dataclass
class ScriptedJudge:
    """`verdict` says what the guard thinks of a text; `read` is what it was asked about."""

    verdict: Callable[[str], Verdict] = lambda text: SAFE
    delay_s: float = 0.0
    read: list[str] = field(default_factory=list)

    async def score(self, message: Message) -> Score | None:
        return Score(value=float(len(message["content"])))

    async def check(self, message: Message) -> Verdict | None:
        self.read.append(message["content"] or "")
        await asyncio.sleep(self.delay_s)
        return self.verdict(message["content"] or "")

    def judged(self, candidate: Candidate, score: Score | None, verdict: Verdict | None) -> Judged:
        return Judged(candidate, score.value if score else None, None, verdict, 0.0)


def live_guard(mode: StreamGuardMode, window: int = 4, context: int = 2) -> LiveGuard:
    # The guard itself is asked through the judge.
    return LiveGuard(Guard(None, None), mode, window, context)  # type: ignore[arg-type]


@dataclass
class Outcome:
    text: str
    decision: Decision | None
    progress: Progress


async def run(
    sampler: ScriptedSampler,
    judge: ScriptedJudge,
    live: LiveGuard | None,
    *,
    seconds: float = 5.0,
    unjudged_passes: bool = False,
) -> Outcome:
    deadline = asyncio.get_running_loop().time() + seconds
    progress = Progress()
    outcome = Outcome("", None, progress)
    async with aclosing(first(Task(1, 0, deadline, unjudged_passes), sampler, judge, live, progress)) as items:
        async for item in items:
            if isinstance(item, Decision):
                outcome.decision = item
            else:
                outcome.text += item.delta["content"]
    return outcome


WORDS = ["it ", "is ", "a ", "sunny ", "day ", "out ", "there"]


@pytest.mark.parametrize("mode", ["hold-back", "window", "audit", None])
async def test_all_that_is_safe_leaves_and_is_scored(mode: StreamGuardMode | None) -> None:
    sampler = ScriptedSampler(WORDS)
    found = await run(sampler, ScriptedJudge(), live_guard(mode) if mode else None)
    assert found.text == "it is a sunny day out there"
    assert found.decision is not None
    assert found.decision.order == (0,)
    assert found.decision.released_tokens == 7
    assert found.decision.judged[0].reward == len(found.text)
    assert found.decision.degraded is None
    assert sampler.closed == 1


@pytest.mark.parametrize("mode", ["hold-back", "window"])
@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(st.sampled_from(["aa ", "b", "ccc ", "BAD", "dd "]), min_size=1, max_size=12),
    window=st.integers(1, 12),
    context=st.integers(0, 8),
)
def test_no_text_leaves_before_a_check_has_read_it(
    mode: StreamGuardMode, words: list[str], window: int, context: int
) -> None:
    """Whatever the windows, all that leaves was in a text that the guard cleared, and nothing follows a flag."""
    judge = ScriptedJudge(lambda text: Verdict(flagged=["x"]) if "BAD" in text else SAFE)
    found = asyncio.run(run(ScriptedSampler(words), judge, live_guard(mode, window, context)))
    assert "BAD" not in found.text
    assert "".join(words).startswith(found.text)
    assert found.decision is not None
    if "BAD" in "".join(words):
        assert found.decision.order == ()
        assert found.decision.judged[0].flagged
    else:
        assert found.text == "".join(words)
    if mode == "hold-back":
        assert found.text == "" or found.text in judge.read


async def test_hold_back_reads_all_so_far_and_window_only_its_surroundings() -> None:
    back, window = ScriptedJudge(), ScriptedJudge()
    await run(ScriptedSampler(WORDS), back, live_guard("hold-back", 1))
    await run(ScriptedSampler(WORDS), window, live_guard("window", 5, 2))
    assert back.read[-1] == "it is a sunny day out there"
    assert window.read[:2] == ["it is ", "s a sunny "]
    assert max(map(len, window.read)) <= 5 + 2 + len("sunny ")


async def test_sampling_goes_on_while_the_guard_reads() -> None:
    judge = ScriptedJudge(delay_s=0.05)
    found = await run(ScriptedSampler(WORDS, pause_s=0.005), judge, live_guard("hold-back", 1))
    assert found.text == "".join(WORDS)
    assert len(judge.read) < len(WORDS)


async def test_audit_lets_all_out_and_the_verdict_follows() -> None:
    judge = ScriptedJudge(lambda text: Verdict(flagged=["x"]))
    found = await run(ScriptedSampler(WORDS), judge, live_guard("audit"))
    assert found.text == "".join(WORDS)
    assert found.decision is not None
    assert found.decision.order == (0,)
    assert found.decision.judged[0].verdict == Verdict(flagged=["x"])


async def test_a_guard_that_cannot_answer_stops_the_stream_unless_the_profile_lets_it_pass() -> None:
    judge = ScriptedJudge(lambda text: Verdict(error="away") if "sunny" in text else SAFE)
    with pytest.raises(GuardUnavailable):
        await run(ScriptedSampler(WORDS), judge, live_guard("hold-back", 1))
    found = await run(ScriptedSampler(WORDS), judge, live_guard("hold-back", 1), unjudged_passes=True)
    assert found.text == "".join(WORDS)
    assert found.decision is not None
    assert found.decision.degraded == "guard_partial"


async def test_at_the_deadline_it_ends_with_what_was_cleared() -> None:
    sampler = ScriptedSampler(["word "] * 100, pause_s=0.03)
    found = await run(sampler, ScriptedJudge(), live_guard("hold-back", 1), seconds=0.3)
    assert found.decision is not None
    assert found.decision.degraded == "deadline"
    [one] = found.decision.judged
    assert one.candidate.finish_reason == "length"
    assert one.candidate.message["content"] == found.text
    assert found.decision.released_tokens == one.candidate.completion_tokens > 0
    assert sampler.closed == 1


@pytest.mark.parametrize(("pause_s", "delay_s"), [(1.0, 0.0), (0.0, 0.2)], ids=["slow worker", "slow guard"])
async def test_nothing_cleared_by_the_deadline_is_a_504(pause_s: float, delay_s: float) -> None:
    judge = ScriptedJudge(lambda text: Verdict(error="late"), delay_s)
    with pytest.raises(DeadlineExceeded):
        await run(ScriptedSampler(WORDS, pause_s), judge, live_guard("window"), seconds=0.1)


async def test_a_worker_that_breaks_off_is_its_error_after_what_was_cleared() -> None:
    sampler = ScriptedSampler(WORDS, failure=WorkerError("gone"))
    progress = Progress()
    text = ""
    task = Task(1, 0, asyncio.get_running_loop().time() + 5, False)
    with pytest.raises(WorkerError, match="gone"):
        async for item in first(task, sampler, ScriptedJudge(), live_guard("hold-back", 1), progress):
            assert isinstance(item, Part)
            text += item.delta["content"]
    assert text == "".join(WORDS)
    # The log gets what was sampled.
    [one] = progress.judged
    assert one.candidate.message["content"] == text
    assert one.candidate.finish_reason is None


async def test_a_reader_who_leaves_closes_the_sampler_and_leaves_a_record() -> None:
    sampler = ScriptedSampler(["word "] * 1000, pause_s=0.01)
    progress = Progress()
    task = Task(1, 0, asyncio.get_running_loop().time() + 5, False)
    items = first(task, sampler, ScriptedJudge(), live_guard("hold-back", 1), progress)
    await anext(items)
    await items.aclose()
    assert sampler.closed == 1
    assert progress.judged[0].candidate.completion_tokens >= 1
