"""Where a worker or a scorer server is, and how to speak to it: its address, our key, our TLS."""

from dataclasses import dataclass
from ssl import SSLContext

from scorers.credentials import Secret, api_key
from scorers.settings import Upstream
from scorers.tls import client_context


@dataclass(frozen=True, slots=True)
class Endpoint:
    """url: without a slash at its end. key: sent as a bearer token. tls: None verifies by the system's store."""

    url: str
    key: Secret | None = None
    tls: SSLContext | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.url.rstrip("/"))

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key.value}"} if self.key else {}

    @property
    def verification(self) -> SSLContext | bool:
        """What aiohttp takes as `ssl`."""
        return self.tls or True

    def reread_key(self) -> bool:
        """After a 401: whether the key's file holds another one now, so that asking again makes sense."""
        return self.key is not None and self.key.reread()


def endpoint(where: str, url: str, upstream: Upstream) -> Endpoint:
    """The endpoint that the section `where` of the configuration describes.

    Reads its key and certificates. Raises ConfigurationError naming the key of the configuration and the file.
    """
    key = api_key(where, upstream.api_key_file, upstream.api_key_env)
    return Endpoint(url, key, client_context(where, upstream))
