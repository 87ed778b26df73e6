import pytest

from scorers.local import from_this_machine, is_loopback

PLAIN = {"host": "127.0.0.1:8000"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_loopback_addresses(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.168.1.5", "127.0.0.1.evil.example", "localhost.example"])
def test_other_addresses(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "headers",
    [
        PLAIN,
        {"host": "localhost"},
        {"host": "LOCALHOST:8000"},
        {"host": "[::1]:8000"},
        {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"},
    ],
)
def test_calls_from_this_machine(headers: dict[str, str]) -> None:
    assert from_this_machine("127.0.0.1", headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "evil.example"},  # A name that was bound to 127.0.0.1.
        {"host": "127.0.0.1.evil.example"},
        {"host": "user@evil.example"},
        {"host": "[::1"},
        {**PLAIN, "origin": "https://evil.example"},  # A page elsewhere that posts a form.
        {**PLAIN, "origin": "null"},
        {**PLAIN, "origin": "http://127.0.0.1:3000"},
        {**PLAIN, "sec-fetch-site": "cross-site"},
        {**PLAIN, "x-forwarded-for": "127.0.0.1"},  # A proxy on this machine.
        {**PLAIN, "forwarded": "for=192.0.2.1"},
    ],
)
def test_calls_from_elsewhere_through_this_machine(headers: dict[str, str]) -> None:
    assert not from_this_machine("127.0.0.1", headers)


def test_calls_from_other_machines() -> None:
    assert not from_this_machine("192.0.2.1", PLAIN)
    assert not from_this_machine(None, PLAIN)
