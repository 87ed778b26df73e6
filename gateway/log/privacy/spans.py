"""Spans: stretches of a text that are to be taken out."""

from collections.abc import Callable, Iterable
from typing import NamedTuple


class Span(NamedTuple):
    """Characters `start` to `end` of a text. kind: what they are, in lower case; it is shown as `[KIND]`."""

    start: int
    end: int
    kind: str


Finder = Callable[[str], Iterable[tuple[int, int, str]]]
"""A redactor: what is to be taken out of a text, in any order; spans may overlap."""


def merged(spans: Iterable[Span]) -> list[Span]:
    """In order and apart: those that overlap are one, of the kind of the longest (of the first, where two are)."""
    found: list[Span] = []
    longest = 0
    for span in sorted(spans):
        if not found or span.start >= found[-1].end:
            found.append(span)
            longest = span.end - span.start
            continue
        last = found[-1]
        kind = span.kind if span.end - span.start > longest else last.kind
        longest = max(longest, span.end - span.start)
        found[-1] = Span(last.start, max(last.end, span.end), kind)
    return found


def label(kind: str) -> str:
    return f"[{kind.upper()}]"


def replaced(text: str, spans: Iterable[Span]) -> str:
    """spans: in order and apart."""
    parts, position = [], 0
    for span in spans:
        parts += [text[position : span.start], label(span.kind)]
        position = span.end
    return "".join([*parts, text[position:]])
