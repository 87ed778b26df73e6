"""Texts with what is to be redacted, and where it stands in them: six formats in six languages, made by a seed.

And texts with nothing in them, full of what looks like it: dates, amounts, versions, code, ids, bibliographies.
"""

import json
import random
import string
from collections.abc import Callable
from dataclasses import dataclass

from gateway.log.privacy.numbers import IBAN_LENGTHS, luhn, mod97
from gateway.log.privacy.spans import Span

LANGUAGES = ("en", "de", "fr", "es", "ja", "ru")
FORMATS = ("chat", "letter", "json", "csv", "log", "code")

_BEFORE = {
    "en": "Hello, I have a question about my order. My {what} is ", "de": "Guten Tag, meine Daten: {what} ",
    "fr": "Bonjour, voici mes coordonnées, {what} : ", "es": "Hola, le envío mis datos, {what}: ",
    "ja": "こんにちは、連絡先は次のとおりです。{what}は", "ru": "Здравствуйте, мои данные, {what}: ",
}  # fmt: skip
_AFTER = {
    "en": ", please answer by Friday. Thanks a lot!", "de": ". Bitte melden Sie sich bis Freitag.",
    "fr": ". Merci de me répondre avant vendredi.", "es": ". Gracias por su respuesta.",
    "ja": "です。よろしくお願いします。", "ru": ". Ответьте, пожалуйста, до пятницы.",
}  # fmt: skip
_NAMES = {
    "en": ("john.smith", "mary"), "de": ("jürgen.müller", "petra"), "fr": ("rené.dupont", "zoé"),
    "es": ("josé.garcía", "nuria"), "ja": ("taro.yamada", "hanako"), "ru": ("ivan.petrov", "olga"),
}  # fmt: skip
_HOSTS = {
    "en": "mail.example.com", "de": "beispiel-post.de", "fr": "exemple.fr", "es": "correo.ejemplo.es",
    "ja": "example.co.jp", "ru": "primer.ru",
}  # fmt: skip
# D: any digit; N: 2 to 9. The last ones are bare: a word before them says what they are.
_PHONES = {
    "en": ("+1 NDD NDD DDDD", "(NDD) NDD-DDDD", "NDD-NDD-DDDD", "NDD.NDD.DDDD", "+44 20 7DDD DDDD", "020 7DDD DDDD",
           "07DDD DDDDDD"),
    "de": ("+49 30 DDDDDDD", "030 NDDDDDDD", "030/NDDDDDD", "0170 NDDDDDD", "(089) NDDDDDD", "0049 170 NDDDDDD",
           "0151-NDDDDDDD"),
    "fr": ("+33 6 DD DD DD DD", "06 DD DD DD DD", "01.DD.DD.DD.DD", "06DDDDDDDD", "0033 1 DD DD DD DD"),
    "es": ("+34 6DD DDD DDD", "6DD DD DD DD", "91 DDD DD DD", "+34 91 DDD DD DD", "0034 6DDDDDDDD"),
    "ja": ("+81 90 DDDD DDDD", "090-DDDD-DDDD", "03-NDDD-DDDD", "(03) NDDD-DDDD", "０３－６DDD－DDDD"),
    "ru": ("+7 9DD DDD-DD-DD", "8 (9DD) DDD-DD-DD", "+7 (9DD) DDD DD DD", "+79DDDDDDDDD"),
}  # fmt: skip
_IBANS = {"en": "GB", "de": "DE", "fr": "FR", "es": "ES", "ja": "NL", "ru": "CH"}
_WHAT = {
    "email": ("email", "E-Mail", "e-mail", "correo", "メール", "почта"),
    "phone": ("phone", "Telefon", "téléphone", "teléfono", "電話", "телефон"),
    "card": ("card", "Karte", "carte", "tarjeta", "カード番号", "карта"),
    "iban": ("account", "Konto", "compte", "cuenta", "口座", "счёт"),
    "secret": ("credential", "Zugang", "accès", "acceso", "アクセス", "доступ"),
    "ip": ("machine", "Rechner", "poste", "equipo", "サーバー", "сервер"),
}


@dataclass(frozen=True)
class Sample:
    """spans: what is in the text; none: nothing is."""

    language: str
    format: str
    text: str
    spans: tuple[Span, ...]


def samples(count: int, seed: int = 0) -> list[Sample]:
    """`count` of each kind, language and format."""
    rng = random.Random(seed)
    return [
        _sample(rng, kind, language, form)
        for kind in _WHAT
        for language in LANGUAGES
        for form in FORMATS
        for _ in range(count)
    ]


def innocent(count: int, seed: int = 1) -> list[Sample]:
    """`count` of each language and format, with nothing to redact."""
    rng = random.Random(seed)
    return [
        Sample(language, form, _set(form, language, "note", rng.choice(_HARMLESS)(rng), rng)[0], ())
        for language in LANGUAGES
        for form in FORMATS
        for _ in range(count)
    ]


def value(rng: random.Random, kind: str, language: str) -> str:
    """Something of that kind, as people of that language write it."""
    makers: dict[str, Callable[[random.Random, str], str]] = {
        "email": _email, "phone": _phone, "card": _card, "iban": _iban, "secret": _secret, "ip": _ip
    }  # fmt: skip
    return makers[kind](rng, language)


def _sample(rng: random.Random, kind: str, language: str, form: str) -> Sample:
    found = value(rng, kind, language)
    what = _WHAT[kind][LANGUAGES.index(language)]
    text, start = _set(form, language, what, found, rng)
    return Sample(language, form, text, (Span(start, start + len(found), kind),))


