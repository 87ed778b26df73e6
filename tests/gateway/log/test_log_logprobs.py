"""Log-probabilities of delivered answers: asked for by the gateway, kept beside the token ids, shown to nobody."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config import LogConfig
from gateway.log.records import Interaction, Record
from tests.fakes import FakeScorers, FakeWorker, logprob
from tests.gateway.api.completions.test_completions import complete, events
from tests.gateway.api.completions.test_completions import streamed as completion_streamed
from tests.gateway.api.test_blocks import BLOCKS
from tests.gateway.api.test_blocks import worker as pieces
from tests.gateway.api.test_chat_stream import LIVE, frames, said
from tests.gateway.harness import running_gateway

TEXTS = ["a b", "a b c d", "a b c", "a"]
ON = {"logprobs": True}


def worker() -> FakeWorker:
    return FakeWorker(texts=TEXTS)


def check(records: list[Record], tokens: int) -> None:
    """The one interaction's delivered answers have one for each token, and no other has any."""
    [record] = records
    assert isinstance(record, Interaction)
    for position, candidate in enumerate(record.candidates):
        if position in record.delivered:
            assert candidate.token_ids and len(candidate.token_ids) == tokens
            assert candidate.logprobs == [logprob(one) for one in candidate.token_ids]
        else:
            assert candidate.logprobs is None


async def test_they_are_not_asked_for_unless_configured(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker()) as gateway:
        await gateway.chat()
        assert "logprobs" not in gateway.worker.requests[0]
        assert all(one.logprobs is None for one in gateway.interactions[0].candidates)


async def test_those_of_the_chosen_are_kept_and_the_client_gets_what_it_asked_for(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker(), log=ON) as gateway:
        _, _, answer = await gateway.chat()
        assert gateway.worker.requests[0]["logprobs"] is True
        assert answer["choices"][0]["logprobs"] is None
        check(gateway.accepted, 4)
        assert "logprobs" not in gateway.interactions[0].parameters


async def test_the_answer_is_the_same_with_them_and_without(tmp_path: Path) -> None:
    answers = []
    for on in (False, True):
        async with running_gateway(tmp_path / str(on), worker(), log={"logprobs": on}) as gateway:
            _, _, answer = await gateway.chat(n=2, return_token_ids=True)
            answers.append([{**choice} for choice in answer["choices"]])
    assert answers[0] == answers[1]


async def test_a_client_that_asks_gets_them_and_the_log_keeps_them(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker()) as gateway:
        _, _, answer = await gateway.chat(logprobs=True)
        said_of = [token["logprob"] for token in answer["choices"][0]["logprobs"]["content"]]
        check(gateway.accepted, 4)
        assert said_of == gateway.interactions[0].candidates[1].logprobs


@pytest.mark.parametrize("stream", [False, True])
async def test_a_text_completion_has_them_too(tmp_path: Path, stream: bool) -> None:
    async with running_gateway(tmp_path, worker(), log=ON) as gateway:
        if stream:
            _, _, text = await completion_streamed(gateway)
            choices = [choice for chunk in events(text) for choice in chunk["choices"]]
        else:
            choices = (await complete(gateway))[2]["choices"]
        assert gateway.worker.requests[0]["logprobs"] == 0
        assert all(choice["logprobs"] is None for choice in choices)
        check(gateway.accepted, 4)


async def test_a_text_completion_that_asks_for_none_beside_the_tokens_gets_those(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker(), log=ON) as gateway:
        _, _, answer = await complete(gateway, logprobs=0)
        assert answer["choices"][0]["logprobs"]["token_logprobs"] == [logprob(one) for one in range(4)]
        check(gateway.accepted, 4)


@pytest.mark.parametrize("mode", [{}, LIVE])
async def test_streams_do_not_show_them(tmp_path: Path, mode: dict[str, Any]) -> None:
    profile = {"n": 4, **mode}
    async with running_gateway(tmp_path, FakeWorker(texts=["a b c d"] * 4), log=ON, **profile) as gateway:
        _, _, found = await frames(gateway)
        assert said(found) == "a b c d"
        assert all(choice["logprobs"] is None for frame in found[:-1] for choice in frame["choices"])
        check(gateway.accepted, 4)


async def test_an_answer_that_is_built_of_pieces_has_them(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, pieces(), log=ON, **BLOCKS) as gateway:
        _, _, found = await frames(gateway)
        assert said(found) == "it is a bright and very windy night"
        assert all(request["logprobs"] == 0 for request in gateway.worker.requests)
        check(gateway.accepted, 9)


async def test_an_answer_that_ends_at_a_stop_string_has_those_up_to_it(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, pieces(), log=ON, **BLOCKS) as gateway:
        _, _, found = await frames(gateway, stop=["windy"])
        assert said(found) == "it is a bright and very "
        check(gateway.accepted, 7)


async def test_they_go_with_the_token_ids_where_redaction_changes_the_text(tmp_path: Path) -> None:
    texts = FakeWorker(texts=["write to ada@example.com", "no"])
    async with running_gateway(tmp_path, texts, FakeScorers(rewards=len), n=2, log=ON) as gateway:
        await gateway.chat()
        record, _ = gateway.service.log.privacy.prepared(gateway.interactions[0])
    assert isinstance(record, Interaction)
    changed, unchanged = record.candidates
    assert (record.chosen, changed.token_ids, changed.logprobs) == (0, None, None)
    assert unchanged.token_ids == [0]
    assert gateway.interactions[0].candidates[0].logprobs


@pytest.mark.parametrize(
    "fields",
    [{"store": False}, {"top_logprobs": 2}],
    ids=["nothing is stored", "the worker would refuse it without ours"],
)
async def test_they_are_not_asked_for_where_that_would_be_in_vain_or_change_the_answer(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    async with running_gateway(tmp_path, worker(), log=ON) as gateway:
        await gateway.chat(**fields)
        assert "logprobs" not in gateway.worker.requests[0]


async def test_where_a_prompt_is_echoed_its_own_would_come_along(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker(), log=ON, n=1, safety=None) as gateway:
        await complete(gateway, echo=True)
        assert "logprobs" not in gateway.worker.requests[0]


async def test_without_token_ids_none_are_kept(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, worker(), log={"token_ids": False}) as gateway:
        await gateway.chat(logprobs=True)
        assert all(one.token_ids is None and one.logprobs is None for one in gateway.interactions[0].candidates)
    with pytest.raises(ValidationError, match="set token_ids: true"):
        LogConfig.model_validate({"token_ids": False, "logprobs": True})
