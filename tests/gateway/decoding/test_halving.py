"""Halving over scripted streams: candidate i says "i i i ...", a word a token, so that a reader knows how far it is."""

import asyncio
import itertools
import logging
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.decoding.best_of_n import best_of_n
from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.halving import STRATEGY, HalvingOptions, halving
from gateway.decoding.laws import halving as laws
from gateway.decoding.laws.best_of_n import kl
from gateway.decoding.open_streams import OpenStreams, Source
from gateway.decoding.selection.chooser import Chooser
from gateway.decoding.selection.settings import SelectionConfig
from gateway.decoding.strategy import Decision, Progress, Task
from gateway.errors import ApiError, DeadlineExceeded, WorkerError
from gateway.log.records import Message
from gateway.workers.stream import Accumulator, Part, SampleStart
from scorers.contract import Score
from tests.gateway.decoding.judged import candidate, judged
from tests.gateway.decoding.scripted import ScriptedJudge, ScriptedSampler
from tests.gateway.decoding.test_race import card

# Parts of 16 tokens, the first of one, end exactly here.
POINTS = [17, 33, 65]
INTERVAL = 16
# As many turns of the event loop as a score and a decision need between two parts.
_PACE = 12


@dataclass
class Streams(ScriptedSampler):
    """Streams of these lengths (cycled), side by side, a part each while the event loop turns `_PACE` times.

    labels: the word of each, by default its number. lost: those whose worker fails after their first part.
    endless: those that stop before their last part and stay open.
    """

    lengths: Sequence[int] = (129,)
    labels: Sequence[str] | None = None
    lost: dict[int, ApiError] = field(default_factory=dict)
    endless: frozenset[int] = frozenset()
    intervals: list[int] = field(default_factory=list)
    open: int = 0

    def streams(self, n: int, interval: int) -> OpenStreams:
        self.waves.append(n)
        self.intervals.append(interval)
        return OpenStreams({index: self._source(index, interval) for index in range(n)}, self._cut)

    def word(self, index: int) -> str:
        return self.labels[index] if self.labels else str(index)

    def whole(self, index: int) -> Candidate:
        length = self.lengths[index % len(self.lengths)]
        text = " ".join([self.word(index)] * length)
        now = asyncio.get_running_loop().time()
        return replace(candidate(index, text, finished_s=now), completion_tokens=length)

    async def _source(self, index: int, interval: int) -> Source:
        length = self.lengths[index % len(self.lengths)]
        self.open += 1
        try:
            yield SampleStart(3, {})
            sent = 0
            for upto in sorted({*range(1, length, interval), length}):
                for _ in range(_PACE):
                    await asyncio.sleep(0)
                if index in self.endless and upto == length:
                    await asyncio.Event().wait()
                if sent and index in self.lost:
                    raise self.lost[index]
                tokens, sent = upto - sent, upto
                self.sampled_tokens += tokens
                yield Part(0, {"content": f"{self.word(index)} " * tokens}, None, None, tokens)
            yield self.whole(index)
        finally:
            self.open -= 1

    def _cut(self, index: int, so_far: Accumulator) -> Candidate:
        cut = candidate(index, so_far.message["content"], finished_s=asyncio.get_running_loop().time())
        return replace(cut, finish_reason=None, completion_tokens=so_far.tokens)


@dataclass
class Reader(ScriptedJudge):
    """partial: the score of a beginning that says a word so many times; None: it fails. never: it does not answer."""

    partial: Callable[[str, int], float | None] = lambda word, _: float(word)
    never: bool = False
    read: list[tuple[str, int]] = field(default_factory=list)
    scorer: str | None = "reward@1"

    async def judge(self, candidates: Sequence[Candidate]) -> list[Judged]:
        said = await super().judge(candidates)
        return [replace(one, candidate=given) for one, given in zip(said, candidates, strict=True)]

    async def score(self, message: Message) -> Score | None:
        words = message["content"].split()
        self.read.append((words[0], len(words)))
        if self.never:
            await asyncio.Event().wait()
        value = self.partial(words[0], len(words))
        return Score(error="failed") if value is None else Score(value=value)


def by_index(index: int) -> Judged:
    return judged(index, float(index))


async def decide(
    sampler: Streams, judge: ScriptedJudge, n: int = 4, *, seconds: float = 20.0, resample: int = 1, **options: Any
) -> Decision:
    task = task_of(n, seconds=seconds, resample=resample, **options)
    return await halving(task, sampler, judge, Progress())


