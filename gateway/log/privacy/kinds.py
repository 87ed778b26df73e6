"""What is looked for: each kind's patterns, and a check of what they find.

Patterns are RE2's, on flat text (`flat`): their time is linear in the text, whatever strangers write. A match that its
check refuses is tried again behind its start, which costs no more than a pattern's own (bounded) length each time.
`may_hold` is one pass over bytes that says at once that most texts hold none of it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import re2

from gateway.log.privacy import phones
from gateway.log.privacy.flat import flat
from gateway.log.privacy.numbers import IBAN_LENGTHS, card, iban, internet
from gateway.log.privacy.spans import Span

Found = tuple[int, int]

# Letters of e-mail addresses and of their hosts, in Latin-1.
_L = r"A-Za-z\xc0-\xd6\xd8-\xf6\xf8-\xff"


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    return re2.compile(pattern.encode("latin-1"), options)


@dataclass(frozen=True, slots=True)
class Search:
    """A pattern, and what of a match is taken out: (flat text, start, end) of its group -> (start, end) or None.

    again: a refused match is tried again one byte behind its start, not behind its end; for patterns of bounded length.
    """

    pattern: Any
    check: Callable[[bytes, int, int], Found | None]
    again: bool = False
    group: int = 0

    def __call__(self, flattened: bytes) -> Iterator[Found]:
        position = 0
        while match := self.pattern.search(flattened, position):
            found = self.check(flattened, *match.span(self.group))
            if found:
                yield found
                position = max(found[1], position + 1)
            else:
                position = match.start() + 1 if self.again else match.end()


def _all(_: bytes, start: int, end: int) -> Found:
    return start, end


def _number(text: bytes, start: int, end: int) -> bool:
    """Whether it stands alone: not a part of a longer number, a decimal or a name."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    joined_before = before[-1:].isalnum() or before[-1:] == b"_" or (before[-1:] in b".,-/+:" and before[:1].isdigit())
    joined_after = after[:1].isalnum() or (after[:1] in b".,-/:" and after[1:].isdigit())
    return not (bool(before) and joined_before) and not (bool(after) and joined_after)


def _phone(text: bytes, start: int, end: int) -> Found | None:
    length = phones.phone(text[start:end].decode("latin-1"))
    return (start, start + length) if length and _number(text, start, start + length) else None


def _card(text: bytes, start: int, end: int) -> Found | None:
    return (start, end) if card(text[start:end].translate(None, b" -")) and _number(text, start, end) else None


def _iban(text: bytes, start: int, end: int) -> Found | None:
    account = text[start:end].translate(None, b" -").decode("latin-1").upper()
    length = IBAN_LENGTHS.get(account[:2])
    if length is None or not iban(account[:length]):
        return None
    place = start
    while length:
        length -= text[place : place + 1].isalnum()
        place += 1
    return None if text[place : place + 1].isalnum() else (start, place)


def _internet(text: bytes, start: int, end: int) -> Found | None:
    while text[end - 1 : end] == b":" and text[end - 2 : end] != b"::":
        end -= 1  # the end of a clause
    before, after = text[start - 1 : start] if start else b"", text[end : end + 2]
    joined = before.isalnum() or before in (b":", b".", b"_") or after[:1].isalnum() or after[:1] == b"_"
    joined = joined or (after[:1] in (b".", b":") and after[1:].isalnum())
    return (start, end) if not joined and internet(text[start:end].decode("latin-1")) else None


def _secret(text: bytes, start: int, end: int) -> Found | None:
    """Words are not secrets; nearly all keys and tokens have digits."""
    return (start, end) if any(48 <= one < 58 for one in text[start:end]) else None


def _private_key(text: bytes, start: int, end: int) -> Found:
    """To its end, or to that of the text where it was cut off."""
    closing = text.find(b"-----END", end)
    if closing < 0:
        return start, len(text)
    last = text.find(b"-----", closing + 8)
    return start, len(text) if last < 0 else last + 5


