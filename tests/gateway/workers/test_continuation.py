"""How a live stream goes on after its worker was lost."""

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.workers.continuation import continuation
from gateway.workers.stream import Accumulator, Part

PROMPT = [7, 8, 9]
# Ids 0 to 25 are letters; 100 and 101 are the two halves of one character.
HALVES = {(100,): "\ufffd", (100, 101): "é"}


async def detokenize(ids: Sequence[int]) -> str:
    text, rest = "", list(ids)
    while rest:
        pair = tuple(rest[:2])
        if pair in HALVES:
            text, rest = text + HALVES[pair], rest[2:]
        else:
            text, rest = text + (HALVES.get((rest[0],)) or chr(97 + rest[0])), rest[1:]
    return text


def sampled(text: str, ids: list[int], **delta: Any) -> Accumulator:
    found = Accumulator()
    found.add(Part(0, {"content": text, **delta}, None, ids, len(ids)))
    return found


async def test_it_goes_on_from_the_ids_of_prompt_and_answer_with_the_tokens_that_are_left() -> None:
    body = {"messages": [], "temperature": 0.7, "max_tokens": 10, "min_tokens": 4, "cache_salt": "s"}
    plan = await continuation(body, PROMPT, sampled("abc", [0, 1, 2]), detokenize)
    assert plan is not None
    assert plan.body == {
        "prompt": [*PROMPT, 0, 1, 2],
        "temperature": 0.7,
        "max_tokens": 7,
        "min_tokens": 1,
        "cache_salt": "s",
    }
    assert plan.owed == ""


async def test_text_that_the_worker_held_back_is_owed() -> None:
    plan = await continuation({"max_tokens": 9}, PROMPT, sampled("ab", [0, 1, 2]), detokenize)
    assert plan is not None
    assert (plan.kept, plan.owed) == (3, "c")


async def test_half_a_character_is_sampled_again() -> None:
    plan = await continuation({"max_tokens": 9}, PROMPT, sampled("ab", [0, 1, 100]), detokenize)
    assert plan is not None
    assert (plan.kept, plan.owed) == (2, "")
    assert plan.body["prompt"] == [*PROMPT, 0, 1]


async def test_a_whole_character_of_two_ids_is_kept() -> None:
    plan = await continuation({"max_tokens": 9}, PROMPT, sampled("aé", [0, 100, 101]), detokenize)
    assert plan is not None
    assert plan.kept == 3


@pytest.mark.parametrize(
    "field",
    [
        {"tools": [{}]},
        {"response_format": {"type": "json_object"}},
        {"stop": ["x"]},
        {"logprobs": True},
        {"presence_penalty": 0.5},
        {"repetition_penalty": 1.1},
    ],
)
async def test_what_steers_by_the_answer_so_far_does_not_go_on(field: dict[str, Any]) -> None:
    assert await continuation({"max_tokens": 9, **field}, PROMPT, sampled("ab", [0, 1]), detokenize) is None


async def test_without_the_prompts_ids_it_does_not_go_on() -> None:
    assert await continuation({"max_tokens": 9}, None, sampled("ab", [0, 1]), detokenize) is None


async def test_where_a_parser_reads_the_text_it_does_not_go_on() -> None:
    with_reasoning = sampled("ab", [0, 1], reasoning="hm")
    assert await continuation({"max_tokens": 9}, PROMPT, with_reasoning, detokenize) is None


async def test_where_ids_were_hidden_it_does_not_go_on() -> None:
    found = Accumulator()
    found.add(Part(0, {"content": "ab"}, None, None, 2))
    assert await continuation({"max_tokens": 9}, PROMPT, found, detokenize) is None


async def test_text_that_the_ids_do_not_say_does_not_go_on() -> None:
    assert await continuation({"max_tokens": 9}, PROMPT, sampled("xy", [0, 1]), detokenize) is None


async def test_with_all_its_tokens_sampled_there_is_nothing_to_go_on_with() -> None:
    assert await continuation({"max_tokens": 2}, PROMPT, sampled("ab", [0, 1]), detokenize) is None
