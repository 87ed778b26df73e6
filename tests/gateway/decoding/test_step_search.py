import itertools
import math
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from gateway.decoding.selection.chooser import Chooser
from gateway.decoding.selection.settings import SelectionConfig
from gateway.decoding.step_search import Aggregate, StepSearchOptions, step_search, value_of
from gateway.decoding.strategy import Decision, Progress
from gateway.errors import DeadlineExceeded, GuardUnavailable, WorkerError
from tests.gateway.decoding.pieced import END, ScriptedPieces, TextJudge, WholeAnswers, task

STEPS = "abc"
DEPTH = 3


def tree(text: str, i: int) -> str:
    """Way i takes the i-th step, three times, and ends."""
    return STEPS[i % 3] + ("|" if text.count("|") < DEPTH - 1 else END)


def scores(text: str) -> list[float]:
    """Of each step, by all before it and itself: some order that no single step decides."""
    steps = [step for step in text.split("|") if step]
    return [Random("steps" + "".join(steps[: n + 1])).uniform(0.05, 0.95) for n in range(len(steps))]


def exhaustive(aggregate: Aggregate, of: Callable[[str], list[float]] = scores) -> str:
    """The best of all answers there are."""
    answers = ["|".join(steps) for steps in itertools.product(STEPS, repeat=DEPTH)]
    return max(answers, key=lambda answer: value_of(of(answer), aggregate) or -math.inf)


async def decide(sampler: ScriptedPieces, judge: TextJudge, **fields: Any) -> Decision:
    options = {key: fields.pop(key) for key in ("beams", "aggregate", "max_steps", "separator") if key in fields}
    sampler.max_tokens = fields.get("max_tokens", sampler.max_tokens)
    settings = StepSearchOptions.model_validate({"separator": "|", "beams": 2, **options})
    return await step_search(task(settings, **fields), sampler, judge, Progress())


def text(decision: Decision) -> str:
    return str(decision.judged[decision.order[0]].candidate.message["content"])


@pytest.mark.parametrize("aggregate", ["last", "min", "prod"])
async def test_a_beam_as_wide_as_the_tree_finds_the_best_of_all_answers(aggregate: Aggregate) -> None:
    sampler = ScriptedPieces(says=tree)
    decision = await decide(sampler, TextJudge(steps=scores), n=27, beams=9, aggregate=aggregate)
    assert text(decision) == exhaustive(aggregate)
    assert decision.judged[decision.order[0]].reward == pytest.approx(value_of(scores(text(decision)), aggregate))
    # Three steps, three requests, whatever the number of beams.
    assert len(sampler.asked) == DEPTH
    assert len({one.candidate.message["content"] for one in decision.judged}) == len(decision.judged)


def test_the_aggregates_differ_on_this_tree() -> None:
    assert len({exhaustive("last"), exhaustive("min"), exhaustive("prod")}) == 3


async def test_one_beam_is_greedy_and_can_miss_the_best() -> None:
    # The best first step leads nowhere good.
    def of(text: str) -> list[float]:
        parts = [step for step in text.split("|") if step]
        found = [0.9 if parts[0] == "a" else 0.5]
        return found + [0.1 if parts[0] == "a" else 0.8] * (len(parts) - 1)

    greedy = await decide(ScriptedPieces(says=tree), TextJudge(steps=of), n=3, beams=1)
    wide = await decide(ScriptedPieces(says=tree), TextJudge(steps=of), n=9, beams=3)
    assert text(greedy)[0] == "a"
    assert text(wide)[0] in "bc"


async def test_each_live_beam_goes_on_in_its_share_of_n_ways() -> None:
    sampler = ScriptedPieces(says=tree)
    await decide(sampler, TextJudge(steps=scores), n=8, beams=2)
    assert [(len(texts), each) for texts, each, _, _ in sampler.asked] == [(1, 8), (2, 4), (2, 4)]
    assert {stop for *_, stop in sampler.asked} == {"|"}


