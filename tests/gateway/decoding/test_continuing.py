"""The pieces of an answer, from a pool of fake workers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.decoding.continuing import goes_on
from gateway.decoding.pieces import Pieces, Prefix, StopStrings, Withheld
from gateway.decoding.sampler import PoolSampler
from gateway.telemetry.waiting import WaitClock
from gateway.workers.client import CHAT_PATH, COMPLETIONS_PATH
from tests.fakes import FakeWorker
from tests.gateway.harness import running_gateway

TEXTS = ("one two three four", "one two six", "seven eight")
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi there"}], "max_tokens": 10}


@asynccontextmanager
async def sampling(folder: Path, body: dict[str, Any], **worker: Any) -> AsyncIterator[tuple[PoolSampler, FakeWorker]]:
    fake = FakeWorker(**{"pieces": True, "texts": TEXTS, **worker})
    async with running_gateway(folder, fake) as gateway:
        path = COMPLETIONS_PATH if "prompt" in body else CHAT_PATH
        yield PoolSampler(gateway.service.pools["policy"], body, body.get("seed"), WaitClock(), path), fake


async def begun(sampler: PoolSampler) -> Pieces:
    pieces = await sampler.pieces()
    assert pieces is not None
    return pieces


def said(prefixes: list[Prefix]) -> list[str]:
    return [one.message["content"] for one in prefixes]


async def test_pieces_go_on_from_token_ids_until_the_policy_ends(tmp_path: Path) -> None:
    async with sampling(tmp_path, HELLO) as (sampler, worker):
        pieces = await begun(sampler)
        [ways] = await pieces.continued([Prefix()], 3, 2)
        assert said(ways) == ["one two ", "one two ", "seven eight"]
        assert [one.finish_reason for one in ways] == [None, None, None]
        [on] = await pieces.continued([ways[0]], 2, 2)
        assert said(on) == ["one two three four", "one two six"]
        assert [one.finish_reason for one in on] == [None, "stop"]
        assert worker.requests[1]["prompt"] == [0, 1, *ways[0].token_ids]
        # What ended it is one of its tokens and none of its text.
        assert len(on[1].token_ids) == 4
        assert sampler.sampled_tokens == 6 + 4
        assert sampler.prompt_tokens == 2


async def test_several_beginnings_go_on_in_one_request(tmp_path: Path) -> None:
    async with sampling(tmp_path, HELLO) as (sampler, worker):
        pieces = await begun(sampler)
        [ways] = await pieces.continued([Prefix()], 3, 1)
        grown = await pieces.continued([ways[0], ways[2]], 2, 9)
        assert [said(one) for one in grown] == [["one two three four", "one two six"], ["seven eight", "seven eight"]]
        assert len(worker.requests) == 2
        assert [len(prompt) for prompt in worker.requests[1]["prompt"]] == [3, 3]
        assert worker.requests[1]["n"] == 2


async def test_what_a_worker_lost_of_several_beginnings_is_sampled_again(tmp_path: Path) -> None:
    async with sampling(tmp_path, HELLO) as (sampler, worker):
        pieces = await begun(sampler)
        [ways] = await pieces.continued([Prefix()], 3, 1)
        # Six ways of at most two words: it breaks after the first beginning's and one of the second's.
        worker.lose_once = 5
        grown = await pieces.continued([ways[0], ways[2]], 2, 2)
        assert [said(one) for one in grown] == [["one two three ", "one two six"], ["seven eight", "seven eight"]]
        assert len(worker.requests[2]["prompt"]) == 1


async def test_no_two_pieces_share_seed_and_beginning(tmp_path: Path) -> None:
    async with sampling(tmp_path, {**HELLO, "seed": 100}) as (sampler, worker):
        pieces = await begun(sampler)
        [ways] = await pieces.continued([Prefix()], 3, 1)
        [again] = await pieces.continued([Prefix()], 3, 1)
        grown = await pieces.continued([ways[0], ways[2]], 2, 1)
        [last] = await pieces.continued([grown[0][0]], 2, 1)
        assert [one.seed for one in ways] == [100, 101, 102]
        assert [one.seed for one in again] == [103, 104, 105]
        assert [[one.seed for one in ways] for ways in grown] == [[106, 107], [106, 107]]
        assert [one.seed for one in last] == [110, 111]
        assert [request["seed"] for request in worker.requests] == [100, 103, 106, 110]


async def test_a_piece_that_ends_with_the_separator_keeps_it_and_goes_on(tmp_path: Path) -> None:
    texts = ("a b\n\nc d", "a e\n\nf")
    async with sampling(tmp_path, HELLO, texts=texts) as (sampler, worker):
        pieces = await begun(sampler)
        [ways] = await pieces.continued([Prefix()], 2, 9, "\n\n")
        assert said(ways) == ["a b\n\n", "a e\n\n"]
        assert [one.finish_reason for one in ways] == [None, None]
        assert worker.requests[0]["stop"] == ["\n\n"] and worker.requests[0]["include_stop_str_in_output"]
        [on] = await pieces.continued([ways[0]], 1, 9, "\n\n")
        assert said(on) == ["a b\n\nc d"] and on[0].finish_reason == "stop"


async def test_a_clients_stop_string_over_two_pieces_cuts_text_and_ids(tmp_path: Path) -> None:
    body = {**HELLO, "stop": "two three"}
    async with sampling(tmp_path, body, texts=("one two three four five",)) as (sampler, worker):
        pieces = await begun(sampler)
        [[first]] = await pieces.continued([Prefix()], 1, 2)
        [[second]] = await pieces.continued([first], 1, 3)
        assert second.message["content"] == "one "
        assert (second.finish_reason, second.stop_reason) == ("stop", "two three")
        assert len(second.token_ids) == 3
        assert "stop" not in worker.requests[0]
        growing = pieces.growing()
        assert await growing.add(first) == {}
        assert await growing.add(second) == {"content": "one "}


async def test_an_answer_at_its_limit_ends_with_length(tmp_path: Path) -> None:
    async with sampling(tmp_path, {**HELLO, "max_tokens": 3}) as (sampler, _):
        pieces = await begun(sampler)
        [[first]] = await pieces.continued([Prefix()], 1, 2)
        [[second]] = await pieces.continued([first], 1, 1)
        assert (first.finish_reason, second.finish_reason) == (None, "length")


async def test_reasoning_is_read_by_the_workers_parser(tmp_path: Path) -> None:
    async with sampling(tmp_path, HELLO, texts=("<think>so </think>yes indeed",)) as (sampler, _):
        pieces = await begun(sampler)
        growing = pieces.growing()
        [[first]] = await pieces.continued([Prefix()], 1, 2)
        [[whole]] = await pieces.continued([first], 1, 9)
        assert whole.message == {"role": "assistant", "reasoning": "so ", "content": "yes indeed"}
        assert await growing.add(first) == {"reasoning": "so ", "content": "yes "}
        assert await growing.add(whole) == {"reasoning": "", "content": "indeed"}


@pytest.mark.parametrize("body", [HELLO, {"prompt": [1, 2, 3], "max_tokens": 10}], ids=["chat", "text"])
async def test_a_worker_that_does_not_derender_is_read_as_plain_text(tmp_path: Path, body: dict[str, Any]) -> None:
    async with sampling(tmp_path, body, derenders=False) as (sampler, _):
        pieces = await begun(sampler)
        growing = pieces.growing()
        [[first]] = await pieces.continued([Prefix()], 1, 2)
        [[second]] = await pieces.continued([first], 1, 9)
        assert said([first, second]) == ["one two ", "one two three four"]
        assert [await growing.add(first), await growing.add(second)] == [
            {"content": "one two "},
            {"content": "three four"},
        ]


async def test_a_text_completion_from_ids_goes_on_as_text(tmp_path: Path) -> None:
    async with sampling(tmp_path, {"prompt": [1, 2, 3], "max_tokens": 10}) as (sampler, worker):
        pieces = await begun(sampler)
        [[first]] = await pieces.continued([Prefix()], 1, 2)
        assert first.message["content"] == "one two "
        assert await pieces.growing().add(first) == {"content": "one two "}
        assert worker.requests[0]["prompt"] == [1, 2, 3]


async def test_tools_need_a_worker_that_derenders(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    async with sampling(tmp_path, {**HELLO, "tools": tools}, derenders=False) as (sampler, _):
        assert await sampler.pieces() is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"presence_penalty": 0, "frequency_penalty": 0.0, "repetition_penalty": 1.0},
        {"response_format": {"type": "text"}},
        {"logprobs": False},
        {"stop": ["a"]},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    ],
)
def test_what_only_the_ids_steer_goes_on(fields: dict[str, Any]) -> None:
    assert goes_on({**HELLO, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"presence_penalty": 0.1},
        {"repetition_penalty": 1.1},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": "a"}},
        {"logprobs": True},
        {"logprobs": 0},
        {"min_tokens": 4},
        {"tool_choice": "required"},
        {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "stop": "a"},
        {"reasoning_effort": "low"},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    ],
)
def test_what_steers_by_more_than_ids_does_not_go_on(fields: dict[str, Any]) -> None:
    assert not goes_on({**HELLO, **fields})


def test_the_stop_string_that_was_complete_first_cuts() -> None:
    stops = StopStrings(("later", "b c"))
    assert stops.cut({"role": "assistant", "content": "a b c later"}) == ({"role": "assistant", "content": "a "}, "b c")
    kept = StopStrings(("b c",), kept=True)
    assert kept.cut({"role": "assistant", "content": "a b c d"}) == ({"role": "assistant", "content": "a b c"}, "b c")
    assert stops.cut({"role": "assistant", "content": "a b"}) is None


def test_a_stop_string_in_the_reasoning_leaves_no_content() -> None:
    cut = StopStrings(("x",)).cut({"role": "assistant", "reasoning": "a x b", "content": "c"})
    assert cut == ({"role": "assistant", "reasoning": "a ", "content": None}, "x")


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("text", ["abSTOPcd", "abSTcdSTOP", "SSTSTOP", "nothing", "endsinSTO"])
def test_however_a_text_is_split_the_same_of_it_leaves(text: str, size: int) -> None:
    stops = StopStrings(("STOP",))
    withheld, left = Withheld(stops), ""
    for start in range(0, len(text), size):
        delta = withheld.add({"content": text[start : start + size]}, ended=start + size >= len(text))
        left += delta.get("content", "")
        assert text.partition("STOP")[0].startswith(left)
    assert left == text.partition("STOP")[0]


def test_a_text_kept_back_leaves_before_the_next_field() -> None:
    withheld = Withheld(StopStrings(("STOP",)))
    assert withheld.add({"reasoning": "so ST"}, ended=False) == {"reasoning": "so"}
    assert withheld.add({"content": "yes"}, ended=True) == {"reasoning": " ST", "content": "yes"}