def _set(form: str, language: str, what: str, found: str, rng: random.Random) -> tuple[str, int]:
    """A text of that format with `found` in it, and where."""
    before, after = _BEFORE[language].format(what=what), _AFTER[language]
    amount, day = f"{rng.randrange(10, 99)}.{rng.randrange(10, 99)}", f"2026-0{rng.randrange(1, 9)}-1{rng.randrange(9)}"
    if form == "letter":
        before, after = f"Date: {day} 10:22:33\nSubject: {what}\n\n{before}", f"{after}\n\n-- \n{day}"
    if form == "json":
        head = json.dumps({"date": day, "amount": float(amount), "note": before}, ensure_ascii=False)[:-2]
        before, after = head, json.dumps(after, ensure_ascii=False)[1:] + ', "total": 1234567.89}'
    if form == "csv":
        before, after = f"date;what;value;amount\n{day};{what};", f";{amount}\n{day};;;{amount}\n"
    if form == "log":
        before, after = (
            f"{day}T10:22:33.123456Z INFO shop.orders[4711] {what}=",
            f" took 12.5ms status=200 v1.2.3 {after}",
        )
    if form == "code":
        before, after = f'# {day}\nvalue = std::stoi("7")  # {what}\nx = "', f'"\nprint(x, {amount}, 0x7fff5fbff8c8)\n'
    return before + found + after, len(before)


def _email(rng: random.Random, language: str) -> str:
    tag = rng.choice(("", "", "+shop", f"{rng.randrange(100)}", "_x"))
    return f"{rng.choice(_NAMES[language])}{tag}@{_HOSTS[language]}"


def _digits(rng: random.Random, shape: str) -> str:
    made = (
        rng.choice(string.digits) if one == "D" else str(rng.randrange(2, 10)) if one == "N" else one for one in shape
    )
    return "".join(made)


def _phone(rng: random.Random, language: str) -> str:
    return _digits(rng, rng.choice(_PHONES[language]))


def _card(rng: random.Random, _: str) -> str:
    prefix, length = rng.choice((("4", 16), ("51", 16), ("2221", 16), ("37", 15), ("6011", 16), ("3530", 16)))
    body = prefix + "".join(rng.choice(string.digits) for _ in range(length - len(prefix) - 1))
    digits = next(body + last for last in string.digits if luhn((body + last).encode()))
    groups = (4, 6, 5) if length == 15 else (4, 4, 4, 4)
    separator = rng.choice(("", " ", "-"))
    parts, start = [], 0
    for size in groups:
        parts.append(digits[start : start + size])
        start += size
    return separator.join(parts)


def _iban(rng: random.Random, language: str) -> str:
    country = _IBANS[language]
    body = "".join(rng.choice(string.digits) for _ in range(IBAN_LENGTHS[country] - 4))
    if country in ("GB", "NL"):
        body = "ABNA" + body[4:]
    account = f"{country}{98 - mod97(f'{country}00{body}'):02d}{body}"
    if rng.random() < 0.5:
        return account
    return " ".join(account[start : start + 4] for start in range(0, len(account), 4))


def _secret(rng: random.Random, _: str) -> str:
    def some(count: int, of: str = string.ascii_letters + string.digits) -> str:
        return "7" + "".join(rng.choice(of) for _ in range(count - 1))

    return rng.choice(
        (
            f"sk-proj-{some(32)}",
            f"AKIA{some(16, string.ascii_uppercase + string.digits)}",
            f"ghp_{some(36)}",
            f"eyJ{some(20)}.{some(40)}.{some(43)}",
            f"xoxb-{some(12, string.digits)}-{some(24)}",
            f"bk_{some(10, string.digits)}_{some(43)}",
        )
    )


def _ip(rng: random.Random, _: str) -> str:
    if rng.random() < 0.5:
        return ".".join(str(rng.randrange(1, 127)) for _ in range(4))
    groups = [f"{rng.randrange(1, 65536):x}" for _ in range(8)]
    return rng.choice((":".join(groups), f"2001:db8::{groups[0]}:{rng.randrange(10)}"))


_HARMLESS: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: f"{rng.randrange(1, 29):02d}.0{rng.randrange(1, 9)}.20{rng.randrange(10, 30)}",
    lambda rng: f"{rng.randrange(1, 999)},{rng.randrange(100, 999)},{rng.randrange(100, 999)}.50",
    lambda rng: f"{rng.random():.12f}",
    lambda rng: f"v{rng.randrange(20)}.{rng.randrange(20)}.{rng.randrange(20)}",
    lambda rng: f"ISBN 978-3-16-{rng.randrange(100000, 999999)}-0",
    lambda rng: f"{rng.getrandbits(128):032x}",
    lambda rng: "std::vector<int>::iterator a::b",
    lambda rng: f"1{rng.randrange(7 * 10**8, 8 * 10**8)}",
    lambda rng: "@property def total(self)",
    lambda rng: f"({rng.randrange(1000)}) of {rng.randrange(10**6)}",
    lambda rng: "scikit-learn and sk-learn-compatible-estimators",
    lambda rng: "12:34:56 until 13:00",
    lambda rng: f"order {rng.randrange(10**5)}-{rng.randrange(10**4)}",
    lambda rng: "max_tokens=2048, token: str",
    lambda rng: f"{rng.randrange(1900, 2030)}-{rng.randrange(1900, 2030)}",
    lambda rng: f"x = {rng.randrange(10**6)} * {rng.randrange(10**6)} + {rng.randrange(10**6)}",
)
