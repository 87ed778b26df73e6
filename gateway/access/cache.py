"""The last known keys and tenants on disk, for a gateway that starts while Redis is away. Hashes only."""

from pathlib import Path

from gateway.access.snapshot import Snapshot
from gateway.shared import disk


def cache_file(data_dir: Path) -> Path:
    return data_dir / "access.json"


def load(path: Path) -> Snapshot | None:
    """None where there is no file, or none that can be read."""
    return disk.load(path, Snapshot, "API keys")


def save(path: Path, snapshot: Snapshot) -> None:
    """Replaces the file as a whole. Raises OSError."""
    disk.save(path, snapshot)
