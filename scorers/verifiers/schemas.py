"""JSON schemas of operators and of strangers, checked within bounds.

A schema may come with a request, so it cannot reach out (no reference leaves the document) and patterns run in linear
time. A few kilobytes of schema can ask for exponential work, by references that double at each step; so the work on a
value is counted, each pair of subschema and value once, before any is done. What this cannot bound (`unevaluated...`,
dynamic references, identifiers within a schema) is refused: the check then says that it cannot tell.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

if TYPE_CHECKING:
    import jsonschema_rs

_MAX_BYTES = 128 * 1024
_MAX_PATTERNS = 50
_MAX_DEPTH = 128  # of a value
_MAX_WORK = 200_000  # evaluations of a subschema on a value, each up to 100 ns
_MAX_PAIRS = 20_000  # looked at while counting, each about 2 µs
_REGEX_BYTES = 256 * 1024
_IN_PROGRESS = -1

_UNBOUNDED = ("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef")
_DRAFTS = ("draft/2020-12/schema", "draft/2019-09/schema", "draft-07/schema", "draft-06/schema")
_KNOWN = {f"{scheme}://json-schema.org/{draft}" for scheme in ("http", "https") for draft in _DRAFTS}


class Uncheckable(Exception):
    """Whether a value keeps a schema cannot be said; the text says why, without a full stop."""


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema that values can be held against."""

    document: Any
    validator: "jsonschema_rs.Validator"

    def kept_by(self, value: Any) -> bool:
        """Whether the value keeps it. Raises Uncheckable where finding out would take too long."""
        _limit_depth(value)
        try:
            _Work(self.document).count(self.document, value)
        except RecursionError:
            raise Uncheckable("value and schema together nest too deep") from None
        return self.validator.is_valid(value)


def schema_of(document: Any) -> Schema:
    """The schema, compiled or seen lately. Raises Uncheckable where it is none, or one that is not checked here."""
    try:
        text = msgspec.json.encode(document)
    except (RecursionError, ValueError, TypeError):
        raise Uncheckable("it cannot be written as JSON") from None
    if len(text) > _MAX_BYTES:
        raise Uncheckable(f"it has {len(text)} bytes, more than {_MAX_BYTES}")
    return _compiled(text)


@lru_cache(maxsize=32)
def _compiled(text: bytes) -> Schema:
    import jsonschema_rs  # noqa: PLC0415  # 40 ms, and most scorer servers check no schema

    document = msgspec.json.decode(text)
    if not isinstance(document, dict | bool):
        raise Uncheckable("a schema is an object, true or false")
    try:
        patterns = sum(_vetted(document, node) for node in _reachable(document))
    except RecursionError:
        raise Uncheckable("it nests too deep") from None
    if patterns > _MAX_PATTERNS:
        raise Uncheckable(f"it has {patterns} patterns, more than {_MAX_PATTERNS}")
    if isinstance(document, dict) and str(document.get("$schema", "")).rstrip("#") not in _KNOWN:
        document.pop("$schema", None)
    options = jsonschema_rs.RegexOptions(size_limit=_REGEX_BYTES, dfa_size_limit=_REGEX_BYTES)
    try:
        validator = jsonschema_rs.validator_for(
            document, pattern_options=options, offline=True, mask="it", validate_formats=False
        )
    except jsonschema_rs.ValidationError as error:
        where = "/".join(str(step) for step in error.instance_path)
        raise Uncheckable(f"at /{where}: {error.message}"[:300]) from None
    except ValueError as error:
        raise Uncheckable(str(error)[:300]) from None
    return Schema(document, validator)


def _vetted(document: Any, node: dict[str, Any]) -> int:
    """How many patterns a subschema has. Raises Uncheckable where it has what cannot be bounded."""
    for keyword in _UNBOUNDED:
        if keyword in node:
            raise Uncheckable(f"{keyword} is not checked here")
    for keyword in ("$id", "id"):
        if node is not document and isinstance(node.get(keyword), str):
            raise Uncheckable(f"{keyword} within a schema is not checked here")
    return ("pattern" in node) + len(_values(node.get("patternProperties")))


