"""What can go wrong in the gateway, and what a client is told.

BestowError
 ├── ConfigError                 the configuration file (CLI: one plain sentence a mistake)
 ├── StartError                  a part that `bestow up` could not start
 └── ApiError                    becomes an HTTP error in OpenAI's shape
      ├── BadRequest        400  the request itself; `param` names the field
      │    ├── ContextTooLong    the prompt does not fit the policy's context
      │    └── ContentBlocked    what the guard flagged, where the profile's action is to block
      ├── Unauthorized      401  a token or key that is not good for this
      ├── Forbidden         403  a good key without the scope that this needs
      ├── ModelNotFound     404
      ├── NotFound          404
      ├── MethodNotAllowed  405
      ├── Conflict          409  another request with the same idempotency key is being answered
      ├── RequestTimeout    408  the body did not arrive in time
      ├── BodyTooLarge      413
      ├── RateLimited       429
      ├── HeadersTooLarge   431
      ├── WorkerError       502  a worker answered something that cannot be used
      ├── Unavailable       503  no worker can be reached, or the gateway is stopping
      ├── GuardUnavailable  503  the guard cannot answer: neither a refusal nor a pass
      └── DeadlineExceeded  504
"""

from typing import Any

# A message may quote what was sent, which may be megabytes.
_MOST_MESSAGE = 2000
_MOST_PARAM = 200


class BestowError(Exception):
    """Base of all. Its text is written for the person who reads it."""


class ConfigError(BestowError):
    """The configuration cannot be used."""


class StartError(BestowError):
    """A part did not start."""


class ApiError(BestowError):
    """An error a client sees; `type`, `code` and `param` as in OpenAI's error object."""

    status = 500
    type = "server_error"
    code = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = _short(message, _MOST_MESSAGE)
        self.param = None if param is None else _short(param, _MOST_PARAM)
        self.code = code or type(self).code
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


class BadRequest(ApiError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class ContextTooLong(BadRequest):
    code = "context_length_exceeded"


class ContentBlocked(BadRequest):
    code = "content_blocked"


class Unauthorized(ApiError):
    status = 401
    type = "authentication_error"
    code = "invalid_token"


class Forbidden(ApiError):
    status = 403
    type = "permission_error"
    code = "insufficient_scope"


class ModelNotFound(ApiError):
    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class NotFound(ApiError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class MethodNotAllowed(ApiError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Conflict(ApiError):
    status = 409
    type = "invalid_request_error"
    code = "conflict"


class RequestTimeout(ApiError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class BodyTooLarge(ApiError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class RateLimited(ApiError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class HeadersTooLarge(ApiError):
    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"


class WorkerError(ApiError):
    status = 502
    code = "worker_error"


class Unavailable(ApiError):
    status = 503
    code = "unavailable"


class GuardUnavailable(ApiError):
    status = 503
    code = "guard_unavailable"


class DeadlineExceeded(ApiError):
    status = 504
    code = "deadline_exceeded"
