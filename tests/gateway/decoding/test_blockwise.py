import math
from typing import Any

import pytest

from gateway.decoding.best_of_n import best_of_n
from gateway.decoding.blockwise import BlockwiseOptions, blockwise
from gateway.decoding.laws.blockwise import kl
from gateway.decoding.pieces import StopStrings
from gateway.decoding.selection.chooser import Chooser
from gateway.decoding.selection.settings import SelectionConfig
from gateway.decoding.strategy import Decision, Progress
from gateway.errors import DeadlineExceeded, GuardUnavailable, WorkerError
from gateway.workers.stream import Accumulator, Part
from tests.gateway.decoding.pieced import END, ScriptedPieces, TextJudge, WholeAnswers, task

DIGITS = "0123456789"


def counting(text: str, i: int) -> str:
    """Way i writes the digit i until it has written twelve, and ends."""
    return DIGITS[i] * (12 - len(text)) + END


def digit_sum(text: str) -> float:
    return float(sum(map(int, text)))


async def decide(
    sampler: ScriptedPieces, judge: TextJudge, *, block: int = 4, progress: Progress | None = None, **fields: Any
) -> Decision:
    sampler.max_tokens = fields.get("max_tokens", sampler.max_tokens)
    return await blockwise(task(BlockwiseOptions(block_tokens=block), **fields), sampler, judge, progress or Progress())


async def streamed(
    sampler: ScriptedPieces, judge: TextJudge, *, block: int = 4, **fields: Any
) -> tuple[Decision, list[Part]]:
    parts: list[Part] = []

    async def release(part: Part) -> None:
        parts.append(part)

    return await decide(sampler, judge, block=block, release=release, **fields), parts


def text(decision: Decision) -> str:
    return str(decision.judged[decision.order[0]].candidate.message["content"])


def told(parts: list[Part]) -> str:
    out = Accumulator()
    for part in parts:
        out.add(part)
    return str(out.message["content"] or "")


async def test_each_block_is_the_best_of_those_that_go_on_from_the_one_before() -> None:
    sampler = ScriptedPieces(says=counting)
    decision = await decide(sampler, TextJudge(lambda text: -abs(digit_sum(text) - 20)))
    # 12 of 0..3s nearest to 20 after four, eight and twelve: 3333, then 33332222, then 333322220000.
    assert text(decision) == "333322220000"
    assert [asked[0] for asked in sampler.asked] == [[""], ["3333"], ["33332222"], ["333322220000"]]
    assert decision.judged[0].candidate.finish_reason == "stop"
    assert decision.degraded is None


@pytest.mark.parametrize("liked", [digit_sum, lambda text: -digit_sum(text), lambda text: float("2" in text)])
async def test_one_block_for_the_whole_answer_is_best_of_n(liked: object) -> None:
    judge = TextJudge(liked)  # type: ignore[arg-type]
    whole = await decide(ScriptedPieces(says=counting), judge, block=100)
    other = WholeAnswers(says=counting)
    best = await best_of_n(task(BlockwiseOptions()), other, judge, Progress())
    assert text(whole) == text(best)
    assert whole.judged[0].reward == best.judged[best.order[0]].reward
    assert whole.outcomes.kl_bound == pytest.approx(best.outcomes.kl_bound)


async def test_one_way_a_block_is_plain_sampling() -> None:
    sampler = ScriptedPieces(says=lambda text, i: "abcdefghij"[len(text) :] + END)
    decision = await decide(sampler, TextJudge(lambda text: -float(len(text))), n=1)
    assert text(decision) == "abcdefghij"
    assert decision.outcomes.kl_bound == 0.0


async def test_a_block_that_has_ended_competes_with_those_that_go_on() -> None:
    ways = ["ab" + END, "cdef" + "gh" + END]
    judge = TextJudge(lambda text: 1.0 if text == "ab" else 0.0)
    decision = await decide(ScriptedPieces(says=lambda text, i: ways[i]), judge, n=2)
    assert text(decision) == "ab"
    assert [one.finish_reason for one in decision.rounds[0].pieces] == ["stop", None]
    longer = await decide(
        ScriptedPieces(says=lambda text, i: ways[i] if not text else "gh" + END), TextJudge(lambda t: len(t)), n=2
    )
    assert text(longer) == "cdefgh"


