import json
from typing import Any

import pytest

from gateway.api.protocol import parse_chat
from gateway.errors import BadRequest

OK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def body(**fields: Any) -> bytes:
    return json.dumps({**OK, **fields}).encode()


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"", None),
        (b'{"model": "m"', None),
        (b"[]", None),
        (b'{"model": "\xff"}', None),
        (b"[" * 20_000, None),
        (b'{"a":' * 20_000, None),
        (b'{"model":"m","messages":[{"role":"user","content":"hi"}],"x":"\\ud800"}', None),
        (body(n=0), "n"),
        (body(n=-3), "n"),
        (body(n="4"), "n"),
        (body(n=1.5), "n"),
        (body(model=7), "model"),
        (body(messages=[]), "messages"),
        (body(messages="hi"), "messages"),
        (body(messages=[7]), "messages[0]"),
        (body(messages=[{"role": "nobody", "content": "x"}]), "messages[0].role"),
        (body(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
        (body(messages=[{"role": "user"}]), "messages[0].content"),
        (body(messages=[{"role": "user", "content": ["x"]}]), "messages[0].content[0]"),
        (body(max_tokens=0), "max_tokens"),
        (body(temperature="hot"), "temperature"),
        (body(guidance={"n": "x"}), "guidance.n"),
        (body(guidance={"m": 1}), "guidance.m"),
        (body(guidance={"reference": ["a"]}), "guidance.reference"),
        (body(guidance={"reference": "x" * 20_001}), "guidance.reference"),
        (body(guidance={"stream_mode": "live"}), "guidance.stream_mode"),
        (body(best_of=4), "best_of"),
        (body(service_tier="gold"), "service_tier"),
        (body(chat_template="{{x}}"), "chat_template"),
        (body(functions=[{"name": "f"}]), "functions"),
        (body(kv_transfer_params={"a": 1}), "kv_transfer_params"),
        (b'{"model": "m"}', "messages"),
    ],
)
def test_bad_input_is_a_400_that_names_the_field(raw: bytes, param: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_chat(raw)
    assert caught.value.param == param
    assert caught.value.message


def test_unknown_fields_pass_on_and_owned_ones_do_not() -> None:
    owned = {"cache_salt": "x", "priority": 9, "stream_interval": 3, "service_tier": "flex"}
    request = parse_chat(body(top_k=5, min_p=0.1, n=2, stream=True, **owned))
    assert request.passed_on == {"messages": OK["messages"], "top_k": 5, "min_p": 0.1}
    assert (request.n, request.stream, request.service_tier) == (2, True, "flex")


def test_nulls_mean_absent() -> None:
    request = parse_chat(body(n=None, seed=None, temperature=None, stream=None, guidance=None, tools=None))
    assert (request.n, request.seed, request.stream, request.guidance.n) == (1, None, False, None)


def test_the_user_is_the_safety_identifier_where_both_are_given() -> None:
    assert parse_chat(body(user="a", safety_identifier="b")).user == "b"
    assert parse_chat(body(user="a")).user == "a"


def test_either_name_limits_the_output() -> None:
    assert parse_chat(body(max_completion_tokens=7)).max_tokens == 7
    assert parse_chat(body(max_tokens=9)).max_tokens == 9
