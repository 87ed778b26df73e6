"""The last known keys and tenants on disk, for a gateway that starts while Redis is away. Hashes only, mode 0600."""

import logging
import os
from pathlib import Path

import msgspec

from gateway.access.snapshot import Snapshot

logger = logging.getLogger(__name__)


def cache_file(data_dir: Path) -> Path:
    return data_dir / "access.json"


def load(path: Path) -> Snapshot | None:
    """None where there is no file, or none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Snapshot)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("The last known API keys in %s cannot be read: %s", path, error)
        return None


def save(path: Path, snapshot: Snapshot) -> None:
    """Replaces the file as a whole. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
        file.write(msgspec.json.encode(snapshot))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
