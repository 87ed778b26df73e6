from typing import Any

import pytest

from gateway.api.passed import MAX_PATTERN, check_passed
from gateway.api.protocol import MAX_DEPTH, parse_json
from gateway.errors import BadRequest


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"top_k": 2**63}, "top_k"),
        ({"anything": -(2**63) - 1}, "anything"),
        ({"structured_outputs": "x"}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a" * (MAX_PATTERN + 1)}}, "structured_outputs.regex"),
        ({"structured_outputs": {"choice": ["a", "b" * (MAX_PATTERN + 1)]}}, "structured_outputs.choice"),
    ],
)
def test_what_a_worker_chokes_on_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_passed(body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "body",
    [
        {"top_k": 2**63 - 1, "seed": -(2**63), "flag": True, "x": 1e300, "other": None},
        {"structured_outputs": None},
        {"structured_outputs": {"regex": "a" * MAX_PATTERN, "choice": 5}},
        {"tools": [{"maximum": 2**64}]},
    ],
)
def test_the_rest_is_the_workers_to_check(body: dict[str, Any]) -> None:
    check_passed(body)


def test_nesting_has_a_limit() -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":' * depth + b"[]" + b"}" * depth

    assert parse_json(nested(MAX_DEPTH - 1))
    for depth in (MAX_DEPTH, 900, 995, 100_000):
        with pytest.raises(BadRequest, match="nested"):
            parse_json(nested(depth))