def _reachable(document: Any) -> Iterator[dict[str, Any]]:
    """All subschemas that checking a value can come to."""
    seen: set[int] = set()
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict) or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        for keyword in ("not", "if", "then", "else", "additionalProperties", "propertyNames", "contains"):
            waiting.append(node.get(keyword))
        for keyword in ("items", "additionalItems"):
            waiting += _items(node[keyword]) or [node[keyword]] if keyword in node else []
        for keyword in ("allOf", "anyOf", "oneOf", "prefixItems"):
            waiting += _items(node.get(keyword))
        for keyword in ("properties", "patternProperties", "dependentSchemas", "dependencies"):
            waiting += _values(node.get(keyword))
        if "$ref" in node:
            waiting.append(_referred(document, node["$ref"]))


def _referred(document: Any, reference: Any) -> Any:
    """The subschema that a reference leads to. Raises Uncheckable where that is no place in the document."""
    if reference == "#":
        return document
    node = document
    known = isinstance(reference, str) and reference.startswith("#/")
    for step in reference[2:].split("/") if known else ():
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isascii() and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            known = False
            break
    if not known:
        raise Uncheckable(f"$ref {str(reference)[:100]!r} does not lead to a place in the schema itself")
    return node


class _Work:
    """Counts what a validator that never stops early would do, looking at each pair of subschema and value once."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._known: dict[tuple[int, int], int] = {}

    def count(self, node: Any, value: Any) -> int:
        """Evaluations that holding `value` against `node` takes. Raises Uncheckable where they are too many."""
        if not isinstance(node, dict):
            return 1
        pair = (id(node), id(value))
        known = self._known.get(pair)
        if known == _IN_PROGRESS:
            raise Uncheckable("a part of it refers to itself at the same value")
        if known is not None:
            return known
        if len(self._known) >= _MAX_PAIRS:
            raise Uncheckable("checking the value would take too long")
        self._known[pair] = _IN_PROGRESS
        total = 1 + len(_items(node.get("enum"))) + sum(self.count(*one) for one in self._applied(node, value))
        if isinstance(value, list) and node.get("uniqueItems"):
            total += len(value)
        if isinstance(value, str) and "pattern" in node:
            total += len(value) // 64
        if total > _MAX_WORK:
            raise Uncheckable("checking the value would take too long")
        self._known[pair] = total
        return total

    def _applied(self, node: dict[str, Any], value: Any) -> Iterator[tuple[Any, Any]]:
        """The pairs of subschema and value that holding `value` against `node` comes to next."""
        if "$ref" in node:
            yield _referred(self._document, node["$ref"]), value
        for keyword in ("not", "if", "then", "else"):
            yield node.get(keyword), value
        for keyword in ("allOf", "anyOf", "oneOf"):
            yield from ((each, value) for each in _items(node.get(keyword)))
        for keyword in ("dependentSchemas", "dependencies"):
            yield from ((each, value) for each in _values(node.get(keyword)))
        if isinstance(value, dict):
            named = node.get("properties")
            properties = named if isinstance(named, dict) else {}
            yield from ((properties[key], child) for key, child in value.items() if key in properties)
            for each in (*_values(node.get("patternProperties")), node.get("additionalProperties")):
                yield from ((each, child) for child in value.values())
            yield from ((node.get("propertyNames"), key) for key in value)
        elif isinstance(value, list):
            for keyword in ("items", "prefixItems"):
                yield from zip(_items(node.get(keyword)), value, strict=False)
            for keyword in ("items", "additionalItems", "contains"):
                yield from ((node.get(keyword), item) for item in value)


def _limit_depth(value: Any) -> None:
    """Raises Uncheckable where a value nests deeper than the validator, which recurses, can be trusted with."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [child for node in level for child in (*_items(node), *_values(node))]
        if not level:
            return
    raise Uncheckable(f"the value nests deeper than {_MAX_DEPTH}")


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _values(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []
