"""A text as bytes of the same length, so that RE2 reads it and its offsets are the text's.

Latin letters and punctuation are themselves (Latin-1); digits of other scripts and wide characters are ASCII's; other
letters up to Georgian (Greek, Cyrillic, Arabic, ...), which stand between spaces as Latin ones do, are LETTER; the rest
is OTHER. Scripts without spaces are OTHER too, so that `電話はtaro@example.jpまで` has an address in it.
"""

import codecs
import unicodedata

LETTER = 0xFF  # a y with diaeresis
OTHER = 0x7F
_SPACELESS = 0x0E00  # Thai, and nearly all that follows

_DIGITS = {
    ord(character): str(unicodedata.digit(character))
    for code in range(0x80, 0x20000)
    if unicodedata.category(character := chr(code)) == "Nd"
}
_WIDE_LETTERS = {code: chr(code - 0xFEE0) for code in (*range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
_ALIKE = _DIGITS | _WIDE_LETTERS | {
    ord(wide): plain
    for wide, plain in {
        "＠": "@", "．": ".", "。": ".", "：": ":", "＋": "+", "（": "(", "）": ")", "　": " ", "－": "-", "−": "-",
        "‐": "-", "‑": "-", "‒": "-", "–": "-", "ー": "-", "\u00a0": " ", "\u2007": " ", "\u2009": " ", "\u202f": " ",
    }.items()
}  # fmt: skip


def flat(text: str) -> bytes:
    """One byte a character."""
    if text.isascii():
        return text.encode()
    return text.translate(_ALIKE).encode("latin-1", "bestow.flat")


def _flatten(error: UnicodeError) -> tuple[bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    run = error.object[error.start : error.end]
    return bytes(LETTER if ord(one) < _SPACELESS and one.isalpha() else OTHER for one in run), error.end


codecs.register_error("bestow.flat", _flatten)
