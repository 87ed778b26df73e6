"""The plain-text structure of a guard's prompt (`<END CONVERSATION>`, `User:`), kept out of untrusted text.

These markers are no control tokens, so a stranger may write them: an answer that closes the conversation and puts a
harmless one after it. Where untrusted text has a marker, whatever the capitals, white space or invisible characters in
it, all that is no letter, digit or space becomes a hyphen: `-END CONVERSATION-`, and `User- ` at the start of a line.
All else stays.
"""

import re
from collections.abc import Callable, Sequence

_GAP = "[\\s\u00ad\u200b-\u200f\u2060-\u2064\ufeff]*"
_BREAKS = "\n\r\v\f\x1c-\x1e\x85\u2028\u2029"


class Markers:
    """sections are markers anywhere, speakers at the start of a line. normal: a text as the tokenizer reads it."""

    def __init__(self, sections: Sequence[str], speakers: Sequence[str], normal: Callable[[str], str]) -> None:
        parts = [_pattern(marker) for marker in sections]
        # Quotation marks, bullets and emphasis before the name make it no less a turn.
        parts += [f"(?<![^{_BREAKS}])[^\\w{_BREAKS}]*{_pattern(marker)}" for marker in speakers]
        self._any = re.compile("|".join(parts), re.IGNORECASE) if parts else None
        self._normal = normal

    def disarm(self, text: str) -> str:
        """The text without markers."""
        if self._any is None:
            return text
        if not text.isascii():
            normal = self._normal(text)  # `＜END CONVERSATION＞` is one to some tokenizers
            if len(self._any.findall(normal)) > len(self._any.findall(text)):
                text = normal
        return self._any.sub(lambda found: re.sub(r"[^\w\s]|_", "-", found.group()), text)


def _pattern(marker: str) -> str:
    """Its words and its single punctuation marks, in order, with any gap between them."""
    return _GAP.join(map(re.escape, re.findall(r"[^\W_]+|[^\w\s]|_", marker)))
