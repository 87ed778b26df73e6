'''Checks of others: Python entry points of the group `bestow.verifiers`, in any installed distribution.

A check is a function of a `Case`; its keyword-only arguments are its options, checked by their annotations. It returns
a number (any finite one; True is 1), or a `Verdict` with parts. A whole one, in `my_checks.py`:

    """Checks of ours for Bestow."""

    from scorers.verifiers.case import CannotScore, Case, Verdict


    def haiku(case: Case, *, lines: int = 3) -> Verdict:
        """1 where the answer has as many lines as a haiku, else 0."""
        if case.candidate.get("tool_calls"):
            raise CannotScore("A tool call is no poem.")
        found = len(case.text.splitlines())
        return Verdict(float(found == lines), {"lines": found})

In its `pyproject.toml`, and then in Bestow's configuration:

    [project.entry-points."bestow.verifiers"]
    haiku = "my_checks:haiku"

    scorers:
      poetic: {kind: verifier, check: haiku, options: {lines: 3}}

It runs in a thread of its own, up to eight at a time, each with a time limit; `async def` runs on the server's event
loop. What it raises is an error of that candidate. Python cannot end a thread: a check that overruns its limit goes on
beside the others, and when eight of them do, the scorer answers no more until some have ended.
'''

import asyncio
import contextlib
import inspect
import logging
import math
import numbers
import threading
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ConfigDict, Field, PydanticUserError, create_model

from scorers.contract import Message, Score, ScoreRequest, ScorerInfo
from scorers.errors import BadScoreRequest, ScorerUnavailable
from scorers.model_path import LoadError
from scorers.plain_scorer import Places
from scorers.settings import Section
from scorers.verifiers.case import CannotScore, Case, Verdict

GROUP = "bestow.verifiers"
SLOTS = 8
"""Threads that run a check at a time, and threads that may overrun beside them."""

logger = logging.getLogger(__name__)


def installed() -> dict[str, EntryPoint]:
    """The entry points of the group, by name; where two distributions have the same name, the first."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return found


def load_function(point: EntryPoint) -> Callable[..., Any]:
    """The function of an entry point. Raises LoadError."""
    try:
        function = point.load()
    except Exception as error:  # importing it runs code of others
        raise LoadError(f"The check {point.name} ({point.value}) cannot be imported: {_one_line(error)}.") from error
    if not callable(function):
        raise LoadError(f"The check {point.name} ({point.value}) is no function.")
    return function  # type: ignore[no-any-return]


def options_model(name: str, function: Callable[..., Any]) -> type[Section]:
    """The settings class that the function's keyword-only arguments make up. Raises LoadError."""
    try:
        parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    except (TypeError, ValueError, NameError) as error:
        raise LoadError(f"The check {name} has no signature that can be read: {_one_line(error)}.") from error
    case, rest = parameters[:1], parameters[1:]
    takes_case = any(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in case)
    if not takes_case or any(each.kind is not each.KEYWORD_ONLY for each in rest):
        raise LoadError(
            f"The check {name} must take one argument, the case, and its options after a * by keyword, such as "
            f"def {name}(case: Case, *, lines: int = 3)."
        )
    fields: dict[str, Any] = {}
    for each in rest:
        annotation = Any if each.annotation is each.empty else each.annotation
        fields[each.name] = (annotation, Field(... if each.default is each.empty else each.default))
    try:
        return create_model(f"{name}_options", __base__=_Options, **fields)
    except (PydanticUserError, NameError, TypeError) as error:
        raise LoadError(f"The options of the check {name} cannot be read: {_one_line(error)}.") from error


class _Options(Section):
    model_config = ConfigDict(arbitrary_types_allowed=True)


