from typing import Any

import pytest

from gateway.api.completions.answer import shown
from gateway.api.completions.protocol import CompletionRequest, completion_request
from gateway.errors import BadRequest


def parsed(max_prompts: int = 128, **fields: Any) -> CompletionRequest:
    return completion_request({"model": "m", "prompt": "hello", **fields}, max_prompts)


@pytest.mark.parametrize(
    ("sent", "prompts"),
    [
        ("hello", ["hello"]),
        (["one", "two"], ["one", "two"]),
        ([1, 2, 3], [[1, 2, 3]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
    ],
)
def test_all_of_openais_forms_of_a_prompt_are_read(sent: Any, prompts: list[Any]) -> None:
    assert parsed(prompt=sent).prompts == prompts


@pytest.mark.parametrize(
    "sent",
    [None, "", [], ["one", ""], [[]], [[1], []], ["one", 2], ["one", [2]], [[1], "x"], [True], [1.5], [-1], 5, {}],
)
def test_what_is_no_prompt_is_refused_by_name(sent: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(prompt=sent)
    assert (caught.value.param or "").startswith("prompt")


def test_more_prompts_than_allowed_are_refused_with_the_limit() -> None:
    assert len(parsed(3, prompt=["x"] * 3).prompts) == 3
    with pytest.raises(BadRequest, match="at most 3"):
        parsed(3, prompt=["x"] * 4)


@pytest.mark.parametrize(
    ("field", "value"),
    [("best_of", 2), ("suffix", " end"), ("prompt_embeds", "AAAA"), ("n", 0), ("max_tokens", 0), ("logprobs", "3")],
)
def test_what_cannot_be_served_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(**{field: value})
    assert caught.value.param == field


def test_defaults_that_clients_send_are_harmless() -> None:
    sent = parsed(best_of=1, suffix=None, echo=False, logprobs=None, n=1).of_prompt("hello", "hello").passed_on
    assert "best_of" not in sent
    assert "suffix" not in sent


def test_a_prompt_becomes_a_request_whose_conversation_is_its_text() -> None:
    asked = parsed(prompt=[[1, 2], [3]], user="ann", logprobs=2, n=2, min_tokens=4)
    request = asked.of_prompt([1, 2], "one two")
    assert request.messages == [{"role": "user", "content": "one two"}]
    assert request.passed_on == {"prompt": [1, 2], "logprobs": 2, "min_tokens": 4}
    assert (request.path, request.endpoint, request.user, request.n) == ("/v1/completions", "completions", "ann", 2)


def test_a_prompts_size_bounds_its_tokens() -> None:
    asked = parsed()
    assert asked.of_prompt([1] * 50, "...").body_bytes == 50
    assert asked.of_prompt("é" * 50, "é" * 50).body_bytes >= 100


def test_no_tokens_are_allowed_where_only_the_prompt_is_wanted() -> None:
    asked = parsed(echo=True, max_tokens=0, logprobs=1)
    assert asked.prompt_only
    assert asked.common.max_tokens == 1


LOGPROBS = {
    "tokens": ["a", "b", "c"],
    "token_logprobs": [None, -1.0, -2.0],
    "text_offset": [0, 1, 2],
    "top_logprobs": [None, {}, {}],
}


def test_an_echo_stands_before_the_text_at_its_start_only() -> None:
    asked = parsed(echo=True, logprobs=1)
    assert shown(asked, "c", LOGPROBS, [3], echoed="ab") == {"text": "abc", "logprobs": LOGPROBS}
    assert shown(asked, "d", None, [4]) == {"text": "d", "logprobs": None}
    assert shown(parsed(), "c", None, [3], echoed="ab")["text"] == "c"


def test_where_only_the_prompt_is_wanted_the_sampled_token_is_left_out() -> None:
    asked = parsed(echo=True, max_tokens=0, logprobs=1, return_token_ids=True)
    found = shown(asked, "c", LOGPROBS, [3], echoed="ab", prompt_tokens=2)
    assert found["text"] == "ab"
    assert found["logprobs"]["tokens"] == ["a", "b"]
    assert found["logprobs"]["token_logprobs"] == [None, -1.0]
    assert found["token_ids"] == []
