"""What passes to a worker unread is its own to check. Here is only what vLLM 0.32 answers with a 500, or stalls at."""

from typing import Any

from gateway.errors import BadRequest

_LEAST, _MOST = -(2**63), 2**63 - 1

# A worker compiles these before it answers anyone else: 16,000 characters of a pattern take 2 s, 48,000 a timeout.
MAX_PATTERN = 8_192


def check_passed(body: dict[str, Any]) -> None:
    """Raises BadRequest naming the field and the limit."""
    for name, value in body.items():
        if isinstance(value, int) and not _LEAST <= value <= _MOST:
            raise BadRequest(f"{name}: a whole number is within {_LEAST} and {_MOST}", param=name)
    outputs = body.get("structured_outputs")
    if outputs is None:
        return
    if not isinstance(outputs, dict):
        raise BadRequest("structured_outputs: it must be an object", param="structured_outputs")
    choices = outputs.get("choice")
    patterns = {"regex": [outputs.get("regex")], "choice": choices if isinstance(choices, list) else []}
    for name, texts in patterns.items():
        if any(isinstance(text, str) and len(text) > MAX_PATTERN for text in texts):
            where = f"structured_outputs.{name}"
            raise BadRequest(f"{where}: at most {MAX_PATTERN} characters", param=where)
