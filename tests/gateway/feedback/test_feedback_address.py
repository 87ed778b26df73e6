import pytest

from gateway.feedback.address import client_address


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "address"),
    [
        ("203.0.113.7", [], 0, "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], 0, "203.0.113.7"),
        ("10.0.0.1", ["198.51.100.1"], 1, "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], 1, "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1, 10.0.0.2"], 2, "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.2"], 2, "10.0.0.1"),
        ("10.0.0.1", [], 1, "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], 1, "10.0.0.1"),
        ("::ffff:203.0.113.7", [], 0, "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", [], 0, "2001:db8:1:2::/64"),
        ("10.0.0.1", ["2001:db8:1:2:ffff::1"], 1, "2001:db8:1:2::/64"),
        ("10.0.0.1", ["[2001:db8:1:2::1]"], 1, "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], 0, "fe80::/64"),
        (None, [], 0, None),
        ("/run/gateway.sock", ["198.51.100.1"], 0, None),
    ],
)
def test_the_address_is_the_one_that_the_nearest_trusted_proxy_saw(
    peer: str | None, forwarded: list[str], proxies: int, address: str | None
) -> None:
    assert client_address(peer, forwarded, proxies) == address
