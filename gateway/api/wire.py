"""HTTP below the application: what uvicorn answers by itself, in OpenAI's shape, and a limit on what it reads."""

from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.errors import ApiError, BadRequest, HeadersTooLarge
from gateway.ids import new_completion_id

# Its parser has no limit: a header without an end would grow until memory is full.
MAX_HEAD_BYTES = 65_536


class JsonHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, whose own errors are JSON with an `x-request-id` too. Such requests never reach a route."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = False
        self._head_bytes = 0

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        super().data_received(data)
        if was_in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refuse(HeadersTooLarge(f"the headers are larger than {MAX_HEAD_BYTES} bytes"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest("the request is not valid HTTP/1.1", code="invalid_http"))

    def _refuse(self, error: ApiError) -> None:
        """Answer and close. Into an answer that is under way nothing can be said: there the connection only ends."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = msgspec.json.encode(error.body())
            head = (
                f"x-request-id: {new_completion_id()}\r\nx-should-retry: false\r\nconnection: close\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            self.transport.write(STATUS_LINE[error.status] + head.encode("ascii") + body)
        self.transport.close()