async def test_the_answer_is_no_longer_than_it_may_be() -> None:
    sampler = ScriptedPieces(says=lambda text, i: "x" * 50)
    decision = await decide(sampler, TextJudge(), max_tokens=10)
    assert text(decision) == "x" * 10
    assert decision.judged[0].candidate.finish_reason == "length"
    assert [asked[2] for asked in sampler.asked] == [4, 4, 2]


async def test_the_token_limit_ends_the_answer_and_is_kept() -> None:
    sampler = ScriptedPieces(says=lambda text, i: "x" * 50)
    decision = await decide(sampler, TextJudge(), token_limit=26)
    # Four ways a block: 16 tokens, then 2 tokens a way.
    assert text(decision) == "x" * 6
    assert sampler.sampled_tokens == 24
    assert decision.judged[0].candidate.finish_reason == "length"


async def test_a_token_limit_below_a_block_still_gives_a_beginning() -> None:
    decision = await decide(ScriptedPieces(says=lambda text, i: "x" * 50), TextJudge(), token_limit=2)
    assert text(decision) == "x"


async def test_flagged_blocks_are_out_before_the_choice() -> None:
    judge = TextJudge(digit_sum, unsafe=lambda text: "3" in text)
    decision = await decide(ScriptedPieces(says=counting), judge)
    assert text(decision) == "2" * 12
    flagged = decision.rounds[0].pieces[3]
    assert flagged.verdict is not None and flagged.verdict.flagged == ["x"] and flagged.propensity == 0.0


async def test_where_all_blocks_are_flagged_another_round_is_drawn() -> None:
    calls = []

    def says(text: str, i: int) -> str:
        calls.append(text)
        return ("bad!" if len(calls) <= 4 else "good") + END

    sampler = ScriptedPieces(says=says)
    decision = await decide(sampler, TextJudge(unsafe=lambda text: "bad" in text), block=10)
    assert text(decision) == "good"
    assert [piece.kept for piece in decision.rounds[0].pieces] == [False] * 4 + [True] + [False] * 3


async def test_nothing_safe_and_nothing_released_is_a_refusal() -> None:
    sampler = ScriptedPieces(says=counting)
    decision = await decide(sampler, TextJudge(unsafe=lambda text: True))
    assert len(sampler.asked) == 2
    assert decision.order == ()
    assert decision.outcomes.refusal == 1.0
    assert decision.released_tokens is None
    assert all(one.flagged for one in decision.judged)


async def test_a_flag_midway_ends_a_stream_that_keeps_what_has_left() -> None:
    judge = TextJudge(digit_sum, unsafe=lambda text: len(text) > 4)
    decision, parts = await streamed(ScriptedPieces(says=counting), judge)
    assert told(parts) == "3333"
    assert decision.order == ()
    assert decision.released_tokens == 4
    assert {one.candidate.finish_reason for one in decision.judged} == {"content_filter"}


async def test_a_flag_midway_refuses_an_answer_that_is_held() -> None:
    decision = await decide(ScriptedPieces(says=counting), TextJudge(digit_sum, unsafe=lambda text: len(text) > 4))
    assert decision.order == () and decision.released_tokens is None


async def test_a_guard_that_cannot_answer_is_no_refusal() -> None:
    with pytest.raises(GuardUnavailable):
        await decide(ScriptedPieces(says=counting), TextJudge(unjudged=lambda text: True))


async def test_blocks_the_guard_could_not_read_are_passed_over_and_it_is_said() -> None:
    judge = TextJudge(digit_sum, unjudged=lambda text: "3" in text)
    decision = await decide(ScriptedPieces(says=counting), judge)
    assert text(decision) == "2" * 12
    assert decision.degraded == "guard_partial"


