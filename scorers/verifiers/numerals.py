r"""Numbers as people and models write them, read exactly.

Known: signs, thousands (1,234 · 1{,}234 · 12,34,567 · thin spaces), decimals, fractions (3/4, \frac{3}{4}, 1 3/4, ½),
powers of ten (1.5e-3, 1.5 \times 10^{-3}, 10^3), percent, and around a number currency signs and units. No numbers are
exponents and indices (the 2 of m^2, x_2, H2O), bases of a power (2^{10}), and what stands within a root or a fraction
that is not all digits.
"""

import re
from fractions import Fraction

_WINDOW = 1024
_MARGIN = 256  # a longer number is not found
_LONGEST = 300  # of a text that is to be one number

_VULGAR = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5",
    "⅙": "1/6", "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8", "⅑": "1/9", "⅒": "1/10",
}  # fmt: skip
_PLAIN = str.maketrans(
    {character: f" {fraction}" for character, fraction in _VULGAR.items()}
    | {"−": "-", "－": "-", "﹣": "-", "⁄": "/", "％": "%"}
    | {chr(0xFF10 + digit): str(digit) for digit in range(10)}
)
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_LOWERED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")

_COMMA = r"(?:,|\{,\}|\\,|\\!,|[\u2009\u202f\u00a0])"
_WHOLE = rf"""(?:
    [0-9]{{1,3}}(?:{_COMMA}[0-9]{{3}})+(?!,?[0-9])
  | [0-9]{{1,2}}(?:,[0-9]{{2}})+,[0-9]{{3}}(?!,?[0-9])
  | [0-9]+
)"""
_DECIMAL = rf"(?:{_WHOLE}(?:\.[0-9]+)?|\.[0-9]+)"


def _power(name: str) -> str:
    return rf"10\s?\^\s?\{{?\s?(?P<{name}>[-+]?[0-9]{{1,3}})\s?\}}?"


_NUMBER = rf"""
    (?=[-+\\$€£¥.0-9])  # what it can begin with: most characters are passed over at once
    # Not within a word, an exponent, an index, a root, a fraction of letters, or something like 1.2.3.
    (?<![A-Za-z0-9_^])(?<![0-9]\.)(?<!\^[-+])(?<![\^_]\{{)(?<!\^\{{[-+])(?<!frac\{{)(?<!\}}\{{)(?<!sqrt\{{)(?<!sqrt\[)
    (?P<sign>(?<![A-Za-z0-9)\]}}])[-+]\s?)?
    (?:\\?[$€£¥]\s?)?
    (?P<inner_sign>(?<=[$€£¥])[-+])?
    (?:
        (?:(?P<whole>[0-9]{{1,3}})\s?)?\\[dtc]?frac\s?(?:
            \{{\s?(?P<over>[-+]?{_DECIMAL})\s?\}}\s?\{{\s?(?P<under>{_DECIMAL})\s?\}}
          | (?P<over_digit>[0-9])(?P<under_digit>[0-9])
        )
      | (?:(?P<mixed>[0-9]{{1,3}})[ ]{{1,2}})?(?P<left>{_DECIMAL})\s?/\s?(?P<right>{_DECIMAL})(?![/0-9])
      | {_power("power")}
      | (?P<decimal>{_DECIMAL})(?:
            [eE](?P<exponent>[-+]?[0-9]{{1,3}})(?![0-9A-Za-z])
          | \s{{0,2}}(?:\\times|\\cdot|[x×*·])\s{{0,2}}{_power("times")}
        )?
    )
    # Not the beginning of a longer one, and no base of a power; a circle up there means degrees.
    (?![0-9])(?!\.[0-9])(?![eE][-+]?[0-9])(?!\s?\^(?!\{{?\\circ))
    (?P<percent>\s?\\?%)?
"""
_number = re.compile(_NUMBER, re.VERBOSE)
# `x = ` or a currency, the number, its unit.
_quantity = re.compile(
    rf"""
    (?:[A-Za-z][A-Za-z0-9_{{}}']{{0,20}}\s{{0,2}}(?:[=:≈]|\\approx)\s{{0,2}})?
    (?:[A-Z]{{3}}\s|\(\s?)?
    {_NUMBER}
    (?:[^0-9\\=+*×√π<>~^]|\^\{{?-?[0-9]\}}?|\^?\{{?\\circ\}}?)*
    """,
    re.VERBOSE,
)
_separator = re.compile(_COMMA)
_text = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s?\{([^{}]*)\}")
_markup = re.compile(r"\\(?:left|right|displaystyle|[()\[\];! ])|\\,(?![0-9]{3})|\\?\$")


def last_number(text: str) -> str | None:
    """The last number in a text, as it is written; None where there is none. Raised digits come back as ^{}."""
    text = _plain(text)
    cut, end = len(text), len(text)
    while end > 0:
        start = max(0, end - _WINDOW)
        # What begins before `first` may have lost its own beginning, and is met again in the next window; what begins
        # at `cut` or after it was met in the last one.
        first = start + _MARGIN if start else 0
        window = text[start:end]
        found = [match for match in _number.finditer(window) if first <= start + match.start() < cut]
        if found:
            return found[-1].group().strip()
        cut, end = first, first + _MARGIN if start else 0
    return None


def read_number(text: str, *, percent: bool = True) -> Fraction | None:
    """The number that a text is, but for a name before it and a unit behind it; None where it is something else.

    percent: whether 50% is a half; else it is 50, the sign being a unit.
    """
    if len(text) > _LONGEST:
        return None
    match = _quantity.fullmatch(_markup.sub("", _text.sub(r" \1", _plain(text))).strip())
    if match is None:
        return None
    try:
        value = _value(match)
    except (ZeroDivisionError, ValueError):
        return None
    return value / 100 if percent and match["percent"] else value


def _value(match: re.Match[str]) -> Fraction:
    sign = -1 if "-" in f"{match['sign']}{match['inner_sign']}" else 1
    over, under = match["over"] or match["over_digit"], match["under"] or match["under_digit"]
    if over:
        return sign * (int(match["whole"] or 0) + _fraction(over) / _fraction(under))
    if match["left"]:
        return sign * (int(match["mixed"] or 0) + _fraction(match["left"]) / _fraction(match["right"]))
    if match["power"]:
        return sign * Fraction(10) ** int(match["power"])
    return sign * _fraction(match["decimal"]) * Fraction(10) ** int(match["exponent"] or match["times"] or 0)


def _fraction(decimal: str) -> Fraction:
    return Fraction(_separator.sub("", decimal))


def _plain(text: str) -> str:
    """With plain signs and digits in place of Unicode's other ones."""
    return _RAISED.sub(lambda raised: f"^{{{raised[0].translate(_LOWERED)}}}", text).translate(_PLAIN)
