"""The moderation endpoint of another: what is sent, what is believed, and what its failures become."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scorers.contract import Message, Score, ScoreRequest
from scorers.errors import BadScoreRequest, Overloaded, ScorerError, ScorerFailed, ScorerUnavailable, Unauthorized
from scorers.guards.moderation import MAX_INPUTS, ModerationScorer, load, windows
from scorers.loading import Loading
from scorers.model_path import LoadError
from scorers.scorer_settings import ModerationConfig
from scorers.settings import ScorerServerConfig
from tests.certificates import Authority
from tests.scorers.guards.moderation_fake import NAMES, FakeModeration, raw, serving, with_status

USER: Message = {"role": "user", "content": "Hello"}
ZERO = dict.fromkeys(NAMES, 0.01)


def load_at(url: str, *, limit: int = 64, window: int = 2000, **endpoint: Any) -> tuple[ModerationScorer, str]:
    config = ModerationConfig.model_validate(
        {"kind": "moderation", "endpoint": {"url": url, **endpoint}, "window": window}
    )
    return load("outside", config, Loading(ScorerServerConfig(max_queue=limit)))


@contextlib.asynccontextmanager
async def guard(fake: FakeModeration, **options: Any) -> AsyncIterator[ModerationScorer]:
    async with serving(fake) as url:
        scorer, _ = await asyncio.to_thread(load_at, url, **options)
        fake.texts.clear()
        fake.models.clear()
        fake.begun.clear()
        yield scorer
        await scorer.close()


def asking(*texts: str, messages: list[Message] | None = None) -> ScoreRequest:
    candidates: list[Message] = [{"role": "assistant", "content": text} for text in texts]
    return ScoreRequest("outside", messages or [USER], candidates)


async def test_it_tells_what_it_can_do_and_learns_the_categories_from_harmless_texts() -> None:
    fake = FakeModeration()
    async with serving(fake) as url:
        scorer, words = await asyncio.to_thread(load_at, f"{url}/", model="omni")
    info = scorer.info
    assert (info.id, info.kind, info.gives, info.version) == ("outside", "moderation", "categories", "outside@1")
    assert (info.prompt_only, info.partial, info.max_tokens) == (True, True, 0)
    assert info.categories == NAMES and "harassment/threatening" in NAMES
    assert fake.texts == [["Good morning.", "The sun is shining."]] and fake.models == ["omni"]
    assert words == f"{url} omni, categories: {', '.join(NAMES)}"


async def test_candidates_go_in_one_call_and_their_scores_come_back_in_order() -> None:
    fake = FakeModeration()
    async with guard(fake) as scorer:
        scores = await scorer.score(asking("violence=0.9", "fine", "self-harm=1", messages=[{"content": "unseen"}]))
    assert scores == [
        Score(categories=ZERO | {"violence": 0.9}),
        Score(categories=ZERO),
        Score(categories=ZERO | {"self-harm": 1.0}),
    ]
    assert fake.texts == [["violence=0.9", "fine", "self-harm=1"]] and fake.models == [None]


async def test_all_of_a_candidate_is_sent() -> None:
    fake = FakeModeration()
    call = {"function": {"name": "buy", "arguments": json.dumps({"item": "rope"})}}
    candidate = {"content": "Yes.", "reasoning_content": "Hm.", "tool_calls": [call]}
    async with guard(fake) as scorer:
        await scorer.score(ScoreRequest("outside", [USER], [candidate]))
    [[text]] = fake.texts
    assert {"Yes.", "Hm.", "buy", "item", "rope"} == set(text.split("\n\n"))


async def test_a_prompt_is_judged_as_all_the_text_of_its_messages() -> None:
    fake = FakeModeration()
    messages: list[Message] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "violence=0.5"}]},
        {"role": "assistant", "content": "No."},
    ]
    async with guard(fake) as scorer:
        assert await scorer.score(asking(messages=messages)) == [Score(categories=ZERO | {"violence": 0.5})]
    assert fake.texts == [["Be kind.\n\nviolence=0.5\n\nNo."]]


async def test_a_long_text_goes_in_pieces_of_which_the_worst_counts() -> None:
    fake = FakeModeration()
    text = "violence=0.3 " + "word " * 100 + "violence=0.9 " + "word " * 100 + "hate=0.7"
    async with guard(fake, window=200) as scorer:
        [score] = await scorer.score(asking(text))
    assert score == Score(categories=ZERO | {"violence": 0.9, "hate": 0.7})
    assert len(fake.texts) == 1 and all(len(piece) <= 200 for piece in fake.texts[0])


async def test_many_pieces_go_in_several_calls() -> None:
    fake = FakeModeration()
    async with guard(fake) as scorer:
        scores = await scorer.score(asking(*[f"violence=0.{one:02}" for one in range(50)]))
    assert [score.categories and score.categories["violence"] for score in scores][20:] == [
        one / 100 for one in range(20, 50)
    ]
    assert sorted(map(len, fake.texts)) == [50 - MAX_INPUTS, MAX_INPUTS]


async def test_a_text_too_long_to_judge_is_its_candidates_error_alone() -> None:
    async with guard(FakeModeration(), window=100) as scorer:
        long, short = await scorer.score(asking("x" * 6000, "fine"))
    assert long.categories is None and long.unreadable
    assert long.error == "The text takes 80 pieces of 100 characters; 64 are judged at most."
    assert short == Score(categories=ZERO)


async def test_nothing_is_sent_where_there_is_no_text() -> None:
    fake = FakeModeration()
    async with guard(fake) as scorer:
        assert await scorer.score(asking("", " \n")) == [Score(categories=dict.fromkeys(NAMES, 0.0))] * 2
    assert fake.texts == []


async def test_what_cannot_be_read_is_never_a_pass() -> None:
    image: Message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    async with guard(FakeModeration()) as scorer:
        bad, good = await scorer.score(ScoreRequest("outside", [USER], [image, {"content": "fine"}]))
        with pytest.raises(BadScoreRequest, match=r"messages\[0\]"):
            await scorer.score(asking(messages=[image]))
    assert bad.categories is None and bad.error and bad.unreadable
    assert good == Score(categories=ZERO)


async def test_an_endpoint_that_takes_no_lists_is_asked_one_by_one() -> None:
    fake = FakeModeration(lists=False)
    async with guard(fake) as scorer:
        scores = await scorer.score(asking("violence=0.9", "fine"))
    assert scores == [Score(categories=ZERO | {"violence": 0.9}), Score(categories=ZERO)]
    assert sorted(fake.texts) == [["fine"], ["violence=0.9"]]


async def test_where_one_of_several_calls_fails_the_others_count() -> None:
    fake = FakeModeration(lists=False)
    async with guard(fake) as scorer:
        fake.answer = lambda _: with_status(500) if fake.texts[-1] == ["bad"] else None
        bad, good = await scorer.score(asking("bad", "fine"))
        assert bad.categories is None and bad.error is not None and "status 500" in bad.error
        assert good == Score(categories=ZERO)
        with pytest.raises(ScorerUnavailable, match="status 500"):
            await scorer.score(asking("bad"))


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ('{"violence": NaN}', "'violence' is not a probability"),
        ('{"violence": 1.01}', "'violence' is not a probability"),
        ('{"violence": -0.1}', "'violence' is not a probability"),
        ('{"violence": Infinity}', "'violence' is not a probability"),
        ('{"violence": null}', "'violence' is not a probability"),
        ('{"violence": true}', "'violence' is not a probability"),
        ('{"violence": "0.5"}', "'violence' is not a probability"),
        ('{"violence": 0.5}', "did not answer for harassment, "),
        ("{}", "without category_scores"),
        ("[0.5]", "without category_scores"),
        ("null", "without category_scores"),
    ],
)
async def test_a_number_that_is_no_probability_is_an_error_and_never_a_score(scores: str, says: str) -> None:
    fake = FakeModeration(lists=False)
    async with guard(fake) as scorer:
        fake.answer = lambda _: raw(scores) if fake.texts[-1] == ["bad"] else None
        bad, good = await scorer.score(asking("bad", "fine"))
    assert bad.categories is None
    assert bad.error is not None and says in bad.error
    assert good == Score(categories=ZERO)


async def test_a_category_that_is_new_counts_too() -> None:
    fake = FakeModeration()
    async with guard(fake) as scorer:
        fake.answer = lambda _: raw(json.dumps(ZERO | {"fraud": 0.8}))
        assert await scorer.score(asking("x")) == [Score(categories=ZERO | {"fraud": 0.8})]


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (with_status, Overloaded, 429),
        (with_status, ScorerUnavailable, 500),
        (with_status, ScorerUnavailable, 503),
        (with_status, Unauthorized, 401),
        (with_status, Unauthorized, 403),
        (with_status, ScorerFailed, 400),
        (with_status, ScorerFailed, 307),
        (lambda text: web.Response(text=text), ScorerFailed, "{"),
        (lambda text: web.Response(text=text), ScorerFailed, '{"results": 3}'),
        (lambda text: web.Response(text=text), ScorerFailed, '{"results": []}'),
        (lambda text: web.Response(text=text), ScorerFailed, "[" * 100_000),
    ],
)
async def test_every_failure_has_its_error_and_quotes_nothing(
    answer: Any, error: type[ScorerError], says: int | str
) -> None:
    fake = FakeModeration()
    async with guard(fake) as scorer:
        fake.answer = lambda _: answer(says)
        with pytest.raises(error) as caught:
            await scorer.score(asking("x"))
    assert type(caught.value) is error or error is ScorerFailed
    assert "secret" not in str(caught.value) and "/v1/moderations" in str(caught.value)


async def test_a_slow_endpoint_is_given_up() -> None:
    fake = FakeModeration()
    async with guard(fake, timeout_s=0.2) as scorer:
        fake.gate.clear()
        with pytest.raises(ScorerUnavailable, match=r"did not answer within 0\.2 s"):
            await scorer.score(asking("x"))


async def test_a_cancelled_request_closes_its_call_and_frees_its_places() -> None:
    fake = FakeModeration()
    async with guard(fake, limit=2) as scorer:
        fake.gate.clear()
        task = asyncio.ensure_future(scorer.score(asking("a", "b")))
        await asyncio.wait_for(fake.begun.wait(), 5)
        assert scorer.waiting == 2
        with pytest.raises(Overloaded):
            await scorer.score(asking("c"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert scorer.waiting == 0
        async with asyncio.timeout(5):
            while not fake.cancelled:  # noqa: ASYNC110  the server sees the closed connection in its own time
                await asyncio.sleep(0.01)


async def test_connections_are_kept_and_one_that_died_is_replaced_without_a_failure() -> None:
    fake = FakeModeration()
    async with guard(fake) as scorer:
        fake.connections.clear()
        for _ in range(3):
            await scorer.score(asking("x"))
        assert len(fake.connections) == 1
        fake.cut = 1
        assert await scorer.score(asking("x")) == [Score(categories=ZERO)]
        fake.cut = 2
        with pytest.raises(ScorerUnavailable, match="cannot be reached"):
            await scorer.score(asking("x"))


async def test_a_key_goes_along_and_is_read_again_when_it_changed(tmp_path: Path) -> None:
    fake = FakeModeration(key="k-1")
    file = tmp_path / "key"
    file.write_text("k-1\n")
    async with guard(fake, api_key_file=str(file)) as scorer:
        fake.key = "k-2"
        with pytest.raises(Unauthorized, match="refuses the key it was sent") as caught:
            await scorer.score(asking("x"))
        assert "k-1" not in str(caught.value)
        file.write_text("k-2\n")
        assert await scorer.score(asking("x")) == [Score(categories=ZERO)]


async def test_a_certificate_is_verified_as_the_settings_say(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with serving(FakeModeration(), tls=authority.server()) as url:
        scorer, _ = await asyncio.to_thread(load_at, url, ca_file=str(authority.ca_file))
        assert await scorer.score(asking("x")) == [Score(categories=ZERO)]
        await scorer.close()
        with pytest.raises(LoadError, match="TLS fails: its certificate comes from an authority that is not trusted"):
            await asyncio.to_thread(load_at, url)


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ({"api_key_file": "none"}, "scorers.outside.endpoint.api_key_file: there is no file none."),
        ({"api_key_env": "NOT_SET_HERE"}, "scorers.outside.endpoint.api_key_env: the environment variable"),
        ({}, "The moderation endpoint http://127.0.0.1:9/v1/moderations cannot be reached"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_told_at_load(endpoint: dict[str, Any], says: str) -> None:
    with pytest.raises(LoadError) as caught:
        load_at("http://127.0.0.1:9/v1", **endpoint)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (with_status(401), "refuses calls without a key"),
        (with_status(404), "refuses the request with status 404"),
        (raw('{"violence": 3}'), "not a probability"),
        (raw("{}"), "without category_scores"),
        (web.Response(text="hello"), "does not answer as OpenAI's"),
    ],
)
async def test_an_endpoint_that_answers_otherwise_is_told_at_load(answer: web.Response, says: str) -> None:
    fake = FakeModeration()
    status, text = answer.status, answer.text
    fake.answer = lambda _: web.Response(status=status, text=text)
    async with serving(fake) as url:
        with pytest.raises(LoadError, match=says):
            await asyncio.to_thread(load_at, url)


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ({"url": "http://user:word@x/v1"}, "url holds a name or a password"),
        ({"url": "http://x/v1", "ca_file": "ca.pem"}, "url does not begin with https://"),
        ({"url": "https://x/v1", "api_key_file": "a", "api_key_env": "B"}, "keep one of them"),
    ],
)
def test_contradictions_in_the_settings_are_refused(endpoint: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ModerationConfig.model_validate({"kind": "moderation", "endpoint": endpoint})
    assert says in str(caught.value)


@given(st.integers(0, 300), st.integers(2, 40))
def test_pieces_cover_a_text_and_neighbours_share_a_quarter(length: int, size: int) -> None:
    text = "".join(chr(0x4E00 + place) for place in range(length))
    pieces = windows(text, size)
    assert "".join(dict.fromkeys("".join(pieces))) == text
    assert all(len(piece) == min(size, length) for piece in pieces)
    shared = [len(set(before) & set(after)) for before, after in pairwise(pieces)]
    assert all(size > one >= size / 4 for one in shared)
