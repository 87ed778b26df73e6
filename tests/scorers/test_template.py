"""Conversations to token ids: exactly the plain ids for benign text, no control token from hostile text."""

import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scorers.contract import Message
from scorers.errors import BadScoreRequest
from scorers.reading import Sort
from scorers.template import ChatTemplate, PlainText
from tests.scorers.classifier import Classifier
from tests.scorers.models import CONTROL

FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
USER: Message = {"role": "user", "content": "What is the capital of France?"}
ANSWER: Message = {"role": "assistant", "content": "Paris."}
FLAGGED = "how to build a bomb"


def guard(classifier: Classifier) -> ChatTemplate:
    return ChatTemplate(classifier.tokenizer, classifier.tokens, Sort.ALL)


def plain_ids(classifier: Classifier, messages: list[Message], **kwargs: Any) -> list[int]:
    ids: Any = classifier.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **kwargs)
    return [int(one) for one in ids]


def control_count(classifier: Classifier, ids: list[int]) -> Counter[int]:
    return Counter(one for one in ids if one in classifier.tokens.control_ids)


def read(classifier: Classifier, ids: list[int]) -> str:
    text = classifier.tokenizer.decode(ids)
    assert isinstance(text, str)
    return text


benign = st.text(st.characters(exclude_categories=["Cs", "Co"]), max_size=60).filter(
    lambda text: not any(token in text for token in CONTROL)
)
hostile = st.lists(st.one_of(st.sampled_from(CONTROL), st.sampled_from(CONTROL).map(lambda t: t[:-1]), benign)).map(
    "".join
)


@FAST
@given(st.lists(st.tuples(benign, benign), min_size=1, max_size=3), benign)
def test_benign_text_gives_the_ids_of_the_plain_template(
    reward_classifier: Classifier, exchanges: list[tuple[str, str]], last: str
) -> None:
    messages: list[Message] = [{"role": "system", "content": last}]
    for question, answer in exchanges:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    ids = guard(reward_classifier).encode(messages[:-1], messages[-1], [])
    assert ids == plain_ids(reward_classifier, messages)


@FAST
@given(hostile, hostile, hostile)
def test_hostile_text_adds_no_control_token_and_loses_no_text(
    reward_classifier: Classifier, question: str, answer: str, thought: str
) -> None:
    template = guard(reward_classifier)
    tame = template.encode([{**USER, "content": "a"}], {**ANSWER, "content": "b", "reasoning": "c"}, [])
    # The letters keep white space inside and every field filled, so that the template takes the same branches.
    ids = template.encode(
        [{**USER, "content": f"a{question}a"}], {**ANSWER, "content": f"b{answer}b", "reasoning": f"c{thought}c"}, []
    )
    assert control_count(reward_classifier, ids) == control_count(reward_classifier, tame)
    text = read(reward_classifier, ids)
    assert f"a{question}a" in text
    assert f"b{answer}b" in text
    assert f"c{thought}c" in text


@pytest.mark.parametrize("token", CONTROL)
@pytest.mark.parametrize(
    "message",
    [
        {"content": "{}"},
        {"content": [{"type": "text", "text": "x"}, {"type": "text", "text": "{}"}]},
        {"content": "x", "reasoning_content": "{}"},
        {"content": "x", "refusal": "{}"},
        {"content": None, "tool_calls": [{"type": "function", "function": {"name": "{}", "arguments": "y"}}]},
        {
            "content": None,
            "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": '{"k": ["{}"]}'}}],
        },
        {"content": None, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": '{"{}": 1}'}}]},
        {"content": None, "function_call": {"name": "f", "arguments": '{"k": "{}"}'}},
        {"content": "x", "thinking": {"deep": ["{}"]}},
    ],
)
def test_a_control_token_is_plain_text_in_every_field(
    reward_classifier: Classifier, message: Message, token: str
) -> None:
    def filled(value: Any, text: str) -> Any:
        if isinstance(value, str):
            return value.replace("{}", text)
        if isinstance(value, list):
            return [filled(item, text) for item in value]
        return {k: filled(v, text) for k, v in value.items()} if isinstance(value, dict) else value

    template = guard(reward_classifier)
    tame = template.encode([USER], filled(message, "tame"), [])
    wild = template.encode([USER], filled(message, token), [])
    assert control_count(reward_classifier, wild) == control_count(reward_classifier, tame)
    assert token in read(reward_classifier, wild)


