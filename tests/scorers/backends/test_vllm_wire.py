"""Requests to vLLM and answers of it, without a server."""

import base64
import json
import math
import struct

import pytest

from scorers.backend import NextToken, Pooled, Steps
from scorers.backends.vllm_wire import (
    Broken,
    Classify,
    NextTokenOf,
    StepsOf,
    next_token_logprobs,
    wire_of,
)


def steps_answer(*rows: list[float]) -> bytes:
    data = [
        {"index": index, "data": base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()}
        for index, row in enumerate(rows)
    ]
    return json.dumps({"data": data}).encode()


def completion(*told: dict[str, float | None] | None) -> bytes:
    choices = [
        {"index": index, "logprobs": None if one is None else {"top_logprobs": [one]}} for index, one in enumerate(told)
    ]
    return json.dumps({"choices": choices}).encode()


def test_each_head_has_its_wire() -> None:
    assert wire_of(Pooled(), "m", 3, 7) == Classify("m", 3, ignored_at_end=7)
    assert wire_of(Steps(5), "m", 2, 7) == StepsOf("m", 2, 5)
    assert wire_of(NextToken((4, 2)), "m", 2, 7) == NextTokenOf("m", (4, 2))


def test_a_classifier_is_asked_for_logits_of_the_very_ids() -> None:
    assert Classify("m", 1).body([[1, 2], [3]]) == {
        "model": "m",
        "input": [[1, 2], [3]],
        "add_special_tokens": False,
        "use_activation": False,
    }


def test_what_a_classifier_takes_for_padding_is_not_sent_behind_an_input() -> None:
    inputs = [[1, 9, 2, 9, 9], [9, 9], [1]]
    assert Classify("m", 1, ignored_at_end=9).body(inputs)["input"] == [[1, 9, 2], [9], [1]]
    assert Classify("m", 1).body(inputs)["input"] == inputs
    assert inputs == [[1, 9, 2, 9, 9], [9, 9], [1]]


def test_rows_of_several_labels_are_whole() -> None:
    answer = b'{"data": [{"index": 1, "probs": [3, 4]}, {"index": 0, "probs": [23.5, -2]}]}'
    assert Classify("m", 2).rows(answer, [[1], [2]]) == [[23.5, -2.0], [3.0, 4.0]]
    with pytest.raises(Broken, match="2 numbers for an input where the model's files have 1 labels"):
        Classify("m", 1).rows(answer, [[1], [2]])


def test_steps_are_taken_where_the_step_token_stands() -> None:
    wire = StepsOf("m", 2, token_id=7)
    answer = steps_answer([0, 1, 2, 3, 4, 5, 6, 7], [8, 9])
    assert wire.rows(answer, [[5, 7, 5, 7], [5]]) == [[2.0, 3.0, 6.0, 7.0], []]


def test_a_server_that_sends_the_steps_alone_is_understood() -> None:
    wire = StepsOf("m", 2, token_id=7)
    assert wire.rows(steps_answer([2, 3, 6, 7], []), [[5, 7, 5, 7], [5]]) == [[2.0, 3.0, 6.0, 7.0], []]
    with pytest.raises(Broken, match="2 numbers for 4 tokens"):
        wire.rows(steps_answer([2, 3]), [[5, 7, 5, 7]])


def test_a_step_that_is_no_number_stays_where_it_is() -> None:
    [row] = StepsOf("m", 1, token_id=7).rows(steps_answer([math.nan, 1]), [[7, 7]])
    assert math.isnan(row[0]) and row[1] == 1.0


@pytest.mark.parametrize("data", ["", "AAA", "AAAAA===", "é", "AAAA"])
def test_what_is_no_base64_of_numbers_is_broken(data: str) -> None:
    with pytest.raises(Broken):
        StepsOf("m", 1, token_id=7).rows(json.dumps({"data": [{"index": 0, "data": data}]}).encode(), [[7]])


def test_a_language_model_is_asked_for_one_token_and_for_each_label_once() -> None:
    body = NextTokenOf("m", (5, 3, 5)).body([[1, 2]])
    assert body["prompt"] == [[1, 2]]
    assert (body["max_tokens"], body["temperature"], body["repetition_penalty"]) == (1, 0.0, 1.0)
    assert body["logprob_token_ids"] == [5, 3]
    assert body["add_special_tokens"] is False


def test_labels_come_as_they_were_asked_for_whatever_else_is_told() -> None:
    answer = completion({"token_id:8": -0.1, "token_id:5": -2.0, "token_id:3": -9999.0})
    assert NextTokenOf("m", (5, 3, 5)).rows(answer, [[1]]) == [[-2.0, -9999.0, -2.0]]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (completion({"token_id:8": -0.1}), "no log-probability of token 5"),
        (completion({" yes": -0.1}), "not by its id"),
        (completion(None), "no log-probabilities of one token"),
        (completion({"token_id:5": 1.5}), "above 0"),
        (completion(), "0 results for 1 inputs"),
    ],
)
def test_what_are_no_log_probabilities_is_broken(answer: bytes, why: str) -> None:
    with pytest.raises(Broken, match=why):
        NextTokenOf("m", (5,)).rows(answer, [[1]])


def test_a_log_probability_may_round_to_a_little_above_zero() -> None:
    assert next_token_logprobs(completion({"token_id:5": 1e-7}), [[1]]) == [{5: 1e-7}]
