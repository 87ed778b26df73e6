"""Where a worker or a scorer server is, and how to speak to it: its address, our key, our TLS."""

from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address
from ssl import SSLContext
from urllib.parse import urlsplit

from scorers.credentials import Secret, api_key
from scorers.settings import Upstream
from scorers.tls import client_context


@dataclass(frozen=True, slots=True)
class Endpoint:
    """url: without a slash at its end. key: sent as a bearer token. tls: None verifies by the system's store.

    server_hostname: the name that its certificate must be for where that is not the url's host; aiohttp takes it as
    `server_hostname`.
    """

    url: str
    key: Secret | None = None
    tls: SSLContext | None = None
    server_hostname: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.url.rstrip("/"))

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key.value}"} if self.key else {}

    @property
    def verification(self) -> SSLContext | bool:
        """What aiohttp takes as `ssl`."""
        return self.tls or True

    @property
    def host(self) -> str:
        """A name, or an IP address without brackets."""
        return urlsplit(self.url).hostname or ""

    def at(self, address: str) -> "Endpoint":
        """One of the servers that the host stands for, by its IP address; its certificate must be for the host."""
        parts = urlsplit(self.url)
        host = f"[{address}]" if isinstance(ip_address(address), IPv6Address) else address
        netloc = host if parts.port is None else f"{host}:{parts.port}"
        return replace(self, url=parts._replace(netloc=netloc).geturl(), server_hostname=self.host)

    def reread_key(self) -> bool:
        """After a 401: whether the key's file holds another one now, so that asking again makes sense."""
        return self.key is not None and self.key.reread()


def endpoint(where: str, url: str, upstream: Upstream) -> Endpoint:
    """The endpoint that the section `where` of the configuration describes.

    Reads its key and certificates. Raises ConfigurationError naming the key of the configuration and the file.
    """
    key = api_key(where, upstream.api_key_file, upstream.api_key_env)
    return Endpoint(url, key, client_context(where, upstream))
