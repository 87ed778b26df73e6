"""Where feedback comes from: the client's address, behind as many proxies as the configuration trusts. Pure.

Each proxy appends the address that it sees to X-Forwarded-For, so the last entries are the trusted proxies' own and
everything before them is what the client wrote: with k trusted proxies the client is the k-th from the right.
"""

import ipaddress
from collections.abc import Sequence

# A household or a server has a whole /64, and may send from any address in it.
_IPV6_NETWORK = 64


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted_proxies: int) -> str | None:
    """The sender's network: an IPv4 address, or an IPv6 /64; None where it is not known (a Unix socket).

    peer: who connects. forwarded_for: the values of X-Forwarded-For, in their order.
    """
    if not trusted_proxies:
        return _network(peer)
    entries = [entry.strip() for value in forwarded_for for entry in value.split(",")]
    # Fewer entries than proxies: somebody came past them, and the peer is all that is known.
    sent = _network(entries[-trusted_proxies]) if len(entries) >= trusted_proxies else None
    return sent or _network(peer)


def _network(text: str | None) -> str | None:
    """None for what is no address."""
    if text is None:
        return None
    host = text.strip("[]") if text.startswith("[") else text
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_NETWORK), strict=False))
