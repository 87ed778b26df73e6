"""Texts redacted: to a fixed point, JSON as JSON, others' redactors beside ours."""

import json
import sys
import types
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.log.privacy import plugins
from gateway.log.privacy.kinds import KINDS
from gateway.log.privacy.redactor import Count, Redactor
from tests.gateway.log.privacy.corpus import samples

ALL = Redactor(tuple(KINDS))
CORPUS = [one.text[one.spans[0].start : one.spans[0].end] for one in samples(1)]

values = st.sampled_from(CORPUS)
glue = st.sampled_from(["", " ", "x", "1", "@", ":", ".", "-", "+", "\n", '"', "[", "]", "{", "tel ", "é", "\\"])
texts = st.lists(st.one_of(values, glue, st.text(max_size=4)), max_size=10).map("".join)


def redact(text: str, redactor: Redactor = ALL) -> str:
    return redactor.text(text, Count())


@given(texts)
def test_redacting_twice_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(values)
def test_nothing_of_it_is_left_and_it_is_counted_by_kind(value: str) -> None:
    counts = Count()
    left = ALL.text(f"so: {value} .", counts)
    assert value not in left
    assert counts.total() >= 1 and set(counts) <= set(KINDS)


json_values = st.recursive(
    st.one_of(texts, st.integers(), st.booleans(), st.none(), st.just(4111111111111111)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)


@given(json_values, st.booleans())
def test_json_stays_json_of_the_same_shape(value: Any, escaped: bool) -> None:
    text = json.dumps({"arguments": value}, ensure_ascii=escaped)
    left = json.loads(redact(text))
    assert set(left) == {"arguments"}
    assert type(left["arguments"]) in (type(value), str)


def test_numbers_names_and_escapes_in_json_are_redacted_too() -> None:
    arguments = '{"to": "ada\\u0040example.com", "card": 4111111111111111, "bob@example.com": true, "n": 7}'
    assert json.loads(redact(arguments)) == {"to": "[EMAIL]", "card": "[CARD]", "[EMAIL]": True, "n": 7}


def test_a_name_says_what_its_value_is() -> None:
    arguments = '{"phoneNumber": "5550123", "api_key": "abcdef12", "max_tokens": "12345678", "count": "5550123"}'
    expected = {"phoneNumber": "[PHONE]", "api_key": "[SECRET]", "max_tokens": "12345678", "count": "5550123"}
    assert json.loads(redact(arguments)) == expected


def test_what_hides_behind_a_name_that_is_there_twice_is_gone() -> None:
    left = redact('{"a": "ada\\u0040example.com", "a": "x"}')
    assert json.loads(left) == {"a": "x"} and "ada" not in left


def test_json_with_nothing_in_it_stays_as_it_was_written() -> None:
    text = '{ "day":"2024-01-15",  "at" : 1.50 , "note": "1234567"}'
    assert redact(text) is text


def test_what_is_no_json_is_text() -> None:
    assert redact('{"to": ada@example.com') == '{"to": [EMAIL]'
    assert redact("[" * 5000 + "ada@example.com").endswith("[EMAIL]")


def test_only_what_was_asked_for_is_taken_out() -> None:
    assert redact("ada@example.com at 10.1.2.3", Redactor(("ip",))) == "ada@example.com at [IP]"
    assert redact("ada@example.com", Redactor(())) == "ada@example.com"


def staff(text: str) -> list[tuple[int, int, str]]:
    at = text.find("S-77")
    return [(at, at + 4, "staff_number")] if at >= 0 else []


def broken(text: str) -> list[tuple[int, int, str]]:
    return [(0, len(text) + 1, "beyond")]


def test_a_redactor_of_others_runs_beside_ours() -> None:
    redactor = Redactor(("email", "staff"), load={"staff": staff}.__getitem__)
    counts = Count()
    assert redactor.text("S-77 is ada@example.com", counts) == "[STAFF_NUMBER] is [EMAIL]"
    assert counts == {"staff_number": 1, "email": 1}
    assert redact("[STAFF_NUMBER] S-77", redactor) == "[STAFF_NUMBER] [STAFF_NUMBER]"


def test_of_a_text_on_which_a_redactor_fails_nothing_is_kept() -> None:
    redactor = Redactor(("broken",), load={"broken": broken}.__getitem__)
    assert redact("anything", redactor) == "[UNREAD]"


def test_a_redactor_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="no redactor 'nowhere' \\(there is email, phone"):
        Redactor(("nowhere",))


def test_presidio_is_asked_for_by_name_and_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(ConfigError, match="pip install presidio-analyzer"):
        plugins.load("presidio")


def test_presidios_results_become_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against its documented shape: it is not installed here."""

    @dataclass
    class Result:
        entity_type: str
        start: int
        end: int

    class AnalyzerEngine:
        def analyze(self, text: str, language: str) -> list[Result]:
            assert language == "en"
            return [Result("PERSON", text.index("Ada"), text.index("Ada") + 3)]

    module = types.ModuleType("presidio_analyzer")
    module.AnalyzerEngine = AnalyzerEngine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "presidio_analyzer", module)
    assert redact("I am Ada.", Redactor(("presidio",))) == "I am [PERSON]."
