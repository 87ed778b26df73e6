r"""Finding the answer in a text: its last line, a boxed expression, a number, a letter, a JSON field, a captured group.

Pure, in time linear in the text, and without imports from the scorer server or from model libraries: what votes over
answers may use it too.

    text         all of it
    last_line    the last line that is not blank
    boxed        what the last \boxed{...} or \fbox{...} holds; nothing where it is not closed, since the answer was cut
    last_number  the last number, in digits, as it is written (`numerals`)
    choice       the letter of a multiple choice
    json_field   a field of the JSON that the text, or else its last code block, is; numbers as they are written
    regex        what the first match of a pattern (RE2) captures in its first group, or the match where it has none
"""

import json
import re
from collections.abc import Callable
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from scorers.settings import Section
from scorers.verifiers.numerals import last_number

How = Literal["text", "last_line", "boxed", "last_number", "choice", "json_field", "regex"]
Extractor = Callable[[str], str | None]
"""The answer in a text; None where there is none."""

_HOW = "Where the answer is in the text: all of it, its last line, a \\boxed{} expression, its last number, the letter "
_HOW += "of a choice, a JSON field, or what a pattern captures."


class Extraction(Section):
    """How an answer is found."""

    extract: How = Field("text", description=_HOW)
    json_field: str | None = Field(
        None, min_length=1, description="With extract: json_field, which one; `a.b.0` goes into objects and lists."
    )
    pattern: str | None = Field(
        None, min_length=1, description="With extract: regex, the regular expression (RE2) whose first group it is."
    )
    choices: str = Field("ABCD", pattern=r"^[A-Z]{2,26}$", description="With extract: choice, the letters there are.")

    @field_validator("pattern")
    @classmethod
    def _pattern_compiles(cls, value: str | None) -> str | None:
        if value is not None:
            compiled(value)
        return value

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for how, key, value in (("json_field", "json_field", self.json_field), ("regex", "pattern", self.pattern)):
            if self.extract == how and value is None:
                raise ValueError(f"extract: {how} needs {key}")
            if self.extract != how and value is not None:
                raise ValueError(f"{key} does something with extract: {how} only")
        return self


def extractor(options: Extraction) -> Extractor:
    """The function that finds an answer as these options say."""
    match options.extract:
        case "text":
            return lambda text: text.strip() or None
        case "last_line":
            return _last_line
        case "boxed":
            return boxed
        case "last_number":
            return last_number
        case "choice":
            return _choice(options.choices)
        case "json_field":
            return _json_field(options.json_field or "")
        case "regex":
            return _captured(options.pattern or "")


def compiled(pattern: str, *, ignore_case: bool = False) -> Any:
    """A pattern that searches any text in linear time. Raises ValueError with what is wrong with it."""
    import re2  # noqa: PLC0415  # 10 ms, and most checks have no pattern

    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"{pattern!r} is no regular expression of RE2: {reason}") from None


def _last_line(text: str) -> str | None:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)


_BOX = re.compile(r"\\f?box(?:ed)?\s{0,3}\{")
_IN_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s{0,3}\{([^{}]*)\}")


def boxed(text: str) -> str | None:
    r"""What the last box holds, its braces balanced; a \text{...} that is all of it is opened too."""
    at = max(text.rfind(r"\boxed"), text.rfind(r"\fbox"))
    opening = _BOX.match(text, at) if at >= 0 else None
    if opening is None:
        return None
    depth, escaped = 1, False
    for place in range(opening.end(), len(text)):
        character = text[place]
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in "{}":
            depth += 1 if character == "{" else -1
            if depth == 0:
                content = text[opening.end() : place].strip()
                plain = _IN_TEXT.fullmatch(content)
                return (plain[1].strip() if plain else content) or None
    return None


def _choice(letters: str) -> Extractor:
    """The letter in a box, else after the last 'answer is', else all of the text, else 'B)' at its start or a '(B)'."""
    word = "is|are|be|would be|should be|option|choice|letter|text|textbf|mathbf|mathrm"
    gap = r"[^A-Za-z0-9\n]{1,8}"
    said = re.compile(rf"\b(?i:answer|option|choice)(?:{gap}(?i:{word})){{0,4}}{gap}([{letters}])(?![A-Za-z0-9'’])")
    alone = re.compile(rf"[\W_]*([{letters}{letters.lower()}])[\W_]*")
    first = re.compile(rf"[\s(*]{{0,8}}([{letters}])\*{{0,2}}[).:]")
    marked = re.compile(rf"\(([{letters}])\)")

    def find(text: str) -> str | None:
        found = alone.fullmatch(boxed(text) or "")
        for match in said.finditer(text) if found is None else ():
            found = match
        found = found or alone.fullmatch(text) or first.match(text)
        for match in marked.finditer(text) if found is None else ():
            found = match
        return found[1].upper() if found else None

    return find


def _json_field(path: str) -> Extractor:
    steps = path.split(".")

    def find(text: str) -> str | None:
        node = read_json(text)
        for step in steps:
            if isinstance(node, dict) and step in node:
                node = node[step]
            elif isinstance(node, list) and step.isascii() and step.isdigit() and int(step) < len(node):
                node = node[int(step)]
            else:
                return None
        if isinstance(node, bool):
            return "true" if node else "false"
        return node.strip() or None if isinstance(node, str) else None

    return find


def read_json(text: str) -> Any:
    """The value that the text is, or else its last code block, numbers as strings, as they are written; else None."""
    for candidate in (text, code_block(text)):
        try:
            return json.loads(candidate or "", parse_float=str, parse_int=str, parse_constant=_refuse)
        except (ValueError, RecursionError):
            continue
    return None


def code_block(text: str) -> str | None:
    """What the last block between ``` fences holds, without the name of its language."""
    pieces = text.split("```")
    if len(pieces) < 3:
        return None
    # Pieces with an odd place are blocks; one without an end is none.
    block = pieces[len(pieces) - 2 if len(pieces) % 2 else len(pieces) - 3]
    head, line_break, rest = block.partition("\n")
    return rest if line_break and head.strip().isalnum() else block


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _captured(pattern: str) -> Extractor:
    search = compiled(pattern)
    group = min(search.groups, 1)

    def find(text: str) -> str | None:
        match = search.search(text)
        return ((match[group] or "").strip() or None) if match else None

    return find
