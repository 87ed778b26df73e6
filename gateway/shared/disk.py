"""The last known copy of something shared, on disk, for a gateway that starts while Redis is away. Mode 0600."""

import logging
import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

logger = logging.getLogger(__name__)

T = TypeVar("T")


def load(path: Path, kind: type[T], what: str) -> T | None:
    """None where there is no file, or none that can be read. what: what it holds, for the log."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("The last known %s in %s cannot be read: %s", what, path, error)
        return None


def save(path: Path, value: Any) -> None:
    """Replaces the file as a whole. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
        file.write(msgspec.json.encode(value))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
