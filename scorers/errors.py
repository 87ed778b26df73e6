"""What can go wrong with a scorer.

ConfigurationError             the configuration, or a file that it names
 └── WrongSetting              one scorer's settings; `param` names the key
ScorerError
 ├── BadScoreRequest      400  the request is not one this scorer can read
 ├── Unauthorized         401  the key is missing or not the server's
 ├── ChangesClosed        403  this server takes no scorers from who asks
 ├── UnknownScorer        404  no scorer of that name here
 ├── ScorerInUse          409  what the configuration names, or an ensemble needs, stays as it is
 ├── Overloaded           429  the queue is full: try again later
 ├── ScorerFailed         500  the model failed
 └── ScorerUnavailable    503  it cannot be reached, timed out, or is still loading
"""


class ConfigurationError(Exception):
    """The configuration cannot be used; one line a mistake."""


class WrongSetting(ConfigurationError):
    """`param` is the key that is wrong, where it is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


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


class ChangesClosed(ScorerError):
    status = 403
    code = "scorer_changes_closed"


class UnknownScorer(ScorerError):
    status = 404
    code = "scorer_not_found"


class ScorerInUse(ScorerError):
    status = 409
    code = "scorer_in_use"


class Overloaded(ScorerError):
    status = 429
    code = "scorer_overloaded"


class ScorerFailed(ScorerError):
    status = 500
    code = "scorer_failed"


class ScorerUnavailable(ScorerError):
    status = 503
    code = "scorer_unavailable"