def task_of(n: int, *, seconds: float = 20.0, resample: int = 1, **options: Any) -> Task:
    settings = HalvingOptions.model_validate({"checkpoints": POINTS, "unmeasured": True, **options})
    deadline = asyncio.get_running_loop().time() + seconds
    return Task(n, resample, deadline, unjudged_passes=False, options=settings, max_tokens=1000, model="m")


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never does")


def cut_off(decision: Decision) -> dict[int, int]:
    """Index to tokens, of those that were given up."""
    return {one.candidate.index: one.candidate.completion_tokens for one in decision.judged if one.cut_off}


async def test_the_worse_half_is_given_up_at_each_checkpoint() -> None:
    sampler = Streams()
    decision = await decide(sampler, Reader(by_index), 8)
    assert cut_off(decision) == {0: 17, 1: 17, 2: 17, 3: 17, 4: 33, 5: 33, 6: 65}
    assert decision.order == (7,)
    assert decision.degraded is None and decision.instead is None
    assert sampler.intervals == [INTERVAL] and sampler.open == 0
    assert sampler.waves == [8]


@pytest.mark.parametrize(("n", "keep"), [(16, 0.5), (16, 0.25), (12, 0.75), (5, 0.5)])
async def test_the_tokens_spent_are_those_of_the_formula(n: int, keep: float) -> None:
    """A loser that ran on for one more part, or a phase of the wrong size, is off by 16 tokens at least."""
    sampler = Streams(lengths=[129])
    await decide(sampler, Reader(by_index), n, keep=keep)
    assert sampler.sampled_tokens == laws.tokens(laws.survivors(n, keep, 3), POINTS, [129])


@pytest.mark.parametrize("seed", range(10))
async def test_at_correlation_one_it_is_best_of_n(seed: int) -> None:
    rewards = random.Random(seed).sample(range(100), 8)
    reader = Reader(lambda i: judged(i, float(rewards[i])), partial=lambda word, _: float(rewards[int(word)]))
    decision = await decide(Streams(lengths=[129, 80, 129, 12, 129, 30, 50, 129]), reader, 8)
    assert decision.judged[decision.order[0]].reward == max(rewards)


async def test_at_correlation_zero_it_is_the_best_of_those_kept() -> None:
    """All 24 orders of the partial scores: the mean of the best of 2 out of 0, 1, 2, 3 is 14/6; of 4 it is 3."""
    found = []
    for partial in itertools.permutations(range(4)):
        reader = Reader(by_index, partial=lambda word, _, scores=partial: float(scores[int(word)]))  # type: ignore[misc]
        decision = await decide(Streams(lengths=[40]), reader, checkpoints=[17])
        found.append(decision.judged[decision.order[0]].reward or 0.0)
    assert sum(found) == 24 * 14 / 6


async def test_a_finished_answer_holds_its_place_by_its_final_reward() -> None:
    """0 ends before the checkpoint; its reward is higher than two of the partial scores and lower than one."""
    finals = [2.5, 0.0, 9.0, 1.0]
    reader = Reader(lambda i: judged(i, finals[i]), partial=lambda word, _: [0.0, 1.0, 2.0, 3.0][int(word)])
    decision = await decide(Streams(lengths=[5, 129, 129, 129]), reader, checkpoints=[17])
    assert set(cut_off(decision)) == {1, 2}
    assert decision.order == (0, 3)


async def test_a_finished_answer_that_lost_is_an_answer_all_the_same() -> None:
    finals = [0.5, 0.1, 0.2, 0.3]
    reader = Reader(lambda i: judged(i, finals[i]), partial=lambda word, _: float(word))
    decision = await decide(Streams(lengths=[5, 129, 129, 129]), reader, checkpoints=[17])
    assert set(cut_off(decision)) == {1}
    assert decision.order == (0, 3, 2)


async def test_an_unsafe_answer_takes_nobodys_place() -> None:
    reader = Reader(lambda i: judged(i, 99.0 if i == 0 else float(i), flagged=i == 0))
    decision = await decide(Streams(lengths=[5, 129, 129]), reader, 3, checkpoints=[17])
    assert set(cut_off(decision)) == {1}
    assert decision.order == (2,)


async def test_a_beginning_that_could_not_be_scored_goes_on_and_takes_nobodys_place() -> None:
    reader = Reader(by_index, partial=lambda word, _: None if word == "0" else float(word))
    decision = await decide(Streams(), reader, 5, checkpoints=[17])
    assert set(cut_off(decision)) == {1, 2}
    assert decision.order == (4, 3, 0)
    assert decision.degraded is None


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf])
async def test_where_no_beginning_could_be_scored_all_go_on_and_it_is_said(nothing: float | None) -> None:
    sampler = Streams()
    decision = await decide(sampler, Reader(by_index, partial=lambda *_: nothing))
    assert cut_off(decision) == {}
    assert decision.order[0] == 3
    assert decision.degraded == "prune_unavailable"
    assert sampler.sampled_tokens == 4 * 129


