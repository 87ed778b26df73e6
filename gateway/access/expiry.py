"""Durations and dates as people write them: `90d`, `24h`, `2027-01-31`."""

import re
from datetime import UTC, datetime

from gateway.errors import BadRequest

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d{1,9})([smhdw])")
LONGEST_S = 100 * 365 * 86_400


def duration(text: str, param: str) -> float:
    """Seconds. Raises BadRequest."""
    if text.strip() == "0":
        return 0.0
    match = _DURATION.fullmatch(text.strip())
    seconds = int(match[1]) * _UNITS[match[2]] if match else None
    if seconds is None or seconds > LONGEST_S:
        raise BadRequest(
            f"{param}: {text!r} is no duration such as 30m, 24h, 90d or 2w (at most 100 years)", param=param
        )
    return float(seconds)


def expiry(text: str, now: float) -> float:
    """The moment, in seconds since 1970, that a duration from now or a date (00:00 UTC) names. Raises BadRequest."""
    text = text.strip()
    if _DURATION.fullmatch(text):
        moment = now + duration(text, "expires")
    else:
        try:
            read = datetime.fromisoformat(text)
            moment = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            raise BadRequest(
                f"expires: {text!r} is neither a duration such as 90d nor a date such as 2027-01-31", param="expires"
            ) from None
    if moment <= now:
        raise BadRequest(f"expires: {text} is not in the future", param="expires")
    return moment


def as_date(seconds: float) -> str:
    """2027-01-31 00:00 UTC"""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
