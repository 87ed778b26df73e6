"""Certificates for tests: a throw-away authority and what it signs, as files."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

LOCAL = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, both in PEM."""

    cert_file: Path
    key_file: Path


class Authority:
    """A certificate authority; `ca_file` is its own certificate."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._ca = trustme.CA()
        self._folder = folder
        self._name = name
        self.ca_file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.ca_file)

    def issue(self, *names: str, expired: bool = False) -> Issued:
        """A certificate for these names; for this machine's loopback where there are none."""
        names = names or LOCAL
        yesterday = datetime.now(UTC) - timedelta(days=1)
        leaf = self._ca.issue_cert(
            *names,
            not_before=yesterday - timedelta(days=1) if expired else None,
            not_after=yesterday if expired else None,
        )
        stem = f"{self._name}-{'expired-' * expired}{names[0].replace('@', '-at-')}"
        issued = Issued(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        issued.cert_file.write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(issued.key_file)
        return issued

    def server(self, *names: str, expired: bool = False, clients_of: "Authority | None" = None) -> ssl.SSLContext:
        """A server's context. clients_of: it asks for a client certificate of that authority."""
        issued = self.issue(*names, expired=expired)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(issued.cert_file, issued.key_file)
        if clients_of is not None:
            context.load_verify_locations(clients_of.ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
