"""Tool calls: known, with arguments that are JSON of the tool's schema."""

from typing import Any

import pytest

from scorers.contract import Message
from tests.scorers.verifiers.checking import checked

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
SHELL = {"type": "custom", "custom": {"name": "shell"}}


def calling(*calls: tuple[str, Any]) -> Message:
    return {"content": None, "tool_calls": [{"function": {"name": name, "arguments": text}} for name, text in calls]}


@pytest.mark.parametrize(
    ("answer", "options", "value", "parts"),
    [
        (calling(("weather", '{"city": "Paris"}')), {}, 1.0, (1, 1, 1)),
        (calling(("weather", {"city": "Paris"})), {}, 1.0, (1, 1, 1)),
        (calling(("weather", '{"city": 3}')), {}, 0.0, (1, 1, 0)),
        (calling(("weather", '{"city": "Par')), {}, 0.0, (1, 1, 0)),
        (calling(("weather", "")), {}, 0.0, (1, 1, 0)),
        (calling(("weather", "[]")), {}, 0.0, (1, 1, 0)),
        (calling(("clock", '{"any": 1}')), {}, 1.0, (1, 1, 1)),
        (calling(("sky", "{}")), {}, 0.0, (1, 0, 0)),
        (calling(("clock", "{}"), ("sky", "{}")), {}, 0.0, (2, 1, 1)),
        ({"tool_calls": ["clock"]}, {}, 0.0, (1, 0, 0)),
        ({"tool_calls": [{"type": "custom", "custom": {"name": "shell", "input": "ls"}}]}, {}, 1.0, (1, 1, 1)),
        ({"function_call": {"name": "clock", "arguments": "{}"}}, {}, 1.0, (1, 1, 1)),
        ("no call", {}, 1.0, (0, 0, 0)),
        ("no call", {"must_call": True}, 0.0, (0, 0, 0)),
        ("no call", {"required": ["clock"]}, 0.0, (0, 0, 0)),
        (calling(("clock", "{}")), {"required": ["clock"], "must_call": True}, 1.0, (1, 1, 1)),
        (calling(("clock", "{}")), {"required": ["weather"]}, 0.0, (1, 1, 1)),
        (calling(("clock", "{}")), {"forbidden": ["clock"]}, 0.0, (1, 1, 1)),
    ],
)
def test_each_call_is_offered_and_right(
    answer: str | Message, options: dict[str, Any], value: float, parts: tuple[int, int, int]
) -> None:
    score = checked("tool_call", answer, options=options, tools=[WEATHER, CLOCK, SHELL])
    assert (score.value, score.parts) == (value, dict(zip(("calls", "known", "valid"), parts, strict=True)))


def test_without_tools_in_the_request_any_call_is_wrong() -> None:
    assert checked("tool_call", calling(("clock", "{}"))).value == 0.0


@pytest.mark.parametrize(
    ("answer", "parameters"), [(calling(("f", "{}")), {"$ref": "http://x"}), ({"tool_calls": "f"}, {})]
)
def test_what_cannot_be_said_is_an_error_and_no_number(answer: Message, parameters: Any) -> None:
    score = checked(
        "tool_call", answer, tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    )
    assert score.value is None and score.error
