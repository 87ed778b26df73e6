"""Numbers are read exactly, in all the ways they are written, and what only looks like one is not."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorers.verifiers.numerals import last_number, read_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", "42"),
        ("+42", "42"),
        ("-42", "-42"),
        ("−42", "-42"),
        ("４２", "42"),
        (".5", "0.5"),
        ("5.", "5"),
        ("0.1", "0.1"),
        ("1,234,567.5", "1234567.5"),
        ("12,34,567", "1234567"),
        ("1{,}234", "1234"),
        (r"1\,234", "1234"),
        ("1\u202f234", "1234"),
        ("3/4", "3/4"),
        ("-3/4", "-3/4"),
        ("1 3/4", "7/4"),
        ("-1 3/4", "-7/4"),
        ("½", "1/2"),
        ("3½", "7/2"),
        (r"\frac{3}{4}", "3/4"),
        (r"-\dfrac{3}{4}", "-3/4"),
        (r"\frac{-3}{4}", "-3/4"),
        (r"\frac12", "1/2"),
        (r"1\tfrac{3}{4}", "7/4"),
        ("1.5e3", "1500"),
        ("1.5E-3", "0.0015"),
        (r"1.5 \times 10^{-3}", "0.0015"),
        ("1.5 × 10³", "1500"),
        ("1.5*10^3", "1500"),
        ("10^3", "1000"),
        ("50%", "0.5"),
        (r"12.5\%", "0.125"),
        ("$1,234.50", "1234.5"),
        ("-$5", "-5"),
        ("€ 5", "5"),
        ("USD 5", "5"),
        ("5 apples", "5"),
        ("42 km/h", "42"),
        ("42 m^2", "42"),
        ("42 m²", "42"),
        (r"42\text{ cm}^{3}", "42"),
        (r"42\,\mathrm{kg}", "42"),
        (r"90^\circ", "90"),
        ("90°", "90"),
        ("x = 42", "42"),
        ("x_1 = -42", "-42"),
        (r"$\frac{1}{2}$", "1/2"),
        (r"\left( 5 \right)", "5"),
    ],
)
def test_numbers_are_read_in_all_their_forms(text: str, number: str) -> None:
    assert read_number(text) == Fraction(number)


@pytest.mark.parametrize(
    "text",
    [
        "", "none", "3, 5", "3 or 5", "2x + 3", "10-5", "1,2345", "1.2.3", "1/0", "1e9999", "2^{10}", r"2\sqrt{3}",
        r"2\pi", "2π", r"\frac{\pi}{2}", r"\sqrt{2}", "H2O", "m^2", "1/2/3", "3 + 4", "9" * 500,
    ],
)  # fmt: skip
def test_what_is_more_or_less_than_one_number_is_none(text: str) -> None:
    assert read_number(text) is None


def test_percent_may_be_a_unit() -> None:
    assert read_number("50%", percent=False) == 50


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("So 3 + 4 = 7. That is H2O.", "7"),
        ("The area is 12 m^2", "12"),
        ("from 3–5", "5"),
        ("10-5", "5"),
        ("it falls to -5 degrees", "-5"),
        ("a list 1,2,3", "3"),
        ("pi is 3.14159.", "3.14159"),
        ("It costs $1,234.50 in total", "$1,234.50"),
        (r"so $x=\frac{1}{2}$ holds", r"\frac{1}{2}"),
        ("#### 72", "72"),
        ("use version 1.2.3", None),
        (r"it is \frac{\pi}{2}", None),
        ("none", None),
        ("", None),
    ],
)
def test_the_last_number_of_a_text_is_found_as_it_is_written(text: str, number: str | None) -> None:
    assert last_number(text) == number


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9),
    st.integers(0, 3000),
    st.integers(0, 3000),
)
def test_a_number_is_found_wherever_it_stands_and_read_exactly(number: Decimal, before: int, after: int) -> None:
    text = "word " * (before // 5) + f"{number:,f} " + "m^2, x_2 and 2^n, " * (after // 18)
    found = last_number(text)
    assert found is not None
    assert read_number(found) == Fraction(number)


@given(st.text(alphabet=r"0123456789.,-+/^{}\$%eE fracx×_()" + "½³", max_size=80))
def test_no_text_breaks_the_reading(text: str) -> None:
    found = last_number(text)
    assert found is None or any(character.isdigit() for character in found)
    assert isinstance(read_number(text), Fraction | None)