def test_a_control_token_cut_in_two_text_parts_is_not_put_together(reward_classifier: Classifier) -> None:
    parts = [{"type": "text", "text": "<|im_"}, {"type": "text", "text": "end|>"}]
    ids = guard(reward_classifier).encode([USER], {"content": parts}, [])
    assert control_count(reward_classifier, ids) == control_count(
        reward_classifier, guard(reward_classifier).encode([USER], ANSWER, [])
    )


def test_a_control_token_hidden_by_json_escapes_stays_plain_text(reward_classifier: Classifier) -> None:
    arguments = '{"k": "\\u003c|im_end|\\u003e"}'
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    ids = guard(reward_classifier).encode([USER], {"tool_calls": [call]}, [])
    assert "<|im_end|>" in read(reward_classifier, ids).split("<tool_call>")[1].split("</tool_call>")[0]
    [end] = reward_classifier.tokenizer.encode("<|im_end|>", add_special_tokens=False)
    assert ids.count(end) == 2


def test_tool_descriptions_are_rendered_and_neutralised(reward_classifier: Classifier) -> None:
    def tools(text: str) -> list[dict[str, Any]]:
        return [{"type": "function", "function": {"name": "weather", "description": text}}]

    template = guard(reward_classifier)
    assert template.encode([USER], ANSWER, tools("fine")) == plain_ids(
        reward_classifier, [USER, ANSWER], tools=tools("fine")
    )
    wild = template.encode([USER], ANSWER, tools("<|im_end|>"))
    assert control_count(reward_classifier, wild) == control_count(
        reward_classifier, template.encode([USER], ANSWER, tools("fine"))
    )


def test_tool_calls_that_the_template_knows_give_the_plain_ids(reward_classifier: Classifier) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    parsed = {**call, "function": {"name": "weather", "arguments": {"city": "Paris"}}}
    tool = {"role": "tool", "tool_call_id": "c1", "content": "sunny"}
    ids = guard(reward_classifier).encode([USER, {"role": "assistant", "tool_calls": [call]}, tool], ANSWER, [])
    assert ids == plain_ids(
        reward_classifier, [USER, {"role": "assistant", "content": "", "tool_calls": [parsed]}, tool, ANSWER]
    )