async def test_decoding_never_waits_for_a_score() -> None:
    """A scorer that has not answered at the end has pruned nothing and held up nothing, and nobody waits for it."""
    sampler, reader = Streams(), Reader(by_index, never=True)
    decision = await asyncio.wait_for(decide(sampler, reader), 10)
    assert cut_off(decision) == {}
    assert decision.order == (3, 2, 1, 0) and decision.degraded is None
    assert sampler.sampled_tokens == 4 * 129
    assert len(reader.read) == 3 * 4


async def test_a_score_that_comes_late_decides_late() -> None:
    """Of one candidate at the first checkpoint: the others are far ahead when it comes, and are cut off there."""

    @dataclass
    class Late(Reader):
        async def score(self, message: Message) -> Score | None:
            words = message["content"].split()
            if (words[0], len(words)) == ("3", 17):
                await until(lambda: sampler.sampled_tokens >= 4 * 81)
            return await super().score(message)

    sampler = Streams()
    decision = await decide(sampler, Late(by_index))
    assert cut_off(decision) == {0: 81, 1: 81, 2: 81}
    assert decision.order == (3,)


async def test_ties_go_to_the_earliest() -> None:
    decision = await decide(Streams(), Reader(lambda i: judged(i, 1.0), partial=lambda *_: 1.0))
    assert decision.order == (0,)


