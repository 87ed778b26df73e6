"""Secrets that come from a file or from the environment, never from the configuration's own text."""

import hmac
import os
import re
from collections.abc import Callable
from pathlib import Path

from scorers.errors import ConfigurationError

_LARGEST = 65_536
_HEADER_SAFE = re.compile(r"[!-~]+")


class Secret:
    """A secret and where it came from. It shows itself nowhere: not in `repr`, not in an error."""

    def __init__(self, read: Callable[[], str]) -> None:
        """`read` gives the secret, or raises ConfigurationError."""
        self._read = read
        self._value = read()

    @property
    def value(self) -> str:
        return self._value

    def reread(self) -> bool:
        """Whether it is another one now. One that cannot be read any more stays as it was."""
        before = self._value
        try:
            self._value = self._read()
        except ConfigurationError:
            return False
        return self._value != before

    def equals(self, text: bytes) -> bool:
        """Compared in constant time."""
        return hmac.compare_digest(self._value.encode(), text)

    def __repr__(self) -> str:
        return "Secret(...)"


def api_key(where: str, file: Path | None, variable: str | None) -> Secret | None:
    """The bearer key of `where`.api_key_file or .api_key_env; None where neither is set.

    Raises ConfigurationError naming the key of the configuration.
    """
    name = f"{where}.api_key_file" if file else f"{where}.api_key_env"

    def checked(text: str) -> str:
        if not _HEADER_SAFE.fullmatch(text):
            raise ConfigurationError(
                f"{name}: {_source(file, variable)} must hold one line of ASCII characters without blanks."
            )
        return text

    return _secret(name, file, variable, checked)


def password(where: str, file: Path | None, variable: str | None) -> Secret | None:
    """The password of `where`.password_file or .password_env; None where neither is set. Raises ConfigurationError."""
    name = f"{where}.password_file" if file else f"{where}.password_env"

    def checked(text: str) -> str:
        if "\n" in text:
            raise ConfigurationError(f"{name}: {_source(file, variable)} must hold one line.")
        return text

    return _secret(name, file, variable, checked)


def secret_in_file(name: str, file: Path | None) -> Secret | None:
    """What the key `name` of the configuration names a file with; None where it names none.

    Raises ConfigurationError naming the key.
    """
    return _secret(name, file, None, lambda text: text)


def _secret(name: str, file: Path | None, variable: str | None, checked: Callable[[str], str]) -> Secret | None:
    if file is not None:
        path = file
        return Secret(lambda: checked(_from_file(name, path)))
    if variable is not None:
        text = variable
        return Secret(lambda: checked(_from_environment(name, text)))
    return None


def _source(file: Path | None, variable: str | None) -> str:
    return f"the file {file}" if file else f"the environment variable {variable}"


def _from_file(name: str, path: Path) -> str:
    text = read_file(name, path, _LARGEST + 1)
    if len(text) > _LARGEST:
        raise ConfigurationError(f"{name}: {path} is too large for a secret.")
    try:
        secret = text.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{name}: {path} is not text in UTF-8.") from None
    if not secret:
        raise ConfigurationError(f"{name}: {path} is empty.")
    return secret


def _from_environment(name: str, variable: str) -> str:
    secret = os.environ.get(variable, "").rstrip("\r\n")
    if not secret:
        raise ConfigurationError(f"{name}: the environment variable {variable} is not set.")
    return secret


def read_file(name: str, path: Path, limit: int = -1) -> bytes:
    """The first `limit` bytes of a file that the key `name` speaks of. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except FileNotFoundError:
        raise ConfigurationError(f"{name}: there is no file {path}.") from None
    except OSError as error:
        raise ConfigurationError(f"{name}: {path} cannot be read: {error.strerror or error}.") from None