_EMAIL = Search(
    _compiled(
        rf"[{_L}0-9._%+'-]+@(?:[{_L}0-9](?:[{_L}0-9-]{{0,62}})\.){{1,8}}(?:[{_L}]{{2,24}}|xn--[a-z0-9-]{{2,59}})"
        rf"|[{_L}0-9._%+-]+ ?[\[(](?i:at)[\])] ?(?:[{_L}0-9-]{{1,63}}(?: ?[\[(](?i:dot|punkt|punto|point)[\])] ?|\.))"
        rf"{{1,8}}[{_L}]{{2,24}}"
    ),
    _all,
)
_IPV4 = Search(_compiled(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), _internet)
_IPV6 = Search(_compiled(r"(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?:\.\d{1,3}){0,3}"), _internet)
_CARDS = Search(
    _compiled(
        r"\b(?:\d{13,19}|\d{4}[ -]{1,2}\d{4}[ -]{1,2}\d{4}[ -]{1,2}\d{1,4}(?:[ -]{1,2}\d{1,3})?"
        r"|3\d{3}[ -]\d{6}[ -]\d{4,5})\b"
    ),
    _card,
    again=True,
)
_IBANS = Search(_compiled(r"\b[A-Za-z]{2}\d\d(?:[ -]?[A-Za-z0-9]){11,30}"), _iban, again=True)
_PHONES = Search(_compiled(phones.WRITTEN), _phone, again=True)
_PAIRED_PHONES = Search(_compiled(phones.PAIRED), _phone, group=1)
_TOKENS = Search(
    _compiled(
        r"\b(?:(?:sk|pk|rk)[_-][\w-]{16,}|(?:AKIA|ASIA|AGPA|AROA|AIDA)[A-Z0-9]{16}|gh[pousr]_\w{20,}"
        r"|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abeoprs]-[\w-]{10,}|hf_\w{20,}|AIza[\w-]{30,}|npm_\w{30,}"
        r"|pypi-[\w-]{16,}|SG\.[\w-]{16,}\.[\w-]{16,}|ya29\.[\w-]{20,}|bk_\w{16,}|bft_[\w.-]{20,}"
        r"|eyJ[\w-]{10,}\.[\w-]{10,}(?:\.[\w-]*)?)"
    ),
    _secret,
)
# The names are not taken out, their values are.
_VALUES = Search(
    _compiled(
        r"(?i)(?:\b(?:bearer|basic)[ \t]+|(?:api[_-]?key|secret|token|passw(?:or)?d|passwort|pwd)[\"']?[ \t]*"
        r"(?:=>|[:=])[ \t]*[\"']?)([^\s\"'`,;<>\[\](){}]{8,})"
    ),
    _secret,
    group=1,
)
_CREDENTIALS = Search(_compiled(r"://[^\s/:@\[\]]{1,256}:([^\s/@\[\]]{1,256})@"), _all, group=1)
_PRIVATE_KEYS = Search(_compiled(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"), _private_key)

KINDS: dict[str, Sequence[Search]] = {
    "email": (_EMAIL,),
    "phone": (_PHONES, _PAIRED_PHONES),
    "card": (_CARDS,),
    "iban": (_IBANS,),
    "secret": (_TOKENS, _VALUES, _CREDENTIALS, _PRIVATE_KEYS),
    "ip": (_IPV4, _IPV6),
}

_ANNOUNCES = re2.compile(phones.ANNOUNCES.encode())

# Every text that holds any of it matches this, in UTF-8 and also as it stands in JSON.
_WIDE = r"\xd9[\xa0-\xa9]|\xdb[\xb0-\xb9]|\xe0[\xa5-\xbf][\xa6-\xaf]|\xef\xbc[\x90-\x99\xa0]"
_GAP = r"\xc2\xa0|\xe2[\x80-\x88][\x80-\xbf]|\xef\xbc[\x88-\x8e]|\xe3\x80\x80"
_MAY = _compiled(
    rf"@|[\[(](?i:at)[\])]|\d(?:[ ().,/-]{{0,3}}\d){{6}}|\d\.\d{{1,3}}\.\d{{1,3}}\.\d|::|(?:[0-9A-Fa-f]{{1,4}}:){{3}}"
    r"|\b(?:sk|pk|rk)[_-]\w|A(?:KIA|SIA|GPA|ROA|IDA|Iza)|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|hf_|npm_|pypi-"
    r"|SG\.|ya29\.|bk_|bft_|eyJ|-----BEGIN|(?i:bearer|basic)[ \t]|(?i:key|secret|token|passw(?:or)?d|passwort|pwd)"
    rf"[\"'\\]{{0,3}}[ \t]*[:=]|\\u00|{_WIDE}|\d(?:{_GAP})"
)


def may_hold(utf8: bytes) -> bool:
    """False where no text in it holds anything of KINDS. utf8: one text, or JSON of many."""
    return _MAY.search(utf8) is not None


def spans(text: str, kinds: Sequence[str]) -> list[Span]:
    """What of these kinds is in the text, in no order; spans may overlap."""
    flattened = flat(text)
    found = [Span(*place, kind) for kind in kinds for search in KINDS[kind] for place in search(flattened)]
    if "phone" in kinds and _ANNOUNCES.search(text.encode("utf-8", "replace")):
        found += [Span(*place, "phone") for place in phones.announced(_digits_plain(text, flattened))]
    return found


def _digits_plain(text: str, flattened: bytes) -> str:
    """The text with its digits and separators as ASCII's, its letters as they are."""
    if text.isascii():
        return text
    pairs = zip(text, flattened, strict=True)
    return "".join(chr(byte) if byte < 0x7F else character for character, byte in pairs)
