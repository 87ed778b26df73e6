"""How a request ends that has not finished when the gateway stops: with an error that clients can read."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.chat_stream import frame
from gateway.api.http import error_response
from gateway.errors import Unavailable


class LastWords:
    """Only a server whose drain is over cancels a request (`gateway/server.py`): the answer is a 503 then.

    A stream that has begun gets the error as its last event, which OpenAI's clients raise whatever they stream. By then
    the request has closed its calls to workers, and its record is with the log.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = streams = False

        async def watched(message: Message) -> None:
            nonlocal begun, streams
            if message["type"] == "http.response.start":
                begun = True
                streams = dict(message["headers"]).get(b"content-type", b"").startswith(b"text/event-stream")
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            error = Unavailable("the gateway is stopping; send the request again", retry_after=1.0)
            if not begun:
                await error_response(error)(scope, receive, send)
            elif streams:
                await send({"type": "http.response.body", "body": frame(error.body())})
            else:
                raise