async def test_beginnings_that_are_the_same_are_scored_once_and_share_their_fate() -> None:
    labels = ["7", "1", "7", "2", "7", "0"]
    reader = Reader(by_index)
    decision = await decide(Streams(labels=labels), reader, 6, checkpoints=[17], keep=0.2)
    assert set(cut_off(decision)) == {1, 3, 5}
    assert sorted(reader.read) == [("0", 17), ("1", 17), ("2", 17), ("7", 17)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
async def test_where_a_candidate_stands_changes_nothing(order: tuple[int, ...]) -> None:
    labels = [str(10 * place) for place in order]
    reader = Reader(lambda i: judged(i, float(order[i])), partial=lambda word, _: float(word))
    decision = await decide(Streams(labels=labels), reader)
    assert [order[position] for position in decision.order] == [3]
    assert {order[index]: tokens for index, tokens in cut_off(decision).items()} == {0: 17, 1: 17, 2: 33}


async def test_what_was_cut_off_is_never_delivered_and_a_plain_wave_follows_where_the_rest_is_unsafe() -> None:
    sampler = Streams()
    decision = await decide(sampler, Reader(lambda i: judged(i, float(i), flagged=i < 4)))
    assert sampler.waves == [4, 4]
    assert decision.order == (7, 6, 5, 4)
    assert set(cut_off(decision)) == {0, 1, 2}
    assert decision.outcomes.candidates == (0.0,) * 7 + (1.0,)


async def test_where_all_that_finished_are_unsafe_it_is_a_refusal() -> None:
    decision = await decide(Streams(), Reader(lambda i: judged(i, float(i), flagged=True)))
    assert decision.order == ()
    assert decision.outcomes.refusal == 1.0 and not any(decision.outcomes.candidates)
    assert set(cut_off(decision)) == {0, 1, 2}


async def test_what_was_cut_off_is_logged_with_what_decided_it() -> None:
    decision = await decide(Streams(), Reader(by_index))
    given_up = [one for one in decision.judged if one.pruned_by]
    assert [one.candidate.index for one in given_up] == [0, 1, 2]
    for one, stages in zip(given_up, (0, 0, 1), strict=True):
        index = one.candidate.index
        assert one.candidate.finish_reason is None and one.reward is None and one.verdict is None
        assert (one.pruned_by, one.prior, one.stages) == ("reward@1", float(index), stages)
        assert one.scores == {"reward@1": Score(value=float(index))}
        assert one.candidate.message["content"].split() == [str(index)] * one.candidate.completion_tokens
        assert decision.outcomes.candidates[index] == 0.0


async def test_the_bound_of_the_divergence_counts_what_was_cut_off() -> None:
    """One answer of 8 independent ones: that of the best of 8, though the rule had but one to choose from."""
    decision = await decide(Streams(), Reader(by_index), 8)
    assert decision.outcomes.kl_bound == pytest.approx(kl(8))


async def test_the_selection_rule_draws_among_those_that_finished() -> None:
    task = task_of(8, checkpoints=[17], keep=0.25)
    soft = replace(task, chooser=Chooser(SelectionConfig(rule="soft", temperature=100.0), rng=random.Random(1)))
    decision = await halving(soft, Streams(), Reader(by_index), Progress())
    assert decision.outcomes.candidates[:6] == (0.0,) * 6
    assert decision.outcomes.candidates[6:] == pytest.approx((0.5, 0.5), abs=0.01)


async def test_as_many_go_on_as_are_to_be_delivered() -> None:
    decision = await halving(replace(task_of(8), deliver=3), Streams(), Reader(by_index), Progress())
    assert decision.order == (7, 6, 5)
    least = await decide(Streams(), Reader(by_index), 8, least=2)
    assert least.order == (7, 6)


async def test_at_the_deadline_the_best_so_far_is_delivered_and_all_streams_are_closed() -> None:
    sampler = Streams(endless=frozenset({0, 3}))
    decision = await decide(sampler, Reader(by_index, partial=lambda *_: None), seconds=0.5)
    assert [decision.judged[position].candidate.index for position in decision.order] == [2, 1]
    assert decision.degraded == "deadline" and sampler.open == 0


async def test_a_deadline_before_any_answer_is_a_504() -> None:
    with pytest.raises(DeadlineExceeded):
        await decide(Streams(endless=frozenset(range(4))), Reader(by_index), seconds=0.1)


async def test_one_that_is_lost_is_not_waited_for_and_it_is_said() -> None:
    sampler = Streams(lost={3: WorkerError("gone")})
    decision = await decide(sampler, Reader(by_index))
    assert decision.order == (2,) and decision.degraded == "worker_partial"
    assert cut_off(decision) == {0: 17, 1: 33}


async def test_where_all_are_lost_it_is_the_workers_error() -> None:
    with pytest.raises(WorkerError, match="gone"):
        await decide(Streams(lost=dict.fromkeys(range(4), WorkerError("gone"))), Reader(by_index))


async def test_cancelling_closes_all_streams() -> None:
    sampler = Streams(endless=frozenset(range(4)))
    running = asyncio.create_task(decide(sampler, Reader(by_index, partial=lambda *_: None)))
    await until(lambda: sampler.sampled_tokens >= 4 * 113)
    assert sampler.open == 4
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sampler.open == 0


async def test_a_budget_of_tokens_opens_no_more_streams_than_it_pays_for() -> None:
    sampler = Streams()
    await halving(replace(task_of(8), token_limit=3000), sampler, Reader(by_index), Progress())
    assert sampler.waves == [3]


async def test_where_it_was_measured_to_work_it_is_followed_at_those_checkpoints() -> None:
    measured = card((16, 0.2), (33, 0.6), (64, 0.9))
    task = replace(task_of(4, unmeasured=False), card=measured)
    decision = await halving(task, Streams(), Reader(by_index), Progress())
    assert decision.instead is None
    assert cut_off(decision) == {0: 33, 1: 33, 2: 65}


@pytest.mark.parametrize(
    ("unfit", "settings", "reads"),
    [
        ("unmeasured", {"unmeasured": False}, "reward@1"),
        ("correlation", {"unmeasured": True, "card": card((8, 0.3), (64, 0.4))}, "reward@1"),
        ("unmeasured", {"unmeasured": False, "card": card((8, 0.9))}, "cheap@1"),
        ("short", {"unmeasured": True, "max_tokens": 8}, "reward@1"),
        ("scorer", {"unmeasured": True}, None),
    ],
)
async def test_elsewhere_plain_best_of_n_is_followed_and_it_is_said_once(
    unfit: str, settings: dict[str, Any], reads: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    model = f"{unfit} {reads}"
    task = task_of(4, unmeasured=settings.pop("unmeasured"))
    task = replace(task, **settings, model=model)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            sampler = Streams()
            decision = await halving(task, sampler, Reader(by_index, scorer=reads), Progress())
            assert (decision.instead, decision.because) == ("best_of_n", unfit)
            assert sampler.intervals == [] and sampler.waves == [4]
    plain = await best_of_n(task, Streams(), Reader(by_index), Progress())
    assert (decision.order, decision.outcomes) == (plain.order, plain.outcomes)
    said = [record.getMessage() for record in caplog.records if model in record.getMessage()]
    assert len(said) == 1 and "best_of_n" in said[0]


@pytest.mark.parametrize("wrong", [[0, 4], [8, 4], [4, 4]])
def test_checkpoints_that_do_not_ascend_are_refused(wrong: list[int]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        HalvingOptions(checkpoints=wrong)


def test_it_needs_a_reward_that_reads_beginnings() -> None:
    assert STRATEGY.needs == {"reward", "partial"} and not STRATEGY.streams
