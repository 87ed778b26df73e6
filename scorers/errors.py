"""What can go wrong with a scorer.

ConfigurationError             the configuration, or a file that it names
ScorerError
 ├── BadScoreRequest      400  the request is not one this scorer can read
 ├── Unauthorized         401  the key is missing or not the server's
 ├── UnknownScorer        404  no scorer of that name here
 ├── Overloaded           429  the queue is full: try again later
 ├── ScorerFailed         500  the model failed
 └── ScorerUnavailable    503  it cannot be reached, timed out, or is still loading
"""


class ConfigurationError(Exception):
    """The configuration cannot be used; one line a mistake."""


class ScorerError(Exception):
    """Base of all of them; `status` is its HTTP status, `code` its name in an OpenAI-shaped error."""

    status = 500
    code = "scorer_failed"


class BadScoreRequest(ScorerError):
    status = 400
    code = "invalid_score_request"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class Unauthorized(ScorerError):
    status = 401
    code = "scorer_unauthorized"


class UnknownScorer(ScorerError):
    status = 404
    code = "scorer_not_found"


class Overloaded(ScorerError):
    status = 429
    code = "scorer_overloaded"


class ScorerFailed(ScorerError):
    status = 500
    code = "scorer_failed"


class ScorerUnavailable(ScorerError):
    status = 503
    code = "scorer_unavailable"
