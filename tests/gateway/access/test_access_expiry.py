from datetime import UTC, datetime

import pytest

from gateway.access.expiry import as_date, duration, expiry
from gateway.errors import BadRequest

NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("45s", 45), ("30m", 1800), ("24h", 86_400), ("2w", 1_209_600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text, "grace") == seconds


def test_an_expiry_is_a_duration_or_a_date() -> None:
    assert expiry("90d", NOW) == NOW + 90 * 86_400
    assert expiry("2026-01-31", NOW) == datetime(2026, 1, 31, tzinfo=UTC).timestamp()
    assert expiry("2026-01-31T12:00:00+02:00", NOW) == datetime(2026, 1, 31, 10, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text", ["", "soon", "90", "-1d", "0d", "2025-12-31", "99999999w", "9999999999d", "2026-02-30"]
)
def test_what_is_no_expiry_or_is_over_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        expiry(text, NOW)
    assert refused.value.param == "expires"


def test_dates_for_people() -> None:
    assert as_date(NOW) == "2026-01-01 00:00 UTC"
