from gateway.guard.live import lengths, tail, text_length


def call(name: str, arguments: str, **more: object) -> dict[str, object]:
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def test_every_field_with_text_counts() -> None:
    assert text_length({"content": "abc", "reasoning": "de", "tool_calls": [call("f", '{"x"', index=0)]}) == 10
    assert text_length({"content": ""}) == 0
    two_parts = {"tool_calls": [call("f", "", index=0), {"index": 0, "function": {"arguments": "{}"}}]}
    assert lengths(two_parts) == {("arguments", 0): 3}


def test_a_window_reads_what_is_new_with_some_text_before_it() -> None:
    message = {"role": "assistant", "content": "0123456789", "reasoning": "done"}
    cleared = {("content", 0): 6, ("reasoning", 0): 4}
    assert tail(message, cleared, 2) == {"role": "assistant", "content": "456789"}
    assert tail(message, {}, 2) == message
    assert tail(message, cleared, 100) == {"role": "assistant", "content": "0123456789"}


def test_a_window_of_tool_arguments_keeps_the_tools_name() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [call("f", "{}"), call("send", '{"to": "all"}')]}
    cleared = {("arguments", 0): 3, ("arguments", 1): len("send") + 8}
    seen = tail(message, cleared, 1)
    assert seen["content"] is None
    assert [one["function"] for one in seen["tool_calls"]] == [{"name": "send", "arguments": '"all"}'}]
