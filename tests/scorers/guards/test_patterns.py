"""The pattern list: all text is searched, trivial tricks do not hide any, and a bad pattern is told at load."""

import asyncio
import json
import random
from typing import Any

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from scorers.contract import Message, Score, ScoreRequest
from scorers.errors import BadScoreRequest
from scorers.guards.patterns import Patterns, load, plain
from scorers.loading import Loading
from scorers.model_path import LoadError
from scorers.plain_scorer import PlainScorer
from scorers.scorer_settings import PatternsConfig
from scorers.settings import ScorerServerConfig

LISTS = {"weapons": [r"\bpipe bombs?\b", "grenade"], "secrets": [r"sk-[a-z0-9]{8}"]}
USER: Message = {"role": "user", "content": "Hello"}


def guard(patterns: dict[str, list[str]] = LISTS, **options: Any) -> PlainScorer:
    config = PatternsConfig(kind="patterns", patterns=patterns, **options)
    return load("words", config, Loading(ScorerServerConfig()))[0]


def judge(*candidates: Message, messages: list[Message] | None = None, **request: Any) -> list[Score]:
    asked = ScoreRequest("words", [USER] if messages is None else messages, list(candidates), **request)
    return asyncio.run(guard().score(asked))


def test_it_tells_what_it_can_do() -> None:
    info = guard().info
    assert (info.id, info.kind, info.gives, info.version) == ("words", "patterns", "categories", "words@1")
    assert (info.prompt_only, info.partial, info.max_tokens) == (True, True, 0)
    assert info.categories == ["weapons", "secrets"]


def test_each_category_is_one_or_nothing_and_the_parts_name_the_patterns() -> None:
    assert judge({"content": "A grenade and a pipe bomb."}, {"content": "A rose."}, {"content": ""}) == [
        Score(categories={"weapons": 1.0, "secrets": 0.0}, parts={"weapons.0": 1.0, "weapons.1": 1.0}),
        Score(categories={"weapons": 0.0, "secrets": 0.0}),
        Score(categories={"weapons": 0.0, "secrets": 0.0}),
    ]


CALL = {"id": "1", "type": "function", "function": {"name": "buy", "arguments": json.dumps({"item": "grenade"})}}


@pytest.mark.parametrize(
    "candidate",
    [
        {"content": [{"type": "text", "text": "a grenade"}]},
        {"content": "", "reasoning_content": "a grenade"},
        {"content": None, "reasoning": "a grenade"},
        {"content": None, "refusal": "no grenade"},
        {"content": None, "tool_calls": [CALL]},
        {"content": None, "tool_calls": [{"function": {"name": "grenade", "arguments": "{}"}}]},
        {"content": None, "tool_calls": [{"function": {"name": "buy", "arguments": '{"grenade": 1}'}}]},
        {"content": None, "tool_calls": [{"function": {"name": "buy", "arguments": r'{"a": "gren\u0061de"}'}}]},
        {"content": None, "tool_calls": [{"function": {"name": "buy", "arguments": "{grenade"}}]},
        {"content": None, "function_call": {"name": "buy", "arguments": '{"item": "grenade"}'}},
        {"content": None, "some_new_field": {"deep": ["a grenade"]}},
    ],
)
def test_all_that_would_leave_is_searched(candidate: Message) -> None:
    [score] = judge(candidate)
    assert score.categories == {"weapons": 1.0, "secrets": 0.0}


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "a grenade"}, {"role": "assistant", "content": "no"}, USER],
        [{"role": "system", "content": "a grenade"}, USER],
        [{"role": "user", "name": "grenade", "content": "x"}],
        [{"role": "tool", "tool_call_id": "1", "content": "a grenade"}],
        [{"role": "assistant", "tool_calls": [CALL]}],
    ],
)
def test_all_of_a_conversation_is_searched(messages: list[Message]) -> None:
    [score] = judge(messages=messages)
    assert score.categories == {"weapons": 1.0, "secrets": 0.0}


def test_descriptions_of_tools_are_part_of_a_prompt() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "how to make a grenade"}}]
    assert judge(tools=tools)[0].categories == {"weapons": 1.0, "secrets": 0.0}
    assert judge()[0].categories == {"weapons": 0.0, "secrets": 0.0}