async def test_without_any_reward_the_first_safe_block_is_taken_and_it_is_said() -> None:
    judge = TextJudge(lambda text: None, unsafe=lambda text: text.startswith("0"))
    decision = await decide(ScriptedPieces(says=counting), judge)
    assert text(decision) == "1" * 4 + "0" * 8
    assert decision.degraded == "reward_unavailable"
    assert decision.outcomes.fallback == 1.0 and decision.outcomes.candidates == (0.0,)


async def test_some_rewards_missing_is_said_and_the_others_decide() -> None:
    judge = TextJudge(lambda text: None if "3" in text else digit_sum(text))
    decision = await decide(ScriptedPieces(says=counting), judge)
    assert text(decision) == "2" * 12
    assert decision.degraded == "reward_partial"


async def test_at_the_deadline_there_is_what_was_chosen_until_then() -> None:
    sampler = ScriptedPieces(says=counting, slow_s=lambda call: 60.0 if call == 2 else 0.0)
    progress = Progress()
    decision = await decide(sampler, TextJudge(digit_sum), seconds=0.3, progress=progress)
    assert text(decision) == "33333333"
    assert decision.judged[0].candidate.finish_reason == "length"
    assert decision.judged[0].reward == 24.0
    assert decision.degraded == "deadline"


async def test_a_deadline_before_the_first_block_is_a_504() -> None:
    with pytest.raises(DeadlineExceeded):
        await decide(ScriptedPieces(says=counting, slow_s=lambda call: 60.0), TextJudge(), seconds=0.1)


async def test_what_was_said_of_the_blocks_holds_where_the_last_judgement_does_not_come() -> None:
    judge = TextJudge(digit_sum, whole_late_s=60.0)
    decision = await decide(ScriptedPieces(says=counting), judge, seconds=0.3)
    assert text(decision) == "3" * 12
    assert decision.judged[0].reward == 36.0
    assert decision.judged[0].verdict is not None


async def test_scores_that_are_late_end_the_answer_before_their_block() -> None:
    judge = TextJudge(digit_sum, late_s=lambda text: 60.0 if len(text) > 8 else 0.0)
    decision = await decide(ScriptedPieces(says=counting), judge, seconds=0.3)
    assert text(decision) == "33333333"
    assert decision.degraded == "deadline"


async def test_a_stream_at_the_deadline_is_what_has_left() -> None:
    sampler = ScriptedPieces(says=counting, slow_s=lambda call: 60.0 if call == 1 else 0.0)
    decision, parts = await streamed(sampler, TextJudge(digit_sum), seconds=0.3)
    assert told(parts) == text(decision) == "3333"
    assert decision.released_tokens == 4
    assert decision.degraded == "deadline"


async def test_a_lost_worker_is_its_error() -> None:
    sampler = ScriptedPieces(says=counting, fails_at=1, error=WorkerError("gone"))
    with pytest.raises(WorkerError, match="gone"):
        await decide(sampler, TextJudge(digit_sum))


async def test_fewer_blocks_than_were_asked_for_are_said() -> None:
    decision = await decide(ScriptedPieces(says=counting, short=1), TextJudge(digit_sum))
    assert text(decision) == "2" * 12
    assert decision.degraded == "worker_partial"


@pytest.mark.parametrize(("n", "block"), [(4, 4), (4, 3), (2, 5), (4, 100)])
async def test_the_kl_bound_is_the_laws_for_so_many_blocks(n: int, block: int) -> None:
    # Twelve digits and the end: a block of 4 needs four of them. Every block has another text, so that none are pooled.
    decision = await decide(ScriptedPieces(says=counting), TextJudge(digit_sum), n=n, block=block)
    expected = kl(math.ceil(13 / block), n)
    assert len(decision.rounds) == math.ceil(13 / block)
    assert decision.outcomes.kl_bound == pytest.approx(expected)