class OwnScorer:
    """Runs a check of others. Implements `scorers.contract.Scorer`."""

    def __init__(
        self, info: ScorerInfo, function: Callable[..., Any], options: dict[str, Any], *, timeout_s: float, limit: int
    ) -> None:
        self._info = info
        self._function = function
        self._options = options
        self._timeout_s = timeout_s
        self._places = Places(info, limit)
        self._slots = asyncio.Semaphore(SLOTS)
        self._overrunning = 0

    @property
    def info(self) -> ScorerInfo:
        return self._info

    @property
    def waiting(self) -> int:
        """Answers not checked yet."""
        return self._places.taken

    async def score(self, request: ScoreRequest) -> list[Score]:
        """See the contract. Raises BadScoreRequest, Overloaded, ScorerUnavailable where too many checks overrun."""
        if self._overrunning >= SLOTS:
            raise ScorerUnavailable(f"{SLOTS} checks of {self._info.id} overrun their time limit and still run.")
        count = self._places.take(request)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._judged(request, candidate)) for candidate in request.candidates]
        finally:
            self._places.give_back(count)
        return [task.result() for task in tasks]

    async def _judged(self, request: ScoreRequest, candidate: Message) -> Score:
        case = Case(request.messages, candidate, request.tools, request.response_format, request.reference)
        limit = asyncio.timeout(None)
        try:
            async with self._slots, limit:
                limit.reschedule(asyncio.get_running_loop().time() + self._timeout_s)
                returned = await self._run(case)
            verdict = read_verdict(returned)
        except CannotScore as error:
            return Score(error=str(error))
        except BadScoreRequest as error:
            return Score(error=str(error), unreadable=True)
        except Exception as error:
            if limit.expired():
                return Score(error=f"The check took longer than {self._timeout_s:g} s.")
            logger.warning("the check of %s failed", self._info.id, exc_info=error)
            return Score(error=f"The check failed ({type(error).__name__}); the scorer server's log says why.")
        return Score(value=verdict.value, parts=dict(verdict.parts))

    async def _run(self, case: Case) -> Any:
        if inspect.iscoroutinefunction(self._function):
            return await self._function(case, **self._options)
        if self._overrunning >= SLOTS:
            raise CannotScore(f"{SLOTS} checks overrun their time limit and still run, so no other is begun.")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Any] = loop.create_future()
        ended = overran = False

        def finish(value: Any, error: Exception | None) -> None:
            nonlocal ended
            ended = True
            self._overrunning -= overran
            if result.done():
                return
            if error is None:
                result.set_result(value)
            else:
                result.set_exception(error)

        # A daemon, so that one that hangs does not keep the server from stopping.
        threading.Thread(target=self._work, args=(case, loop, finish), name=self._info.id, daemon=True).start()
        try:
            return await result
        finally:
            if not ended:
                overran = True
                self._overrunning += 1

    def _work(
        self, case: Case, loop: asyncio.AbstractEventLoop, finish: Callable[[Any, Exception | None], None]
    ) -> None:
        value: Any = None
        error: Exception | None = None
        try:
            value = self._function(case, **self._options)
        except StopIteration as raised:  # a future takes none
            error = RuntimeError(_one_line(raised))
        except Exception as raised:
            error = raised
        except BaseException as raised:  # SystemExit too is the end of this check alone
            error = RuntimeError(_one_line(raised))
        with contextlib.suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(finish, value, error)

    async def close(self) -> None:
        """Nothing is kept."""


def read_verdict(returned: Any) -> Verdict:
    """What a function returned, as a verdict. Raises CannotScore where that is no finite number."""
    verdict = returned if isinstance(returned, Verdict) else Verdict(returned)
    if not _is_finite(verdict.value):
        what = str(verdict.value) if isinstance(verdict.value, float) else type(verdict.value).__name__
        raise CannotScore(f"The check returned {what} where a finite number is due.")
    if not all(isinstance(name, str) and _is_finite(part) for name, part in verdict.parts.items()):
        raise CannotScore("The check returned parts that are no finite numbers by name.")
    return replace(
        verdict, value=float(verdict.value), parts={name: float(part) for name, part in verdict.parts.items()}
    )


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, numbers.Real) and math.isfinite(float(value))
    except OverflowError:
        return False


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