def test_an_answer_is_judged_by_itself() -> None:
    [score] = judge({"content": "No."}, messages=[{"role": "user", "content": "a grenade?"}])
    assert score.categories == {"weapons": 0.0, "secrets": 0.0}


@pytest.mark.parametrize(
    "text",
    [
        "PIPE BOMB", "pipe  bomb", "pipe\nbomb", "pipe\u00a0bomb", "pi\u200bpe bo\u00admb",
        "ｐｉｐｅ　ｂｏｍｂ", "𝓹𝓲𝓹𝓮 𝓫𝓸𝓶𝓫", "p\ufe0fipe bomb", "p̶i̶p̶e̶ ̶b̶o̶m̶b̶", "pi\u0000pe bomb", "\u202epipe bomb",
        "pipe\u2060 bom\U000e0062b", "p\u034fipe bomb",
    ],
)  # fmt: skip
def test_trivial_tricks_hide_nothing(text: str) -> None:
    assert judge({"content": f"make a {text} now"})[0].categories == {"weapons": 1.0, "secrets": 0.0}


def test_a_pattern_for_the_raw_text_still_finds_it() -> None:
    scorer = guard({"marks": ["\u200b\u200b", r"\n\n\n", "ﬁ"]})
    for text in ("a\u200b\u200bb", "a\n\n\nb", "ﬁ"):
        [score] = asyncio.run(scorer.score(ScoreRequest("words", [USER], [{"content": text}])))
        assert score.categories == {"marks": 1.0}


def test_accents_that_make_another_letter_stay() -> None:
    assert plain("año ñandú cafe\u0301 हिन्दी") == "año ñandú café हिन्दी"


def test_capitals_count_where_the_settings_say_so() -> None:
    scorer = guard({"name": ["Ada"]}, ignore_case=False)
    scores = asyncio.run(scorer.score(ScoreRequest("words", [USER], [{"content": "ada"}, {"content": "Ada"}])))
    assert [score.categories for score in scores] == [{"name": 0.0}, {"name": 1.0}]


def test_what_cannot_be_read_is_never_a_pass() -> None:
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    bad, good = judge({"content": image}, {"content": "A rose."})
    assert bad.categories is None and bad.error and bad.unreadable
    assert good.categories == {"weapons": 0.0, "secrets": 0.0}
    with pytest.raises(BadScoreRequest, match=r"messages\[0\].content\[0\]"):
        judge(messages=[{"role": "user", "content": image}])


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "a{2000}"])
def test_a_bad_pattern_is_named_with_its_category(pattern: str) -> None:
    with pytest.raises(LoadError) as caught:
        guard({"good": ["a"], "weapons": ["b", pattern]})
    assert f"scorers.words.patterns.weapons.1: {pattern!r} is no regular expression of RE2: " in str(caught.value)


def test_patterns_that_take_too_much_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorers.guards.patterns._MEMORY", 1024**2)
    with pytest.raises(LoadError, match="more than 1 MiB together"):
        guard({"huge": [f"{each}[a-z]{{1000}}" for each in range(20)]})


def test_patterns_that_blow_up_elsewhere_find_what_they_should() -> None:
    lists = {"a": [r"(x+x+)+y", r"a.{100}b"], "b": ["zebra"]}
    text = "x" * 20_000 + "".join(random.Random(0).choices("abcd", k=20_000)) + " zebra"
    score = Patterns("words", lists, ignore_case=True).judge([text])
    found = {f"{category}.{place}" for category, each in lists.items() for place, pattern in enumerate(each)
             if re2.search(pattern, text)}  # fmt: skip
    assert score.parts.keys() == found == {"a.1", "b.0"}


@given(st.text(max_size=40), st.text(alphabet="\u200b\u00ad\ufe0f\u0000\u0336", max_size=3))
def test_a_word_is_found_in_any_text(around: str, filler: str) -> None:
    score = Patterns("words", {"w": ["grenade"]}, ignore_case=True).judge([around + filler.join("grenade") + around])
    assert score.categories == {"w": 1.0}
