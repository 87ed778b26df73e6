"""Checks of shape, strictly, against OpenAI's published schemas and the `openai` package's types; reading a stream."""

import json
from typing import Any

from openai.types.responses import Response, ResponseItemList, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.openai_spec.validators import strict_model, validate

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def check_response(body: dict[str, Any]) -> dict[str, Any]:
    strict_model(Response, body)
    validate("Response", body)
    return body


def check_items(body: dict[str, Any]) -> dict[str, Any]:
    strict_model(ResponseItemList, body)
    validate("ResponseItemList", body)
    return body


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream, in order: named, numbered from 0, each of OpenAI's type of that name."""
    found: list[dict[str, Any]] = []
    for block in text.split("\n\n"):
        if not block or block.startswith(":"):
            continue
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == len(found)
        found.append(check_event(event))
    return found


def check_event(event: dict[str, Any]) -> dict[str, Any]:
    """One event, of OpenAI's type of its name."""
    kind = type(_EVENT.validate_python(event, strict=True)).model_fields["type"].annotation
    assert kind.__args__ == (event["type"],)
    validate("ResponseStreamEvent", event)
    return event