async def test_a_finished_beam_stays_until_the_others_are_worse() -> None:
    ways = {"": ["done" + END, "a|"], "a|": ["b|", "c|"], "a|b|": ["d" + END], "a|c|": ["e" + END]}

    def of(text: str) -> list[float]:
        return {"done": [0.6], "a|": [0.5], "a|b|": [0.5, 0.7], "a|c|": [0.5, 0.1], "a|b|d": [0.5, 0.7, 0.2]}[text]

    sampler = ScriptedPieces(says=lambda text, i: ways[text][i % len(ways[text])])
    decision = await decide(sampler, TextJudge(steps=of), n=2, beams=2)
    assert text(decision) == "done"
    assert {one.candidate.message["content"] for one in decision.judged} == {"done", "a|b|d"}
    # a|c| had lost its place to the finished one.
    assert [texts for texts, *_ in sampler.asked] == [[""], ["a|"], ["a|b|"]]


async def test_the_search_is_over_when_the_finished_ones_beat_all_that_goes_on() -> None:
    ways = ["x" + END, "y" + END, "a|", "b|"]
    values = {"x": [0.9], "y": [0.8], "a|": [0.7], "b|": [0.6]}
    sampler = ScriptedPieces(says=lambda text, i: ways[i])
    decision = await decide(sampler, TextJudge(steps=values.__getitem__), n=4, beams=2)
    assert len(sampler.asked) == 1
    assert [one.candidate.message["content"] for one in decision.judged] == ["x", "y"]
    assert decision.order == (0, 1)


async def test_all_finished_beams_are_candidates_of_the_profiles_rule() -> None:
    chooser = Chooser(SelectionConfig(rule="soft", temperature=0.5))
    decision = await decide(ScriptedPieces(says=tree), TextJudge(steps=scores), n=9, beams=3, chooser=chooser)
    assert math.fsum(decision.outcomes.candidates) == pytest.approx(1.0)
    assert sum(chance > 0 for chance in decision.outcomes.candidates) == len(decision.judged) > 1


async def test_flagged_steps_are_out() -> None:
    judge = TextJudge(steps=scores, unsafe=lambda text: "b" in text)
    decision = await decide(ScriptedPieces(says=tree), judge, n=27, beams=9)
    assert all("b" not in one.candidate.message["content"] for one in decision.judged)
    assert any(piece.verdict and piece.verdict.flagged for one in decision.rounds for piece in one.pieces)


async def test_where_every_step_is_flagged_the_answer_is_refused() -> None:
    sampler = ScriptedPieces(says=tree)
    decision = await decide(sampler, TextJudge(steps=scores, unsafe=lambda text: True))
    assert decision.order == () and decision.outcomes.refusal == 1.0
    assert len(sampler.asked) == 2
    assert decision.judged and all(one.flagged for one in decision.judged)


async def test_a_guard_that_cannot_answer_is_no_refusal() -> None:
    with pytest.raises(GuardUnavailable):
        await decide(ScriptedPieces(says=tree), TextJudge(steps=scores, unjudged=lambda text: True))


async def test_without_scores_of_steps_beams_rank_last_and_it_is_said() -> None:
    judge = TextJudge(lambda text: 1.0)
    decision = await decide(ScriptedPieces(says=tree), judge)
    assert decision.degraded == "reward_unavailable"
    assert decision.outcomes.fallback == 1.0
    assert decision.order


async def test_max_steps_ends_a_search_that_never_would() -> None:
    sampler = ScriptedPieces(says=lambda text, i: "a|", max_tokens=1000)
    decision = await decide(sampler, TextJudge(steps=lambda text: [0.5] * text.count("|")), max_steps=5)
    assert text(decision) == "a|" * 5
    assert decision.judged[0].candidate.finish_reason == "length"


async def test_beams_with_the_same_ids_go_on_once() -> None:
    sampler = ScriptedPieces(says=lambda text, i: "a|" if len(text) < 4 else "z" + END)
    await decide(sampler, TextJudge(steps=lambda text: [0.5]), n=4, beams=4)
    assert [len(texts) for texts, *_ in sampler.asked] == [1, 1, 1]


async def test_the_answer_is_no_longer_than_it_may_be() -> None:
    sampler = ScriptedPieces(says=lambda text, i: "ab|")
    decision = await decide(sampler, TextJudge(steps=lambda text: [0.5]), max_tokens=7)
    assert text(decision) == "ab|ab|a"
    assert decision.judged[0].candidate.finish_reason == "length"


async def test_the_token_limit_ends_the_search_and_is_kept() -> None:
    sampler = ScriptedPieces(says=lambda text, i: "ab|", max_tokens=1000)
    decision = await decide(sampler, TextJudge(steps=lambda text: [0.5]), token_limit=30)
    assert sampler.sampled_tokens <= 30
    assert decision.judged[0].candidate.finish_reason == "length"