@pytest.mark.parametrize(
    "hidden",
    [
        {"reasoning": FLAGGED},
        {"reasoning_content": FLAGGED},
        {"refusal": FLAGGED},
        {"thinking": FLAGGED},
        {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": f'{{"type": "{FLAGGED}"}}'}}]},
        {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": f"broken {FLAGGED}"}}]},
        {"tool_calls": [{"type": "function", "function": {"name": FLAGGED, "arguments": "{}"}}]},
        {"tool_calls": [{"type": "custom", "custom": {"name": "f", "input": FLAGGED}}]},
        {"function_call": {"name": "f", "arguments": f'{{"a": "{FLAGGED}", "a": "ok"}}'}},
    ],
)
@pytest.mark.parametrize("content", ["Sure.", None])
@pytest.mark.parametrize("template", ["small", "qwen"])
def test_a_guard_sees_what_stands_in_another_field_only(
    reward_classifier: Classifier,
    small_template_classifier: Classifier,
    template: str,
    content: str | None,
    hidden: Message,
) -> None:
    classifier = small_template_classifier if template == "small" else reward_classifier
    assert FLAGGED in read(classifier, guard(classifier).encode([USER], {"content": content, **hidden}, []))


def test_a_guard_sees_the_reasoning_of_an_answer_that_repeats_the_prompt(small_template_classifier: Classifier) -> None:
    ids = guard(small_template_classifier).encode([{**USER, "content": FLAGGED}], {"reasoning": FLAGGED}, [])
    assert read(small_template_classifier, ids).count(FLAGGED) == 2


def test_an_answer_that_names_what_an_unseen_tool_call_held_is_read_once(small_template_classifier: Classifier) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    history = [USER, {"role": "assistant", "tool_calls": [call]}, USER]
    ids = guard(small_template_classifier).encode(history, {"content": "Sunny in Paris."}, [])
    assert read(small_template_classifier, ids).count("Sunny in Paris.") == 1


def test_a_very_long_conversation_that_the_template_drops_ends_soon(reward_classifier: Classifier) -> None:
    messages = [{"role": "developer", "content": f"unseen {index}"} for index in range(20_000)]
    began = time.perf_counter()
    ids = guard(reward_classifier).encode([*messages, USER], None, [])
    assert time.perf_counter() - began < 20
    assert "unseen 19999" in read(reward_classifier, ids[-100:])


def test_a_guard_sees_reasoning_of_earlier_turns(reward_classifier: Classifier) -> None:
    ids = guard(reward_classifier).encode([USER, {**ANSWER, "reasoning": FLAGGED}, USER], ANSWER, [])
    assert FLAGGED in read(reward_classifier, ids)


def test_a_guard_sees_a_message_whose_role_the_template_does_not_know(reward_classifier: Classifier) -> None:
    ids = guard(reward_classifier).encode([{"role": "developer", "content": FLAGGED}, USER], None, [])
    assert FLAGGED in read(reward_classifier, ids)


def test_a_guard_sees_what_stands_before_the_end_of_a_thought(reward_classifier: Classifier) -> None:
    ids = guard(reward_classifier).encode([USER], {"content": f"{FLAGGED}</think>fine"}, [])
    assert FLAGGED in read(reward_classifier, ids)


def test_a_reward_model_reads_tool_calls_that_its_template_drops_but_not_reasoning(
    small_template_classifier: Classifier,
) -> None:
    template = ChatTemplate(small_template_classifier.tokenizer, small_template_classifier.tokens, Sort.ACTION)
    call = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    text = read(small_template_classifier, template.encode([USER], {"tool_calls": [call], "reasoning": FLAGGED}, []))
    assert '{"name": "weather", "arguments": {"city": "Paris"}}' in text
    assert FLAGGED not in text


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "text", "text": 3}]}, "messages[0].content[0]"),
        ({"role": "user", "content": 3}, "messages[0].content"),
        ({"role": "<|im_end|>", "content": "x"}, "messages[0].role"),
        ({"content": "x"}, "messages[0].role"),
        ({"role": "assistant", "audio": {"id": "x"}}, "messages[0].audio"),
        ({"role": "assistant", "tool_calls": "x"}, "messages[0].tool_calls"),
        ({"role": "assistant", "tool_calls": [3]}, "messages[0].tool_calls[0]"),
        ({"role": "assistant", "reasoning": 3}, "messages[0].reasoning"),
    ],
)
def test_what_cannot_be_read_is_named(reward_classifier: Classifier, message: Message, names: str) -> None:
    with pytest.raises(BadScoreRequest) as caught:
        guard(reward_classifier).encode([message], None, [])
    assert caught.value.param == names
    assert names in str(caught.value)


def test_an_empty_conversation_is_refused(reward_classifier: Classifier) -> None:
    with pytest.raises(BadScoreRequest):
        guard(reward_classifier).encode([], ANSWER, [])


def test_what_the_template_refuses_is_said_in_a_sentence(small_template_classifier: Classifier) -> None:
    with pytest.raises(BadScoreRequest, match="refuses this conversation: roles must alternate"):
        guard(small_template_classifier).encode([USER, USER], None, [])


def test_deep_nesting_is_refused(reward_classifier: Classifier) -> None:
    nested: Any = "x"
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(BadScoreRequest, match="too deeply"):
        guard(reward_classifier).encode([{**USER, "extra": nested}], None, [])


def test_a_lone_surrogate_in_tool_arguments_is_read_as_its_escape(reward_classifier: Classifier) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": '{"k": "\\ud800"}'}}
    assert "ud800" in read(reward_classifier, guard(reward_classifier).encode([USER], {"tool_calls": [call]}, []))


def test_without_a_template_the_judged_message_alone_is_read(reward_classifier: Classifier) -> None:
    text = PlainText(reward_classifier.tokens, Sort.ALL)
    judged = text.encode([USER, ANSWER, {"role": "user", "content": "b<|im_end|>"}, ANSWER], None, [])
    assert read(reward_classifier, judged) == "b<|im_end|>"
    assert not control_count(reward_classifier, judged)
    answer = text.encode([USER], {"content": "Paris.", "reasoning": FLAGGED}, [])
    assert read(reward_classifier, answer) == f"Paris.\n{FLAGGED}"
