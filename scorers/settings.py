"""Settings that all who speak to servers share, and those of the scorer server; the scorers' own: `scorer_settings`.

Each key is declared once, with type, default, bounds and one sentence.
"""

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """A part of the file. An unknown key is an error, so that a misspelt one is not silently a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(Section):
    """How a server that we call is verified, and what we show it."""

    ca_file: Path | None = Field(
        None,
        description="Authority (PEM) its certificate must come from, or that certificate itself; empty: the system's.",
    )
    cert_file: Path | None = Field(None, description="Client certificate (PEM) to show it: mutual TLS.")
    key_file: Path | None = Field(None, description="Key of the client certificate (PEM); empty: it is in cert_file.")
    verify: bool = Field(True, description="Check its certificate; false is for trials, and warned of at each start.")

    @model_validator(mode="after")
    def _tls_agrees(self) -> Self:
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file, the client certificate it belongs to")
        if self.ca_file and not self.verify:
            raise ValueError("verify: false checks nothing, so ca_file would be ignored: keep one of them")
        return self

    @property
    def tls_keys(self) -> str:
        """The keys of TLS that are set, as a sentence names them; empty when none is."""
        given = {"ca_file": self.ca_file, "cert_file": self.cert_file, "verify": not self.verify}
        return " and ".join(key for key, value in given.items() if value)


class Upstream(Tls):
    """How to speak to a worker or a scorer server; secrets are read from where these keys say."""

    api_key_file: Path | None = Field(
        None, description="File with the key it asks for (sent as a bearer token); read again after a 401."
    )
    api_key_env: Variable | None = Field(None, description="Environment variable with that key, instead of a file.")

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.api_key_file and self.api_key_env:
            raise ValueError("api_key_file and api_key_env both name the key: keep one of them")
        return self


def check_address(url: str, tls: Tls) -> None:
    """Raises ValueError where an address and its TLS or credentials contradict each other."""
    if "@" in urlsplit(url).netloc:
        raise ValueError("url holds a name or a password; put the key into a file and name that with api_key_file")
    if tls.tls_keys and not url.startswith("https://"):
        raise ValueError(f"{tls.tls_keys} would do nothing: url does not begin with https://")


class ScorerServerConfig(Section):
    """The scorer server that `bestow up` starts and `bestow scorer` runs."""

    host: str = Field("127.0.0.1", description="Address the scorer server listens on.")
    port: Port = Field(8201, description="Port of the scorer server.")
    threads: int = Field(
        0, ge=0, description="CPU threads a model uses; 0: half of the cores, since vLLM needs the others."
    )
    max_batch_tokens: int = Field(
        8192,
        ge=16,
        description="Tokens in one batch, padding included; a CPU is given at most 2,048, which it runs faster.",
    )
    batch_wait_ms: float = Field(
        0.0, ge=0, le=1000, description="How long an input waits for others to fill a batch; 0: not at all."
    )
    max_queue: int = Field(2048, ge=1, description="Inputs waiting for a model; beyond it the answer is a 429.")
    cache_entries: int = Field(
        50_000, ge=0, description="Scores that each model remembers by the token ids it read; 0: none."
    )
    prefix_cache_mb: int = Field(
        256,
        ge=0,
        description="Memory (MiB) in which each model that runs here keeps conversations it has read, so that further "
        "answers to them cost only themselves; 0: none.",
    )
    max_body_bytes: int = Field(8_388_608, ge=1024, description="Largest request body; beyond it the answer is a 413.")
    api_key_file: Path | None = Field(
        None, description="File with the key that callers of /v1/* must send; empty: none is asked for."
    )
    api_key_env: Variable | None = Field(None, description="Environment variable with that key, instead of a file.")
    tls_cert_file: Path | None = Field(
        None, description="Certificate (PEM, its chain included) to serve HTTPS with; it must name the host."
    )
    tls_key_file: Path | None = Field(None, description="Key of that certificate (PEM); empty: it is in tls_cert_file.")

    @model_validator(mode="after")
    def _access_agrees(self) -> Self:
        if self.api_key_file and self.api_key_env:
            raise ValueError("api_key_file and api_key_env both name the key: keep one of them")
        if self.tls_key_file and not self.tls_cert_file:
            raise ValueError("tls_key_file needs tls_cert_file, the certificate it belongs to")
        return self
