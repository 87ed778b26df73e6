"""Texts without what somebody could be harmed by: addresses, numbers and keys replaced by `[EMAIL]`, `[CARD]`, ...

Nothing of what was there is kept, not as a hash either: what has few values (telephone numbers) can be had back from
one. Redacting twice changes nothing. A text that is JSON stays JSON: its strings, names and numbers are redacted each.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gateway.log.privacy.kinds import KINDS, may_hold, spans
from gateway.log.privacy.plugins import load
from gateway.log.privacy.spans import Finder, Span, label, merged, replaced

logger = logging.getLogger(__name__)

# A replacement may uncover something that stood too close to it. No text but one made for it takes more passes.
_PASSES = 4
UNREAD = "unread"
"""The kind that a whole text is where it could not be redacted."""

_JSON = re.compile(r"\s*[\[{]")
_KIND = re.compile(r"[A-Za-z0-9_]{1,40}")
_LABEL = re.compile(r"\[[A-Z0-9_]{1,40}\]")

# What stands before a number or a secret, where a JSON name says what its value is.
_CUES = {
    "phone: ": re.compile(r"phone|telefon|mobile|mobil|handy|(?:^|_)(?:tel|cell|fax)(?:_|$)", re.IGNORECASE),
    "password: ": re.compile(r"passw|(?:^|_)pwd|secret|token(?!s)|(?:api|access|private)[_-]?key", re.IGNORECASE),
}

Count = Counter[str]


class Redactor:
    """Redacts by these names, of KINDS or of plugins. Raises ConfigError for one that is not there.

    load: where the others come from.
    """

    def __init__(self, names: Sequence[str], load: Callable[[str], Finder] = load) -> None:
        self._kinds = tuple(name for name in names if name in KINDS)
        self._others = [(name, load(name)) for name in names if name not in KINDS]

    @property
    def idle(self) -> bool:
        """It never changes anything."""
        return not self._kinds and not self._others

    def may_change(self, utf8: bytes) -> bool:
        """False where it would change no text in it. utf8: one text, or JSON of many."""
        return bool(self._others) or (bool(self._kinds) and may_hold(utf8))

    def text(self, text: str, counts: Count) -> str:
        """The text redacted; the same object where nothing was found. Adds to counts, by kind."""
        if not text or not self.may_change(text.encode("utf-8", "replace")):
            return text
        if _JSON.match(text):
            found = self._json(text, counts)
            if found is not None:
                return found
        found_spans = self._spans(text, self._others)
        for _ in range(_PASSES):
            if not found_spans:
                return text
            counts.update(span.kind for span in found_spans)
            text = replaced(text, found_spans)
            found_spans = self._spans(text, ()) if may_hold(text.encode("utf-8", "replace")) else []
        counts[UNREAD] += 1
        return label(UNREAD)

    def spans(self, text: str) -> list[Span]:
        """What is taken out of a text that is no JSON, in order and apart."""
        return self._spans(text, self._others) if self.may_change(text.encode("utf-8", "replace")) else []

    def value(self, value: Any, counts: Count) -> Any:
        """A JSON value with its strings, names and whole numbers redacted; the same object where nothing was found."""
        if isinstance(value, str):
            return self.text(value, counts)
        if isinstance(value, int) and not isinstance(value, bool):
            written = str(value)
            found = self.text(written, counts)
            return value if found is written else found
        if isinstance(value, list):
            changed = [self.value(one, counts) for one in value]
            return changed if any(new is not old for new, old in zip(changed, value, strict=True)) else value
        if isinstance(value, dict):
            pairs = {self.text(key, counts): self._named(key, one, counts) for key, one in value.items()}
            same = len(pairs) == len(value) and all(value.get(key, pairs) is one for key, one in pairs.items())
            return value if same else pairs
        return value

    def _named(self, name: str, value: Any, counts: Count) -> Any:
        """The value of a name, which may say what it is: `"phone": "5550123"`."""
        found = self.value(value, counts)
        cue = next((cue for cue, names in _CUES.items() if names.search(name)), None)
        if cue is None or found is not value or isinstance(value, bool) or not isinstance(value, (str, int)):
            return found
        announced = self.text(cue + str(value), counts)
        return announced.removeprefix(cue) if announced != cue + str(value) else value

    def _json(self, text: str, counts: Count) -> str | None:
        """JSON redacted as JSON; None where it is none."""
        repeated = False

        def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
            nonlocal repeated
            read = dict(found)
            repeated = repeated or len(read) < len(found)
            return read

        try:
            read = json.loads(text, object_pairs_hook=pairs)
            redacted = self.value(read, counts)
            if redacted is read and not repeated:
                return text
            # Names that were there twice are there once: what hid behind the later one is gone.
            return json.dumps(redacted, ensure_ascii=False)
        except (ValueError, RecursionError):
            return None

    def _spans(self, text: str, others: Iterable[tuple[str, Finder]]) -> list[Span]:
        found = spans(text, self._kinds) if self._kinds else []
        for name, finder in others:
            try:
                own = [_checked(one, len(text)) for one in finder(text)]
            except Exception as error:
                logger.error("The redactor %s failed (%s); the text is not kept.", name, type(error).__name__)
                return [Span(0, len(text), UNREAD)]
            labels = [match.span() for match in _LABEL.finditer(text)] if own else []
            # It may find again what it has put there before.
            found += [one for one in own if not any(start <= one.start and one.end <= end for start, end in labels)]
        return merged(found)


def _checked(found: tuple[int, int, str], length: int) -> Span:
    """Raises ValueError, TypeError where a plugin returned what is no span of the text."""
    start, end, kind = found
    if not 0 <= start < end <= length or _KIND.fullmatch(kind) is None:
        raise ValueError("it returned no (start, end, kind) of the text")
    return Span(start, end, kind.lower())
