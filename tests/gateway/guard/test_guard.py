import asyncio
from typing import Any

from gateway.guard.guard import Guard
from gateway.guard.verdict import Rules
from gateway.scoring import Conversation
from scorers.errors import BadScoreRequest, ScorerUnavailable
from tests.gateway.scorer_stubs import StubClient, classifier, handle

PROMPT = Conversation([{"role": "user", "content": "hi"}])
ANSWER = {"role": "assistant", "content": "text"}
DOWN = ScorerUnavailable("no")


def guard_of(*clients: StubClient, rules: Rules | None = None) -> Guard:
    return Guard([handle(f"g{index}", client) for index, client in enumerate(clients)], rules or Rules(0.5))


def passing(**more: Any) -> StubClient:
    return classifier(lambda text: 0.1, **more)


def flagging() -> StubClient:
    return classifier(lambda text: 0.9)


async def test_a_text_that_one_flags_is_not_shown_to_the_next() -> None:
    cheap, dear = flagging(), passing()
    verdict = await guard_of(cheap, dear).check_candidate(PROMPT, ANSWER)
    assert verdict.flagged == ["insult"]
    assert (len(cheap.requests), len(dear.requests)) == (1, 0)
    assert list(verdict.guards) == ["g0@1"]


async def test_what_passes_all_have_read_and_each_ones_say_is_kept() -> None:
    cheap, dear = passing(), classifier(lambda text: 0.3, "other")
    verdict = await guard_of(cheap, dear).check_candidate(PROMPT, ANSWER)
    assert verdict.flagged == []
    assert verdict.categories == {"insult": 0.1, "danger": 0.0, "other": 0.3}
    assert verdict.guards == {"g0@1": {"insult": 0.1, "danger": 0.0}, "g1@1": {"other": 0.3, "danger": 0.0}}


async def test_what_one_only_notes_is_shown_to_the_next() -> None:
    cheap, dear = flagging(), flagging()
    rules = Rules(0.5, actions={"g0:insult": "flag"})
    verdict = await guard_of(cheap, dear, rules=rules).check_candidate(PROMPT, ANSWER)
    assert (verdict.noted, verdict.flagged) == (["insult"], ["insult"])
    assert len(dear.requests) == 1


async def test_a_guard_alone_writes_down_its_categories_once() -> None:
    verdict = await guard_of(passing()).check_candidate(PROMPT, ANSWER)
    assert verdict.categories and not verdict.guards


async def test_one_that_cannot_answer_is_no_pass_whatever_the_others_say() -> None:
    for clients in ((passing(failure=DOWN), passing()), (passing(), passing(failure=DOWN))):
        verdict = await guard_of(*clients).check_candidate(PROMPT, ANSWER)
        assert verdict.error is not None and not verdict.flagged
        assert all(len(client.requests) == 1 for client in clients)


async def test_what_another_flags_is_unsafe_though_one_cannot_answer() -> None:
    verdict = await guard_of(passing(failure=DOWN), flagging()).check_candidate(PROMPT, ANSWER)
    assert verdict.flagged == ["insult"]


async def test_content_that_one_cannot_read_is_unreadable() -> None:
    verdict = await guard_of(passing(failure=BadScoreRequest("an image")), passing()).check_prompt(PROMPT)
    assert verdict is not None and verdict.unreadable


async def test_a_guard_that_cannot_judge_a_prompt_alone_reads_answers_only() -> None:
    of_answers, of_both = flagging(), passing()
    guard = Guard([handle("a", of_answers, prompt_only=False), handle("b", of_both)], Rules(0.5))
    verdict = await guard.check_prompt(PROMPT)
    assert verdict is not None and not verdict.flagged
    assert (len(of_answers.requests), len(of_both.requests)) == (0, 1)
    assert (await guard.check_candidate(PROMPT, ANSWER)).flagged
    assert of_answers.requests[0].candidates == [ANSWER]


async def test_where_none_reads_prompts_there_is_no_verdict_on_one() -> None:
    assert await Guard([handle("a", flagging(), prompt_only=False)], Rules(0.5)).check_prompt(PROMPT) is None


async def test_what_is_not_answered_by_the_deadline_is_an_error() -> None:
    deadline = asyncio.get_running_loop().time() + 0.05
    verdict = await guard_of(passing(delay_s=30.0)).check_candidate(PROMPT, ANSWER, deadline)
    assert verdict.error == "it was not answered by the deadline"


def test_its_version_names_all_in_order() -> None:
    assert guard_of(passing(), passing()).version == "g0@1+g1@1"
