"""Redactors of others: Python entry points of the group `bestow.redactors`, in any distribution; and Presidio.

A redactor is a function from a text to what shall be taken out of it, as (start, end, kind):

    def staff_numbers(text: str) -> list[tuple[int, int, str]]:
        return [(*found.span(), "staff_number") for found in re.finditer(r"\\bS-[0-9]{6}\\b", text)]

In its `pyproject.toml`, and then in Bestow's configuration:

    [project.entry-points."bestow.redactors"]
    staff_numbers = "my_package:staff_numbers"

    log: {redact: [email, phone, card, iban, secret, ip, staff_numbers]}

It runs in the log's own thread, once for each text, and must take no longer than a record may. Of a text on which it
fails nothing is kept.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from typing import Any

from gateway.errors import ConfigError
from gateway.log.privacy.kinds import KINDS
from gateway.log.privacy.spans import Finder

GROUP = "bestow.redactors"
PRESIDIO = "presidio"


def names() -> list[str]:
    """All that a configuration can name: ours first, then Presidio, then those of others."""
    return [*KINDS, PRESIDIO, *sorted({entry.name for entry in entry_points(group=GROUP)} - {*KINDS, PRESIDIO})]


def check(wanted: Sequence[str]) -> Sequence[str]:
    """Raises ValueError for a name that no redactor has."""
    if unknown := [name for name in wanted if name not in KINDS and name not in names()]:
        raise ValueError(f"there is no redactor {unknown[0]!r} (there is {', '.join(names())})")
    return wanted


def load(name: str) -> Finder:
    """A redactor that is none of KINDS. Raises ConfigError."""
    if name == PRESIDIO:
        return _presidio()
    entry = next((entry for entry in entry_points(group=GROUP) if entry.name == name), None)
    if entry is None:
        raise ConfigError(f"log.redact: there is no redactor {name!r} (there is {', '.join(names())}).")
    try:
        function: Any = entry.load()
    except (Exception, SystemExit) as error:  # importing it runs code of others
        raise ConfigError(
            f"log.redact: the redactor {name!r} of {entry.value} cannot be loaded: {type(error).__name__}: {error}."
        ) from error
    if not callable(function):
        raise ConfigError(f"log.redact: {entry.value} is no function, so {name!r} cannot be used.")
    finder: Finder = function
    return finder


def _presidio() -> Finder:
    """Microsoft's Presidio with its own defaults (English), imported only where it is asked for."""
    try:
        from presidio_analyzer import AnalyzerEngine  # noqa: PLC0415
    except ImportError:
        raise ConfigError("log.redact names presidio, which is not installed: pip install presidio-analyzer.") from None
    analyze: Callable[..., Iterable[Any]] = AnalyzerEngine().analyze

    def find(text: str) -> list[tuple[int, int, str]]:
        return [(one.start, one.end, one.entity_type.lower()) for one in analyze(text=text, language="en")]

    return find
