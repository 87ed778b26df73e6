"""Verifiers: scorers that check an answer by rule, without a model and without loading a model library."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from scorers.contract import Message, Score, ScoreRequest
from scorers.loading import Loading, ServedScorer, declared
from scorers.model_path import LoadError
from scorers.plain_scorer import PlainScorer
from scorers.scorer_settings import VerifierConfig
from scorers.settings import Section
from scorers.verifiers import own
from scorers.verifiers.case import Case, Check
from scorers.verifiers.exact import ExactOptions, exact
from scorers.verifiers.json_schema import JsonSchemaOptions, json_schema
from scorers.verifiers.length import LengthOptions, length
from scorers.verifiers.numeric import NumericOptions, numeric
from scorers.verifiers.regex import RegexOptions, regex
from scorers.verifiers.tool_call import ToolCallOptions, tool_call


@dataclass(frozen=True, slots=True)
class _BuiltIn:
    """A check of ours: its settings, and what makes it from them."""

    options: type[Section]
    make: Callable[[Any], Check]


_CHECKS: Mapping[str, _BuiltIn] = {
    "exact": _BuiltIn(ExactOptions, exact),
    "numeric": _BuiltIn(NumericOptions, numeric),
    "regex": _BuiltIn(RegexOptions, regex),
    "json_schema": _BuiltIn(JsonSchemaOptions, json_schema),
    "tool_call": _BuiltIn(ToolCallOptions, tool_call),
    "length": _BuiltIn(LengthOptions, length),
}


@dataclass(frozen=True, slots=True)
class OptionInfo:
    """One option of a check: its type in words, its default as YAML would have it (None: it has to be given)."""

    name: str
    type: str
    default: str | None
    about: str


@dataclass(frozen=True, slots=True)
class CheckInfo:
    """A check that `check:` may name. about: one sentence, or why it cannot be used."""

    name: str
    about: str
    options: list[OptionInfo]


def describe_checks() -> list[CheckInfo]:
    """All checks: ours, then those installed, which are imported for it."""
    ours = [CheckInfo(name, _about(check.make), list(_options(check.options))) for name, check in _CHECKS.items()]
    others = [_describe(name, point) for name, point in own.installed().items() if name not in _CHECKS]
    return ours + others


def load(name: str, config: VerifierConfig, loading: Loading) -> tuple[ServedScorer, str]:
    """The scorer, and what it checks in a few words. Raises LoadError."""
    info = declared(name, config, partial=False)
    limit = loading.server.max_queue
    ours = _CHECKS.get(config.check)
    if ours is not None:
        check = ours.make(_read(name, config, ours.options))
        return PlainScorer(info, _judge(check), limit=limit), f"the check {config.check}"
    installed = own.installed()
    point = installed.get(config.check)
    if point is None:
        known = ", ".join([*_CHECKS, *(each for each in installed if each not in _CHECKS)])
        raise LoadError(
            f"scorers.{name}.check: there is no check {config.check!r}; there is {known}. "
            f"One of your own is an entry point of the group {own.GROUP}."
        )
    function = own.load_function(point)
    options = _read(name, config, own.options_model(config.check, function))
    given = {field: getattr(options, field) for field in type(options).model_fields}
    scorer = own.OwnScorer(info, function, given, timeout_s=config.timeout_s, limit=limit)
    return scorer, f"the check {config.check} of {point.value}"


def _judge(check: Check) -> Callable[[ScoreRequest, Message | None], Score]:
    def judge(request: ScoreRequest, candidate: Message | None) -> Score:
        case = Case(request.messages, candidate or {}, request.tools, request.response_format, request.reference)
        verdict = check(case)
        return Score(value=verdict.value, parts=dict(verdict.parts))

    return judge


def _read(name: str, config: VerifierConfig, model: type[Section]) -> Section:
    """The options, checked. Raises LoadError with a sentence a mistake."""
    try:
        return model.model_validate(config.options)
    except ValidationError as error:
        known = ", ".join(option.name for option in _options(model)) or "none"
        raise LoadError(" ".join(_explain(name, config.check, known, one) for one in error.errors())) from None


def _explain(name: str, check: str, known: str, error: Any) -> str:
    where = ".".join([f"scorers.{name}.options", *map(str, error["loc"])])
    if error["type"] == "extra_forbidden":
        return f"{where}: {check} has no such option; it has {known}."
    return f"{where}: {str(error['msg']).removeprefix('Value error, ').rstrip('.')}."


def _describe(name: str, point: Any) -> CheckInfo:
    try:
        function = own.load_function(point)
        return CheckInfo(name, _about(function), list(_options(own.options_model(name, function))))
    except LoadError as error:
        return CheckInfo(name, str(error), [])


def _about(function: Callable[..., Any]) -> str:
    return " ".join((function.__doc__ or "").strip().partition("\n\n")[0].split())


def _options(model: type[Section]) -> Iterator[OptionInfo]:
    for name, field in model.model_fields.items():
        default = None if field.is_required() else _written(field.default)
        yield OptionInfo(field.alias or name, _words(field.annotation), default, field.description or "")


def _written(value: Any) -> str:
    if value is None:
        return "empty"
    return str(value).lower() if isinstance(value, bool) else str(value)


_PLAIN = {str: "text", int: "whole number", bool: "true or false", Any: "anything"}


def _words(annotation: Any) -> str:
    """A type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(str(one) for one in inner)
    if origin in (Union, UnionType):
        return " or ".join("empty" if one is NoneType else _words(one) for one in inner)
    if origin is list:
        return f"list of {_words(inner[0])}"
    if origin is dict:
        return "keys and values"
    return _PLAIN.get(annotation, "number")
