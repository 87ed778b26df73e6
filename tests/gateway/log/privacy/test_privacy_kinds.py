"""What is found, what is not, and that no text takes longer than its length."""

import itertools
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.log.privacy.flat import flat
from gateway.log.privacy.kinds import KINDS, may_hold, spans
from gateway.log.privacy.numbers import IBAN_LENGTHS, card, iban, luhn, mod97
from gateway.log.privacy.spans import Span, merged, replaced
from tests.gateway.log.privacy.corpus import innocent, samples

ALL = tuple(KINDS)

digit_rows = st.text(string.digits, min_size=2, max_size=30)


def shown(text: str) -> str:
    return replaced(text, merged(spans(text, ALL)))


@given(digit_rows)
def test_luhn_has_one_check_digit_and_sees_each_wrong_one(digits: str) -> None:
    good = [last for last in string.digits if luhn((digits + last).encode())]
    assert len(good) == 1


@given(digit_rows, st.integers(0, 29))
def test_luhn_sees_two_neighbours_swapped_but_for_0_and_9(digits: str, place: int) -> None:
    place %= len(digits) - 1
    row = next(digits + last for last in string.digits if luhn((digits + last).encode()))
    first, second = row[place], row[place + 1]
    swapped = row[:place] + second + first + row[place + 2 :]
    assert luhn(swapped.encode()) == (first == second or {first, second} == {"0", "9"})


@given(st.sampled_from(sorted(IBAN_LENGTHS)), st.data())
def test_mod_97_sees_each_wrong_digit_and_each_swap_of_two(country: str, data: st.DataObject) -> None:
    size = IBAN_LENGTHS[country] - 4
    body = data.draw(st.text(string.digits, min_size=size, max_size=size))
    account = f"{country}{98 - mod97(f'{country}00{body}'):02d}{body}"
    assert iban(account)
    place = data.draw(st.integers(4, len(account) - 2))
    first, second = account[place], account[place + 1]
    if first != second:
        assert not iban(account[:place] + second + first + account[place + 2 :])
    other = data.draw(st.sampled_from([one for one in string.digits if one != first]))
    assert not iban(account[:place] + other + account[place + 1 :])


def test_known_numbers_of_each_issuer_are_cards_and_others_are_not() -> None:
    good = ["4111111111111111", "5555555555554444", "2223003122003222", "378282246310005", "6011111111111117"]
    good += ["3530111333300000", "30569309025904", "6240008631401148", "4222222222222", "6759649826438453"]
    assert [one for one in good if not card(one.encode())] == []
    # A wrong check digit, no issuer, Visa's of a length that it has not, all zeros.
    bad = ["4111111111111112", "9999999999999995", "41111111111111", "0000000000000000"]
    assert [one for one in bad if card(one.encode())] == []


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("mail bob.o'neil+x@sub.example.co.uk now", "mail [EMAIL] now"),
        ("müller@straße.de", "[EMAIL]"),
        ("電話はtaro@example.jpまで", "電話は[EMAIL]まで"),
        ("joe [at] example [dot] com", "[EMAIL]"),
        ("ｊoe＠example.com", "[EMAIL]"),
        ("call +1 (212) 555-0123 now", "call [PHONE] now"),
        ("Tel. 030 1234567, 0170/1234567", "Tel. [PHONE], [PHONE]"),
        ("тел. 123-45-67", "тел. [PHONE]"),
        ("الهاتف ٠٥٠١٢٣٤٥٦٧", "الهاتف [PHONE]"),
        ("+49\u00a030\u2009123456", "[PHONE]"),
        ("ring 98765 43210 now", "ring [PHONE] now"),
        ("paid 4111 1111 1111 1111 on 2024", "paid [CARD] on 2024"),
        ("2024 4111 1111 1111 1111", "2024 [CARD]"),
        ("DE89 3704 0044 0532 0130 00 Bank", "[IBAN] Bank"),
        ("gb82west12345698765432.", "[IBAN]."),
        ("10.1.2.3 and 2001:db8::1: yes", "[IP] and [IP]: yes"),
        ("::ffff:192.168.0.7", "[IP]"),
        ("sk-proj-abc123def456ghi789jkl", "[SECRET]"),
        ("Authorization: Bearer abcDEF123456.xyz-789", "Authorization: Bearer [SECRET]"),
        ("password = hunter2hunter", "password = [SECRET]"),
        ("https://me:s3cret@10.0.0.1/x", "https://me:[SECRET]@[IP]/x"),
        ("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb", "a\n[SECRET]\nb"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE, cut off", "[SECRET]"),
    ],
)
def test_it_is_found_as_people_write_it(text: str, redacted: str) -> None:
    assert may_hold(text.encode())
    assert shown(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "on 2024-01-15 at 10:22:33 we sold 1,234,567 units in 1999-2004",
        "pi is 3.14159265358979, e is 2.718281828459045",
        "05.06.2024 10:00, 1.234.567,89, ISBN 978-3-16-148410-0",
        "std::vector a::b, v1.2.3.4, 127.0.0.1, ::1",
        "sk-learn-compatible-estimators, Bearer authentication-mechanisms, token: Callable",
        "order 1234567890123, hotel 1234567",
        "10007 98765 43210 20011",
        "4111 1111 1111 1112",
        "DE89370400440532013001",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert shown(text) == text


def test_of_the_corpus_hardly_anything_is_missed_or_taken_for_something() -> None:
    found = samples(3)
    missed = [
        one.text
        for one in found
        if not any(
            span.start <= one.spans[0].start and one.spans[0].end <= span.end for span in merged(spans(one.text, ALL))
        )
    ]
    assert len(missed) <= len(found) // 100
    harmless = innocent(10)
    assert sum(bool(spans(one.text, ALL)) for one in harmless) <= len(harmless) // 100


@given(st.lists(st.sampled_from(samples(1)), min_size=1, max_size=3), st.text(max_size=5))
def test_the_quick_look_passes_over_nothing_that_would_be_found(parts: list[object], between: str) -> None:
    text = between.join(getattr(part, "text") for part in parts)  # noqa: B009
    if spans(text, ALL):
        assert may_hold(text.encode("utf-8", "replace"))


@given(st.text(max_size=60))
def test_a_flat_text_has_one_byte_a_character(text: str) -> None:
    assert len(flat(text)) == len(text)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10), st.sampled_from(["email", "phone"])), max_size=8))
def test_merged_spans_are_apart_and_cover_what_they_did(raw: list[tuple[int, int, str]]) -> None:
    given_spans = [Span(start, start + size, kind) for start, size, kind in raw]
    apart = merged(given_spans)
    assert all(one.end <= other.start for one, other in itertools.pairwise(apart))
    covered = {place for span in apart for place in range(span.start, span.end)}
    assert covered == {place for span in given_spans for place in range(span.start, span.end)}


# Made to be slow for patterns that try again and again: with a quadratic one this takes many minutes, not a second.
@pytest.mark.parametrize(
    "piece",
    [
        "a", "a@", "a.a@b.", "1 ", "1", "4111 ", "a:", "::", "AB12", "DE12 ", "eyJ", "sk-", "token=", "+1", "(0",
        "1.1.", "://a:", "tel ", "tel 1", "-----BEGIN PRIVATE KEY-----", "joe[at]", "0 12", "[EMAIL]", "é", "電話1",
    ],
)  # fmt: skip
def test_no_text_takes_longer_than_its_length(piece: str) -> None:
    text = piece * (200_000 // len(piece)) + "!"
    spans(text, ALL)
    may_hold(text.encode())
