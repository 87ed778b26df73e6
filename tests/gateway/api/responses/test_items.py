from typing import Any

import pytest

from gateway.api.responses.items import Item, item_id, normalised, references, uuid_of
from gateway.errors import ApiError, BadRequest, NotFound

UUID = "0199d0a1-7c3e-7abc-8def-0123456789ab"


def full(*items: Any) -> list[Item]:
    return normalised(list(items), UUID, {})


def test_a_text_is_a_users_message() -> None:
    [item] = normalised("hi", UUID, {})
    assert item == {
        "id": item_id("message", UUID, "i", 0),
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": "hi"}],
    }


def test_an_items_id_names_its_response_and_its_side() -> None:
    ids = [item_id(kind, UUID, side, 3) for kind in ("message", "function_call", "reasoning") for side in ("i", "o")]
    assert len(set(ids)) == 6
    assert {uuid_of(one) for one in ids} == {UUID}
    assert uuid_of("msg_68a1") is None


def test_what_an_assistant_said_keeps_its_form_and_its_id() -> None:
    said = {"type": "output_text", "text": "a", "annotations": [], "logprobs": []}
    [item] = full({"type": "message", "id": "msg_1", "role": "assistant", "status": None, "content": [said]})
    assert item["id"] == "msg_1"
    assert item["content"] == [said]
    [easy] = full({"role": "assistant", "content": "a"})
    assert easy["content"] == [said]


def test_an_items_shape_is_the_same_when_it_is_read_again() -> None:
    items = full(
        {"role": "developer", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "input_image", "image_url": "data:x"}, {"type": "input_text", "text": "?"}],
        },
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "3"}]},
    )
    assert full(*items) == items


def test_a_reference_becomes_the_stored_item_with_or_without_its_type() -> None:
    [stored] = full({"role": "assistant", "content": "a"})
    for sent in ({"type": "item_reference", "id": stored["id"]}, {"id": stored["id"]}):
        assert references([sent]) == [stored["id"]]
        assert normalised([sent], UUID, {stored["id"]: stored}) == [stored]
        with pytest.raises(NotFound) as caught:
            normalised([{"role": "user", "content": "x"}, sent], UUID, {})
        assert caught.value.param == "input[1].id"


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"role": "tool", "content": "x"}, "input[0].role"),
        ({"role": "user"}, "input[0].content"),
        ({"role": "user", "content": ["x"]}, "input[0].content"),
        ({"role": "user", "content": [{"type": "text", "text": "x"}]}, "input[0].content[0].type"),
        ({"role": "user", "content": [{"type": "output_text", "text": "x"}]}, "input[0].content[0].type"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, "input[0].content[0].type"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "input[0].content[0].file_id"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content[0].image_url"),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "u", "detail": 7}]},
            "input[0].content[0].detail",
        ),
        ({"role": "assistant", "content": [{"type": "input_image"}]}, "input[0].content[0].type"),
        ({"type": "web_search_call", "id": "w"}, "input[0].type"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "input[0].call_id"),
        ({"type": "function_call", "call_id": "c", "name": "", "arguments": "{}"}, "input[0].name"),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}, "input[0].arguments"),
        ({"type": "function_call_output", "call_id": "c"}, "input[0].output"),
        ({"type": "reasoning", "encrypted_content": "x", "summary": []}, "input[0].encrypted_content"),
        ({"type": "reasoning", "summary": "x"}, "input[0].summary"),
        ({"role": "user", "content": "x", "id": 7}, "input[0].id"),
    ],
)
def test_a_mistake_is_named_by_its_place(item: Item, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        full(item)
    assert isinstance(caught.value, BadRequest)
    assert caught.value.param == param
    assert caught.value.message.startswith(param)
