"""JSON schemas from strangers: compiled, bounded, and kept for the next request.

A schema comes with the request, so nothing in it may reach out or cost much: no reference leaves the document, patterns
run in linear time (those that cannot, with lookaround, are not checked), sizes and depths have limits. A few kilobytes
of schema can ask for exponential work, by references that double at each step; so the work on one value is counted
before it is done, and not done beyond a budget.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

if TYPE_CHECKING:
    import jsonschema_rs

MAX_BYTES = 256 * 1024
MAX_PATTERNS = 200
MAX_VALUE_DEPTH = 128
"""Of an answer; the compiled validator recurses over it without a limit of its own."""
MAX_WORK = 200_000
"""Evaluations of a subschema on a value, each up to 100 ns."""
MAX_PAIRS = 20_000
"""Pairs of subschema and value that counting may look at, each about 2 µs."""

MAX_EXPANSION = 5_000
"""Ways through a schema with `unevaluatedProperties` or `unevaluatedItems`."""

_EVALUATED_AGAIN = 3  # what "unevaluated" means is found by evaluating again (measured: 2.7 times)
_IN_PROGRESS = -1
_REGEX_BYTES = 256 * 1024
_UNSUPPORTED_PATTERNS = 16
_CACHED_SCHEMAS = 256
_CACHED_BYTES = 32 * 1024 * 1024

_LISTS = ("allOf", "anyOf", "oneOf")
_SINGLES = ("not", "if", "then", "else")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_CHILDREN = (
    "additionalProperties", "unevaluatedProperties", "propertyNames", "items", "additionalItems", "contains",
    "unevaluatedItems", "contentSchema",
)  # fmt: skip
_MAPS = ("properties", "patternProperties", "dependentSchemas", "dependencies")
_DRAFTS = frozenset(
    f"{scheme}://json-schema.org/{draft}{end}"
    for scheme in ("http", "https")
    for draft in (
        "draft/2020-12/schema",
        "draft/2019-09/schema",
        "draft-07/schema",
        "draft-06/schema",
        "draft-04/schema",
    )
    for end in ("", "#")
)


class InvalidSchema(Exception):
    """Not a JSON schema, or one beyond the limits; the text says which and where."""


@dataclass(frozen=True)
class Schema:
    """A compiled schema. size: how many subschemas it has with every reference written out; None where it recurs."""

    document: Any
    validator: "jsonschema_rs.Validator | None"
    anchors: Mapping[str, Any]
    size: int | None

    def violation(self, value: Any) -> str | None:
        """Which keyword of the schema `value` does not keep, as a pointer into the schema; None where it keeps all.

        Nothing of the value itself is in the answer. Raises TooComplex where finding out would take too long.
        """
        if self.validator is None:
            return None
        nodes = _nodes(value)
        if self.size is None or self.size * nodes > MAX_WORK:
            _Work(self).check(value)
        if self.validator.is_valid(value):
            return None
        try:
            self.validator.validate(value)
        except ValueError as error:  # jsonschema_rs.ValidationError is one
            return "/" + "/".join(str(step) for step in getattr(error, "schema_path", ()))
        return None


class TooComplex(Exception):
    """Checking would take too long, or the value nests too deep."""


_cache: OrderedDict[bytes, tuple[Schema, int]] = OrderedDict()


def compiled(document: Any) -> Schema:
    """The schema, from the cache where it was seen lately. Raises InvalidSchema."""
    try:
        text = msgspec.json.encode(document)
    except (RecursionError, UnicodeEncodeError, msgspec.MsgspecError):
        raise InvalidSchema("it cannot be written as JSON") from None
    if len(text) > MAX_BYTES:
        raise InvalidSchema(f"it has {len(text)} bytes, more than {MAX_BYTES}")
    key = hashlib.sha256(text).digest()
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key][0]
    schema, patterns = _compile(document)
    _cache[key] = (schema, len(text) + patterns * _REGEX_BYTES // 4)
    while len(_cache) > _CACHED_SCHEMAS or (
        len(_cache) > 1 and sum(size for _, size in _cache.values()) > _CACHED_BYTES
    ):
        _cache.popitem(last=False)
    return schema


def pattern(regex: str) -> Schema | None:
    """A schema of the texts that `regex` matches as a whole; None where it has what a linear engine cannot do."""
    schema, patterns = _compile({"type": "string", "pattern": f"^(?s:{regex})$"})
    return schema if patterns else None


def _compile(document: Any) -> tuple[Schema, int]:
    if not isinstance(document, dict | bool):
        raise InvalidSchema("a schema is an object, true or false")
    try:
        subschemas = list(_subschemas(document))
    except RecursionError:
        raise InvalidSchema("it nests too deep") from None
    anchors = {name: node for node in subschemas for name in _names(node)}
    for node in subschemas:
        for keyword in _REFERENCES:
            if keyword in node and _resolve(document, anchors, node[keyword]) is None:
                raise InvalidSchema(
                    f"{keyword} {str(node[keyword])[:100]!r} does not lead to a place in the schema itself"
                )
    patterns = sum(("pattern" in node) + _length(node.get("patternProperties")) for node in subschemas)
    if patterns > MAX_PATTERNS:
        raise InvalidSchema(f"it has {patterns} patterns, more than {MAX_PATTERNS}")
    try:
        size = _size(document, document, anchors, {}, set())
    except RecursionError:
        size = None
    if any(_unevaluated(node) for node in subschemas):
        _Expansion(document, anchors).check()
    validator, dropped = _validator(document)
    return Schema(document, validator, anchors, size), patterns - dropped


def _validator(document: Any) -> tuple["jsonschema_rs.Validator | None", int]:
    """The validator, and how many patterns were left out since they need more than linear time (lookaround, ...)."""
    import jsonschema_rs  # noqa: PLC0415  # 40 ms, and most requests have no schema

    options = jsonschema_rs.RegexOptions(size_limit=_REGEX_BYTES, dfa_size_limit=_REGEX_BYTES)
    if isinstance(document, dict) and str(document.get("$schema", "")) not in _DRAFTS:
        document = {key: value for key, value in document.items() if key != "$schema"}
    for dropped in range(_UNSUPPORTED_PATTERNS):
        try:
            found = jsonschema_rs.validator_for(
                document, pattern_options=options, offline=True, mask="it", validate_formats=False
            )
            return found, dropped
        except jsonschema_rs.ValidationError as error:
            if getattr(error.kind, "format", None) != "regex":
                where = "/".join(str(step) for step in error.instance_path)
                raise InvalidSchema(f"at /{where}: {error.message}"[:300]) from None
            path = list(error.instance_path)
        except (ValueError, UnicodeEncodeError) as error:
            raise InvalidSchema(str(error)[:300]) from None
        if len(path) > 1 and path[-2] == "patternProperties":
            # What this pattern would have named must not count as additional.
            document = _without(document, [*path[:-2], "additionalProperties"])
        document = _without(document, path)
    return None, 0


def _without(document: Any, path: list[str | int]) -> Any:
    """A copy of `document` that lacks the member at `path`."""
    head, *rest = path
    if isinstance(document, list):
        return [_without(item, rest) if place == head else item for place, item in enumerate(document)]
    if not rest:
        return {key: value for key, value in document.items() if key != head}
    return {key: _without(value, rest) if key == head else value for key, value in document.items()}


def _subschemas(node: Any) -> Iterator[dict[str, Any]]:
    """All subschemas of a document that are objects, the document itself first."""
    if not isinstance(node, dict):
        return
    yield node
    for child in _parts(node):
        yield from _subschemas(child)
    for keyword in ("$defs", "definitions"):
        for child in _values(node.get(keyword)):
            yield from _subschemas(child)


def _parts(node: dict[str, Any]) -> Iterator[Any]:
    """The subschemas that a node applies, but for references."""
    for keyword in (*_SINGLES, *_CHILDREN):
        child = node.get(keyword)
        yield from child if isinstance(child, list) else (child,)
    for keyword in (*_LISTS, "prefixItems"):
        yield from _items(node.get(keyword))
    for keyword in _MAPS:
        yield from _values(node.get(keyword))


def _names(node: dict[str, Any]) -> Iterator[str]:
    """What references may call this node."""
    for keyword in ("$id", "id"):
        if isinstance(node.get(keyword), str):
            yield node[keyword]
    for keyword in ("$anchor", "$dynamicAnchor"):
        if isinstance(node.get(keyword), str):
            yield "#" + node[keyword]


def _resolve(document: Any, anchors: Mapping[str, Any], reference: Any) -> Any:
    """The subschema that a reference leads to within the document, or None."""
    if not isinstance(reference, str):
        return None
    if reference in anchors:
        return anchors[reference]
    if reference != "#" and not reference.startswith("#/"):
        return None
    node = document
    for step in reference[2:].split("/") if len(reference) > 1 else ():
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isascii() and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node


def _size(
    node: Any, document: Any, anchors: Mapping[str, Any], known: dict[int, int | None], open_: set[int]
) -> int | None:
    """How many subschemas a node has with its references written out; None where it recurs."""
    if not isinstance(node, dict):
        return 1
    if id(node) in known:
        return known[id(node)]
    if id(node) in open_:
        return None
    open_.add(id(node))
    total: int | None = 1 + _length(node.get("enum"))
    referred = [_resolve(document, anchors, node[keyword]) for keyword in _REFERENCES if keyword in node]
    for child in (*_parts(node), *referred):
        size = _size(child, document, anchors, known, open_) if child is not None else 0
        total = None if size is None or total is None else total + size
    if total is not None and _unevaluated(node):
        total *= _EVALUATED_AGAIN
    open_.discard(id(node))
    known[id(node)] = total
    return total


class _Expansion:
    """Counts the ways through a schema. What has `unevaluated...` is compiled once for each of them."""

    def __init__(self, document: Any, anchors: Mapping[str, Any]) -> None:
        self._document = document
        self._anchors = anchors
        self._left = MAX_EXPANSION

    def check(self) -> None:
        """Raises InvalidSchema where they are more than MAX_EXPANSION."""
        try:
            self._count(self._document, set())
        except RecursionError:
            raise InvalidSchema("it nests too deep") from None

    def _count(self, node: Any, on_the_way: set[int]) -> None:
        if not isinstance(node, dict) or id(node) in on_the_way:
            return
        self._left -= 1
        if self._left < 0:
            raise InvalidSchema("its references and unevaluatedProperties or unevaluatedItems multiply")
        on_the_way.add(id(node))
        for child in _parts(node):
            self._count(child, on_the_way)
        for keyword in _REFERENCES:
            if keyword in node:
                self._count(_resolve(self._document, self._anchors, node[keyword]), on_the_way)
        on_the_way.discard(id(node))


class _Work:
    """Counts what a validator that never stops early would do, looking at each pair of subschema and value once."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._known: dict[tuple[int, int], int] = {}

    def check(self, value: Any) -> None:
        """Raises TooComplex where it is more than MAX_WORK."""
        try:
            self._count(self._schema.document, value)
        except RecursionError:
            raise TooComplex from None

    def _count(self, node: Any, value: Any) -> int:
        if not isinstance(node, dict):
            return 1
        pair = (id(node), id(value))
        known = self._known.get(pair)
        if known == _IN_PROGRESS:
            raise TooComplex  # it refers to itself at the same value
        if known is not None:
            return known
        if len(self._known) >= MAX_PAIRS:
            raise TooComplex
        self._known[pair] = _IN_PROGRESS
        total = 1 + _length(node.get("enum")) + sum(self._count(child, value) for child in self._in_place(node))
        if _unevaluated(node):
            total *= _EVALUATED_AGAIN
        if isinstance(value, dict):
            total += self._object(node, value)
        elif isinstance(value, list):
            total += self._array(node, value)
        elif isinstance(value, str) and "pattern" in node:
            total += len(value) // 64
        if total > MAX_WORK:
            raise TooComplex
        self._known[pair] = total
        return total

    def _in_place(self, node: dict[str, Any]) -> Iterator[Any]:
        for keyword in _REFERENCES:
            if keyword in node:
                yield _resolve(self._schema.document, self._schema.anchors, node[keyword])
        for keyword in _SINGLES:
            if keyword in node:
                yield node[keyword]
        for keyword in _LISTS:
            yield from _items(node.get(keyword))
        for keyword in ("dependentSchemas", "dependencies"):
            yield from _values(node.get(keyword))

    def _object(self, node: dict[str, Any], value: dict[str, Any]) -> int:
        named = node.get("properties")
        properties = named if isinstance(named, dict) else {}
        total = sum(self._count(properties[key], child) for key, child in value.items() if key in properties)
        for pattern in _values(node.get("patternProperties")):
            total += sum(self._count(pattern, child) for child in value.values())
        for keyword in ("additionalProperties", "unevaluatedProperties"):
            if keyword in node:
                total += sum(self._count(node[keyword], child) for child in value.values())
        if "propertyNames" in node:
            total += sum(self._count(node["propertyNames"], key) for key in value)
        return total

    def _array(self, node: dict[str, Any], value: list[Any]) -> int:
        total = len(value) if node.get("uniqueItems") else 0
        for keyword in ("items", "prefixItems"):
            if isinstance(node.get(keyword), list):
                total += sum(self._count(child, item) for child, item in zip(node[keyword], value, strict=False))
        for keyword in ("items", "additionalItems", "contains", "unevaluatedItems"):
            if isinstance(node.get(keyword), dict):
                total += sum(self._count(node[keyword], item) for item in value)
        return total


def _nodes(value: Any) -> int:
    """How many values there are in a value. Raises TooComplex where it nests too deep."""
    total, level = 1, [value]
    for _ in range(MAX_VALUE_DEPTH):
        level = [child for node in level for child in _within(node)]
        if not level:
            return total
        total += len(level)
    raise TooComplex


def _within(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        return iter(value)
    return _values(value)


def _unevaluated(node: dict[str, Any]) -> bool:
    return "unevaluatedProperties" in node or "unevaluatedItems" in node


def _values(value: Any) -> Iterator[Any]:
    return iter(value.values()) if isinstance(value, dict) else iter(())


def _items(value: Any) -> Iterator[Any]:
    return iter(value) if isinstance(value, list) else iter(())


def _length(value: Any) -> int:
    return len(value) if isinstance(value, dict | list) else 0
