"""Answers that are built block by block, over HTTP, in front of fakes."""

from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeScorers, FakeWorker
from tests.gateway.api.completions.test_completions import events, eventually, texts_of
from tests.gateway.api.completions.test_completions import streamed as completions_streamed
from tests.gateway.api.responses.test_routes import streamed as responses_streamed
from tests.gateway.api.responses.test_routes import text_of
from tests.gateway.api.test_chat_stream import frames, said
from tests.gateway.harness import Harness, running_gateway

TEXTS = ("it is a mild day", "it is a bright and very windy night", "no")
BEST = "it is a bright and very windy night"
BLOCKS: dict[str, Any] = {"strategy": "blockwise", "options": {"block_tokens": 4}, "stream_mode": "block", "n": 3}


def worker(*texts: str, **more: Any) -> FakeWorker:
    return FakeWorker(texts=texts or TEXTS, pieces=True, **more)


async def test_a_stream_gets_each_block_as_it_is_chosen(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker(), **BLOCKS) as gateway:
        status, _, found = await frames(gateway, stream_options={"include_usage": True}, return_token_ids=True)
    assert status == 200
    deltas = [frame["choices"][0]["delta"] for frame in found[:-1] if frame.get("choices")]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ["it is a bright ", "and very windy night"]
    ids = [token for frame in found[:-1] for choice in frame["choices"] for token in choice.get("token_ids", ())]
    assert "".join(gateway.worker.vocabulary[token - 1000] for token in ids[:-1]) == BEST
    [carrier] = [frame for frame in found[:-1] if "guidance" in frame]
    assert carrier["choices"][0]["finish_reason"] == "stop"
    receipt = carrier["guidance"]
    assert (receipt["strategy"], receipt["sampled"], receipt["reward"]) == ("blockwise", 1, len(BEST))
    # Eight words and the end.
    assert found[-2]["usage"] == {"prompt_tokens": 1, "completion_tokens": 9, "total_tokens": 10}
    assert found[0]["prompt_token_ids"] == [0]
    [logged] = gateway.interactions
    assert (logged.strategy, logged.stream_mode, logged.outcome) == ("blockwise", "block", "delivered")
    assert [[piece.kept for piece in one.pieces].index(True) for one in logged.rounds] == [1, 0, 0]
    assert logged.usage.sampled_tokens == sum(piece.tokens for one in logged.rounds for piece in one.pieces)
    assert logged.candidates[0].message["content"] == BEST


async def test_the_first_block_leaves_while_the_next_is_sampled(tmp_path: Path) -> None:
    long = worker(" ".join(["word"] * 12), word_s=0.1)
    async with running_gateway(tmp_path, long, **{**BLOCKS, "n": 1}) as gateway:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        async with gateway.session.post("/v1/chat/completions", json=body) as reply:
            while b"word" not in await reply.content.readline():
                pass
            assert len(gateway.worker.requests) < 3
            await reply.read()
    assert len(gateway.worker.requests) == 4


async def test_a_text_completion_streams_its_blocks(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker(), **BLOCKS) as gateway:
        status, _, text = await completions_streamed(gateway)
        chunks = events(text)
    assert status == 200
    assert texts_of(chunks) == {0: BEST}
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["it is a bright ", "and very windy night", "", ""]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert gateway.interactions[0].stream_mode == "block"


async def test_a_response_streams_its_blocks(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker(), **BLOCKS) as gateway:
        found = await responses_streamed(gateway, store=False)
    deltas = [event["delta"] for event in found if event["type"] == "response.output_text.delta"]
    assert deltas == ["it is a bright ", "and very windy night"]
    assert found[-1]["type"] == "response.completed"
    assert text_of(found[-1]["response"]) == BEST


async def test_reasoning_streams_apart_from_the_answer(tmp_path: Path) -> None:
    thinking = worker("<think>let me see what </think>it is that you want")
    async with running_gateway(tmp_path, thinking, **BLOCKS) as gateway:
        _, _, found = await frames(gateway)
    choices = [choice["delta"] for frame in found[:-1] for choice in frame["choices"]]
    assert "".join(delta.get("reasoning", "") for delta in choices) == "let me see what "
    assert said(found) == "it is that you want"
    assert gateway.interactions[0].candidates[0].message["reasoning"] == "let me see what "


async def test_without_a_stream_the_answer_is_the_same(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker(), **BLOCKS) as gateway:
        status, _, body = await gateway.chat()
    assert (status, body["choices"][0]["message"]["content"]) == (200, BEST)
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == 9
    assert body["guidance"]["usage"]["completion_tokens"] == gateway.interactions[0].usage.sampled_tokens > 9


async def test_a_held_stream_gets_it_at_once(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker(), **{**BLOCKS, "stream_mode": "hold"}) as gateway:
        _, _, found = await frames(gateway)
    assert [choice["delta"].get("content") for frame in found[:-1] for choice in frame["choices"]] == ["", BEST, None]


async def test_a_worker_without_derender_gives_the_same_text(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker(derenders=False), **BLOCKS) as gateway:
        status, _, found = await frames(gateway)
    assert (status, said(found)) == (200, BEST)


@pytest.mark.parametrize(
    "fields", [{"logprobs": True}, {"presence_penalty": 0.5}, {"response_format": {"type": "json_object"}}]
)
async def test_what_cannot_be_continued_is_best_of_n_and_still_reaches_the_stream(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    lenient = worker("a", "bbb", "cc", lenient=True)
    async with running_gateway(tmp_path, lenient, **BLOCKS) as gateway:
        status, _, found = await frames(gateway, **fields)
    assert (status, said(found)) == (200, "bbb")
    [logged] = gateway.interactions
    assert (logged.strategy, len(logged.candidates), logged.outcome) == ("best_of_n", 3, "delivered")


async def test_a_text_completion_that_cannot_be_continued_still_reaches_the_stream(tmp_path: Path) -> None:
    lenient = worker("a", "bbb", "cc", lenient=True)
    async with running_gateway(tmp_path, lenient, **BLOCKS) as gateway:
        status, _, text = await completions_streamed(gateway, presence_penalty=0.5)
    assert (status, texts_of(events(text))) == (200, {0: "bbb"})


async def test_several_choices_are_best_of_n(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker("a", "bbb", "cc"), **BLOCKS) as gateway:
        _, _, body = await gateway.chat(n=2)
    assert [choice["message"]["content"] for choice in body["choices"]] == ["bbb", "cc"]
    assert gateway.interactions[0].strategy == "best_of_n"


async def test_stop_strings_over_blocks_end_the_answer(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker(), **BLOCKS) as gateway:
        _, _, found = await frames(gateway, stop=["bright and"])
    assert said(found) == "it is a "
    [end] = [choice for frame in found[:-1] for choice in frame["choices"] if choice["finish_reason"]]
    assert (end["finish_reason"], end["stop_reason"]) == ("stop", "bright and")


async def test_an_unsafe_block_never_leaves_and_ends_the_stream(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, unsafe_words=frozenset({"windy", "day"}))
    async with running_gateway(tmp_path, worker(*TEXTS[:2]), scorers, **BLOCKS) as gateway:
        _, _, found = await frames(gateway)
    assert said(found) == "it is a bright "
    ends = [choice["finish_reason"] for frame in found[:-1] for choice in frame["choices"]]
    assert ends[-1] == "content_filter"
    [logged] = gateway.interactions
    assert (logged.outcome, logged.selection and logged.selection.refusal) == ("refused_candidates", 1.0)
    assert logged.usage.completion_tokens == 4


async def test_where_nothing_is_safe_the_stream_is_a_refusal(tmp_path: Path) -> None:
    scorers = FakeScorers(rewards=len, unsafe_words=frozenset({"it", "no"}))
    async with running_gateway(tmp_path, worker(), scorers, **BLOCKS) as gateway:
        _, _, found = await frames(gateway)
    assert said(found) == "No."
    assert gateway.interactions[0].outcome == "refused_candidates"


async def test_a_client_that_leaves_aborts_the_blocks(tmp_path: Path) -> None:
    long = worker(" ".join(["word"] * 400), word_s=0.05)
    async with running_gateway(tmp_path, long, **{**BLOCKS, "n": 1}) as gateway:
        await _leave(gateway)
        await eventually(lambda: not gateway.worker.running and bool(gateway.interactions))
    [logged] = gateway.interactions
    assert logged.outcome == "cancelled"
    assert logged.candidates[0].message["content"].startswith("word word")


async def _leave(gateway: Harness) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 400}
    async with gateway.session.post("/v1/chat/completions", json=body) as reply:
        while b"word" not in await reply.content.readline():
            pass


async def test_token_ids_are_logged_only_where_the_log_keeps_them(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker(), **BLOCKS) as gateway:
        await gateway.chat()
        keeps = gateway.service.config.log.token_ids
    pieces = [piece for one in gateway.interactions[0].rounds for piece in one.pieces]
    assert pieces and all((piece.token_ids is not None) == keeps for piece in pieces)


async def test_each_round_has_seeds_of_its_own(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker(), **BLOCKS) as gateway:
        await gateway.chat(seed=7)
    assert [request["seed"] for request in gateway.worker.requests] == [7, 10, 13]