async def test_at_the_deadline_the_finished_ones_decide() -> None:
    ways = {"": ["done" + END, "a|"]}
    sampler = ScriptedPieces(says=lambda text, i: ways[text][i], slow_s=lambda call: 60.0 if call else 0.0)
    judge = TextJudge(steps=lambda text: [0.9 if text == "a|" else 0.5])
    decision = await decide(sampler, judge, n=2, seconds=0.3)
    assert text(decision) == "done" and len(decision.judged) == 1
    assert decision.degraded == "deadline"


async def test_at_the_deadline_with_none_finished_the_best_beam_is_cut_off() -> None:
    sampler = ScriptedPieces(says=tree, slow_s=lambda call: 60.0 if call == 2 else 0.0)
    decision = await decide(sampler, TextJudge(steps=scores), seconds=0.3)
    assert text(decision).count("|") == 2
    assert decision.judged[0].candidate.finish_reason == "length"
    assert decision.degraded == "deadline"


async def test_a_deadline_before_the_first_step_is_a_504() -> None:
    with pytest.raises(DeadlineExceeded):
        await decide(ScriptedPieces(says=tree, slow_s=lambda call: 60.0), TextJudge(steps=scores), seconds=0.1)


async def test_a_lost_worker_is_its_error() -> None:
    with pytest.raises(WorkerError, match="gone"):
        await decide(ScriptedPieces(says=tree, fails_at=0, error=WorkerError("gone")), TextJudge(steps=scores))


async def test_the_kl_bound_counts_the_chains_there_were() -> None:
    decision = await decide(ScriptedPieces(says=tree), TextJudge(steps=scores), n=8, beams=2)
    assert decision.outcomes.kl_bound == pytest.approx(math.log(8) + 2 * math.log(4))
    lone = await decide(ScriptedPieces(says=tree), TextJudge(steps=scores), n=1, beams=4)
    assert lone.outcomes.kl_bound == 0.0


async def test_the_log_has_every_step_with_what_it_goes_on_from() -> None:
    decision = await decide(ScriptedPieces(says=tree), TextJudge(steps=scores), n=6, beams=2)
    for before, one in itertools.pairwise(decision.rounds):
        assert {piece.after for piece in one.pieces} <= {i for i, piece in enumerate(before.pieces) if piece.kept}
    last, chain = decision.rounds[-1], []
    place = next(i for i, piece in enumerate(last.pieces) if piece.reward == decision.judged[decision.order[0]].reward)
    for one in reversed(decision.rounds):
        chain.append(one.pieces[place].text)
        place = one.pieces[place].after
    assert "".join(reversed(chain)) == text(decision)


async def test_what_cannot_go_on_from_ids_is_best_of_n_and_it_is_said() -> None:
    sampler = WholeAnswers(says=lambda text, i: f"{i}|" + END, none=True)
    decision = await decide(sampler, TextJudge(float_of))
    assert (decision.instead, decision.because) == ("best_of_n", "not_continuable")
    assert text(decision) == "3|"


def float_of(text: str) -> float:
    return float(text.removesuffix("|"))


@pytest.mark.parametrize(
    ("aggregate", "steps", "value"),
    [
        ("last", [0.9, 0.2], 0.2),
        ("min", [0.9, 0.2, 0.5], 0.2),
        ("prod", [0.5, 0.5], math.log(0.25)),
        ("prod", [1.0], 0.0),
        ("last", [], None),
        ("prod", [0.5, 1.5], None),
        ("prod", [-0.5], None),
        ("last", [-3.0], -3.0),
    ],
)
def test_a_beams_value(aggregate: Aggregate, steps: list[float], value: float | None) -> None:
    assert value_of(steps, aggregate) == (value if value is None else pytest.approx(value))


def test_a_product_ranks_where_floats_would_be_nought() -> None:
    longer, shorter = value_of([0.001] * 200, "prod"), value_of([0.001] * 150, "prod")
    assert longer is not None and shorter is not None and -math.inf < longer < shorter
    nothing = value_of([0.5, 0.0], "prod")
    assert nothing == pytest.approx(math.log(0.5) + math.log(sys.float_info.min))