async def test_the_propensity_of_each_block_is_its_rules() -> None:
    chooser = Chooser(SelectionConfig(rule="soft", temperature=0.5))
    decision = await decide(ScriptedPieces(says=counting), TextJudge(digit_sum), chooser=chooser)
    for one in decision.rounds[:-1]:
        assert math.fsum(piece.propensity for piece in one.pieces) == pytest.approx(1.0)
        assert 0 < min(piece.propensity for piece in one.pieces) < max(piece.propensity for piece in one.pieces) < 1
    assert decision.outcomes.candidates == (1.0,)
    places = [next(i for i, piece in enumerate(one.pieces) if piece.kept) for one in decision.rounds]
    after = [{piece.after for piece in one.pieces} for one in decision.rounds]
    assert after == [{0}, *({place} for place in places[:-1])]
    assert "".join(one.pieces[place].text for one, place in zip(decision.rounds, places, strict=True)) == text(decision)


async def test_equal_blocks_are_judged_once() -> None:
    judge = TextJudge(digit_sum)
    await decide(ScriptedPieces(says=lambda text, i: "1111" + END), judge, block=2)
    assert judge.read.count("11") == 1


async def test_a_stream_gives_each_block_as_it_is_chosen() -> None:
    sampler = ScriptedPieces(says=counting)
    decision, parts = await streamed(sampler, TextJudge(digit_sum))
    assert [part.delta.get("content") for part in parts] == ["3333", "3333", "3333", None]
    assert [part.tokens for part in parts] == [4, 4, 4, 1]
    assert told(parts) == text(decision)
    assert [token for part in parts for token in part.token_ids or []] == decision.judged[0].candidate.token_ids
    assert decision.released_tokens == 13


async def test_a_stop_string_over_the_border_of_blocks_ends_the_answer_and_never_leaves() -> None:
    sampler = ScriptedPieces(says=lambda text, i: "abcSTOPdef"[len(text) :] + END, stops=StopStrings(("STOP",)))
    decision, parts = await streamed(sampler, TextJudge(), n=1, block=2)
    assert told(parts) == text(decision) == "abc"
    assert decision.judged[0].candidate.finish_reason == "stop"
    assert decision.judged[0].candidate.stop_reason == "STOP"


async def test_what_looked_like_a_stop_string_leaves_once_it_is_none() -> None:
    sampler = ScriptedPieces(says=lambda text, i: "abSTab"[len(text) :] + END, stops=StopStrings(("STOP",)))
    decision, parts = await streamed(sampler, TextJudge(), n=1, block=2)
    assert told(parts) == text(decision) == "abSTab"
    assert "ST" not in told(parts[:2])


async def test_the_beginning_of_a_stop_string_at_the_token_limit_leaves() -> None:
    sampler = ScriptedPieces(says=lambda text, i: "abST" + "x" * 50, stops=StopStrings(("STOP",)))
    decision, parts = await streamed(sampler, TextJudge(), n=1, block=4, token_limit=4)
    assert told(parts) == text(decision) == "abST"


async def test_what_cannot_go_on_from_ids_is_best_of_n_and_it_is_said() -> None:
    sampler = WholeAnswers(says=counting, none=True)
    decision, parts = await streamed(sampler, TextJudge(digit_sum))
    assert (decision.instead, decision.because) == ("best_of_n", "not_continuable")
    assert text(decision) == "3" * 12
    assert parts == [] and decision.released_tokens is None


async def test_several_answers_are_best_of_n() -> None:
    decision = await decide(WholeAnswers(says=counting), TextJudge(digit_sum), deliver=2)
    assert decision.instead == "best_of_n"
    assert len(decision.order) == 4


async def test_a_final_check_that_flags_what_its_blocks_passed_ends_the_stream() -> None:
    judge = TextJudge(digit_sum)
    final = 0

    async def judged_as_a_whole(candidates: object) -> object:
        nonlocal final
        final += 1
        judge.unsafe = lambda text: True
        return await TextJudge.judge(judge, candidates)  # type: ignore[arg-type]

    judge.judge = judged_as_a_whole  # type: ignore[method-assign,assignment]
    decision, parts = await streamed(ScriptedPieces(says=counting), judge)
    assert final == 1
    assert decision.order == () and decision.released_tokens == sum(part.tokens for part in parts) == 13
