"""Telephone numbers: which rows of digits, written as they are, somebody can be called by.

A number is certain by its plus sign (E.164), or likely by the way a country writes it; where neither holds, a word
before it (`Tel.`, `móvil`, `電話`) says so. Dates, amounts and versions are written otherwise.
"""

import re
from collections.abc import Iterator

# RE2, on flat text.
WRITTEN = "|".join(
    (
        r"(?:\+|\b00)[1-9]\d{0,2}(?:[ ./-]{0,2}\(?\d{1,12}\)?){1,6}",  # +49 30 123456, +1 (212) 555-0123, 0044 20 ...
        r"(?:\b1[ .-]?)?\([2-9]\d\d\) ?[2-9]\d\d[ .-]?\d{4}\b",  # US, Canada: (212) 555-0123
        r"\b(?:1[ .-])?[2-9]\d\d(?:-[2-9]\d\d-|\.[2-9]\d\d\.| [2-9]\d\d )\d{4}\b",  # 212-555-0123
        r"(?:\b[78] ?)?\(\d{3,5}\) ?\d{2,3}[ -]?\d\d[ -]?\d\d\b",  # Russia: 8 (912) 345-67-89
        r"\(\d\d\) ?9?\d{4}[ -]?\d{4}\b",  # Brazil: (11) 91234-5678
        r"\(0[1-9]\d{0,4}\)[ /-]{0,3}\d{2,8}(?:[ /-]\d{1,8}){0,4}\b",  # Germany, Britain: (030) 123456
        r"\b0[1-9](?:[ .-]\d\d){4}\b",  # France: 01 23 45 67 89
        r"\b0[1-9]\d{0,4}[ /-]{1,3}\d{2,8}(?:[ /-]\d{1,8}){0,4}\b",  # 020 7946 0958, 030/123456, 090-1234-5678
        r"\b0[1-9]\d{8,9}\b",  # the same as one: 0612345678, 07700900123
        r"\b[67]\d\d(?: \d\d){3}\b|\b9\d(?: \d{3} \d\d \d\d)\b",  # Spain: 612 34 56 78, 91 123 45 67
        r"\b1[3-9]\d(?:\d{8}| \d{4} \d{4}|-\d{4}-\d{4})\b",  # China: 138 1234 5678
    )
)

_WORDS = (
    r"(?<!\w)(?:tel|tél|telefon\w{0,8}|teléfono|telefone|téléphone|telephone|phone|mobile|mobil|handy|móvil|celular|cell|"
    r"portable|fax|whats ?app|sms|call|rufen?|anrufen|appelez|appeler|llama|llame|ligue|тел|телефон\w{0,4}|звоните|"
    r"هاتف|جوال|فاكس|फ़ोन|फोन|मोबाइल)[^\w\n]{0,3}(?:\w{1,10}[^\w\n]{1,3}){0,2}"
    r"|(?:電話|携帯|手机|电话|전화)\w{0,6}[^\w\n]{0,3}"
)
# India: 98765 43210, but not two of a list of numbers. RE2, on flat text; the group is the number.
PAIRED = r"(?:^|^\s|[^\d\s]\s?)([6-9]\d{4} \d{5})(?:$|\s$|\s?[^\d\s])"

# RE2, on UTF-8: no number is announced in a text without this.
ANNOUNCES = (
    r"(?i)tel|tél|phon|mobi|handy|móvil|celular|cell|portable|fax|app|sms|call|ruf|llam|ligue|тел|звон|هاتف|جوال|فاكس|"
    r"फ़ोन|फोन|मोबाइल|電話|携帯|手机|电话|전화"
)
_AFTER_A_WORD = re.compile(rf"(?:{_WORDS})(?P<number>\+?\(?\d(?:[ ().\-/]{{0,2}}\d){{6,14}})(?!\w)", re.IGNORECASE)
_DATE = re.compile(r"[0-3]?\d[./-][01]?\d[./-](?:19|20)\d\d(?!\d)|(?:19|20)\d\d[./-][01]?\d[./-][0-3]?\d(?!\d)")
_LEAST, _MOST = 9, 15


def phone(written: str) -> int:
    """How much of it is a telephone number, in characters from its start; 0: it is none.

    written: as one of WRITTEN, the longest that fits: numbers that follow may be in it.
    """
    least = 8 if written[0] == "+" else 10 if written.startswith("00") else _LEAST
    end = len(written)
    while sum(map(str.isdecimal, written[:end])) > _MOST:
        end = max(written.rfind(separator, 0, end) for separator in " ./-(")
        if end < 0:
            return 0
    kept = written[:end].rstrip(" ./-(")
    if sum(map(str.isdecimal, kept)) < least or _DATE.match(kept):
        return 0
    return len(kept)


def announced(text: str) -> Iterator[tuple[int, int]]:
    """Where numbers are that a word before them says to be telephone numbers, however they are written."""
    for match in _AFTER_A_WORD.finditer(text):
        if not _DATE.match(match["number"]):
            yield match.span("number")
