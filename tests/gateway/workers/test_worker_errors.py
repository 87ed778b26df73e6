"""A worker's errors as the gateway's own."""

import pytest

from gateway.errors import BadRequest, ContextTooLong, WorkerError
from gateway.workers.client import error_of


def test_a_workers_400_is_the_clients_mistake_in_plain_words() -> None:
    raw = (
        b"{\"error\":{\"message\":\"1 validation error:\\n  {'type': 'float_parsing', 'loc': 'body.top_p', 'msg': "
        b'\'Input should be a valid number\', \'input\': \'x\'}","type":"Bad Request","param":"body.top_p","code":400}}'
    )
    error = error_of(400, raw)
    assert isinstance(error, BadRequest)
    assert error.param == "top_p"
    assert error.message == "top_p: Input should be a valid number"


def test_a_prompt_beyond_the_context_has_openais_code() -> None:
    error = error_of(400, b'{"error":{"message":"the maximum context length is 8","param":"input_tokens"}}')
    assert isinstance(error, ContextTooLong)


@pytest.mark.parametrize("status", [404, 500, 502])
def test_what_only_an_operator_can_mend_is_a_502_without_the_workers_address(status: int) -> None:
    error = error_of(status, b"<html>")
    assert isinstance(error, WorkerError)
    assert "http" not in error.message
