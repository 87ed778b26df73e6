"""Whether a request comes from this machine, and not from a web page that a browser here has open."""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

# Something in front passes on what others sent.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def from_this_machine(peer: str | None, headers: Mapping[str, str]) -> bool:
    """A loopback peer that names a loopback host, and no page of another site.

    A page from elsewhere sends its `Origin` (CSRF); where its name was bound to 127.0.0.1, `Host` gives it away (DNS
    rebinding).
    """
    if peer is None or not is_loopback(peer) or any(name in headers for name in _FORWARDED):
        return False
    host = headers.get("host", "").lower()
    if not is_loopback(_hostname(host)):
        return False
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
        return False
    return headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def _hostname(host: str) -> str:
    """Host without its port; "" where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
