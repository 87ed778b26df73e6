from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.workers.prefix import MIN_CHARS, PrefixKey, prefix_key

SYSTEM = {"role": "system", "content": "You answer questions about houseplants, briefly and kindly. " * 4}
ASKED = {"role": "user", "content": "How often should I water a cactus that stands in a window to the south?"}
ANSWERED = {"role": "assistant", "content": "Every two or three weeks; less in winter."}
MORE = {"role": "user", "content": "And a fern?"}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


def key_of(*messages: dict[str, Any], salt: str = "tenant", **more: Any) -> PrefixKey:
    key = prefix_key({"cache_salt": salt, "messages": list(messages), **more})
    assert key is not None
    return key


def image(data: str) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    return {"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}


def test_all_turns_of_a_conversation_have_one_key() -> None:
    first = key_of(SYSTEM, ASKED)
    assert key_of(SYSTEM, ASKED, ANSWERED, MORE) == first
    assert key_of(SYSTEM, ASKED, ANSWERED, MORE, ANSWERED, MORE) == first


def test_how_the_answer_is_sampled_does_not_matter() -> None:
    assert key_of(SYSTEM, ASKED, n=8, seed=3, temperature=0.1, max_tokens=9) == key_of(SYSTEM, ASKED)


def test_conversations_under_one_system_prompt_share_it_and_differ_in_their_own() -> None:
    one, other = key_of(SYSTEM, ASKED), key_of(SYSTEM, MORE)
    assert one.shared == other.shared
    assert one.shared is not None
    assert one.own != other.own


@pytest.mark.parametrize("change", [{"salt": "other"}, {"model": "adapter"}, {"tools": [TOOL]}])
def test_tenant_adapter_and_tools_are_part_of_both(change: dict[str, Any]) -> None:
    one, other = key_of(SYSTEM, ASKED), key_of(SYSTEM, ASKED, **change)
    assert one.shared != other.shared
    assert one.own != other.own


def test_tools_alone_are_a_shared_prefix() -> None:
    one, other = key_of(ASKED, tools=[TOOL]), key_of(MORE, tools=[TOOL])
    assert one.shared == other.shared
    assert one.shared is not None


def test_without_a_system_prompt_nothing_is_shared() -> None:
    assert key_of(ASKED).shared is None


def test_a_prefix_below_a_block_has_no_key() -> None:
    def key(size: int) -> PrefixKey | None:
        return prefix_key({"messages": [{"role": "user", "content": "x" * size}]})

    assert key(MIN_CHARS - 1) is None
    assert key(MIN_CHARS) is not None


def test_a_conversation_that_begins_with_less_than_a_block_has_one_key_from_its_second_turn_on() -> None:
    begun = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello! " * 12}]
    assert prefix_key({"messages": begun[:1]}) is None
    assert key_of(*begun, MORE) == key_of(*begun, MORE, ANSWERED, ASKED)
    assert key_of(*begun, MORE) != key_of(begun[0], ANSWERED, ASKED)


def test_text_reads_the_same_as_a_string_and_as_a_part() -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": ASKED["content"]}]}
    assert key_of(SYSTEM, parts) == key_of(SYSTEM, ASKED)


def test_images_that_begin_alike_are_told_apart_by_their_ends_and_lengths() -> None:
    same = "A" * 50_000
    keys = {key_of(image(same)), key_of(image(same + "B")), key_of(image(same + "C")), key_of(image(same + "A"))}
    assert len(keys) == 4
    assert key_of(image(same)) in keys


def test_what_lies_far_behind_the_beginning_of_a_text_does_not_matter() -> None:
    long = "A very long document. " * 5_000
    assert key_of({"role": "user", "content": f"{long}one"}) == key_of({"role": "user", "content": f"{long}other"})


def test_a_long_system_prompt_does_not_hide_what_is_asked() -> None:
    parts = [{"type": "text", "text": "rule " * 1_000} for _ in range(10)]
    system = {"role": "system", "content": parts}
    one, other = key_of(system, ASKED), key_of(system, MORE)
    assert one.shared == other.shared
    assert one.own != other.own


def test_a_text_and_its_continuations_have_one_key() -> None:
    text = "".join(f"Line {number} of a play in two acts.\n" for number in range(100))
    one = prefix_key({"prompt": text})
    assert one is not None
    assert prefix_key({"prompt": text + "And so it goes on."}) == one
    other = prefix_key({"prompt": text[:1000] + "Another scene."})
    assert other is not None
    assert other.shared == one.shared
    assert other.own != one.own
    assert prefix_key({"prompt": text[: MIN_CHARS - 1]}) is None


def test_token_ids_have_keys_as_texts_do() -> None:
    ids = list(range(1000))
    one = prefix_key({"prompt": ids})
    assert one is not None
    assert prefix_key({"prompt": [*ids, 5]}) == one
    other = prefix_key({"prompt": [*ids[:100], 5]})
    assert other is not None
    assert other.shared == one.shared
    assert other.own != one.own
    assert prefix_key({"prompt": ids[:15]}) is None


def test_every_gateway_makes_the_same_key() -> None:
    key = key_of(SYSTEM, ASKED, tools=[TOOL])
    assert key.shared is not None
    assert (key.shared.hex(), key.own.hex()) == ("5e44a1c04b253c99", "9c3244a8d2c136ee")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": None},
        {"prompt": []},
        {"prompt": ["one", "two"]},
        {"input": "text"},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]},
        {"messages": [{"role": "user", "content": []}], "tools": "not a list"},
    ],
)
def test_what_has_no_prefix_has_no_key(body: dict[str, Any]) -> None:
    assert prefix_key(body) is None


def test_half_a_surrogate_pair_is_no_obstacle() -> None:
    asked = {"role": "user", "content": "\ud800" * MIN_CHARS}
    assert key_of(asked, tools=[{"name": "\ud800"}]) == key_of(asked, tools=[{"name": "\ud800"}])


MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": st.text(max_size=80) | st.none()}
    ),
    max_size=40,
)


@given(MESSAGES, MESSAGES)
def test_a_key_once_made_stays_while_the_conversation_grows(begun: list[dict[str, Any]], more: list[Any]) -> None:
    begun = [*begun, ASKED]
    key = prefix_key({"messages": begun})
    assert key is not None
    assert prefix_key({"messages": [*begun, *more]}) == key
