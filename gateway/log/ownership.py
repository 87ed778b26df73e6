"""Who owns which journal segments, when several gateways share a data directory.

A process has an owner id (UUIDv7), the front part of its segments' names, and holds an flock on `<owner>.lock` as
long as it lives. The kernel drops the lock when the process dies, however it dies, so a lock that can be taken marks
segments left behind; taking it makes the taker their only owner.
"""

import fcntl
import os
import re
from pathlib import Path

SEGMENT_NAME = re.compile(r"([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})\.(\d{8})\.seg")


class OwnerLock:
    """A held lock on one owner's segments; `release` or the end of the process gives it back."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, directory: Path, owner: str) -> "OwnerLock":
        """Lock a new owner id. Raises OSError where the directory cannot be written."""
        path = directory / f"{owner}.lock"
        unlocked = path.with_suffix(".lock.new")
        descriptor = os.open(unlocked, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            # Locked before it gets its name: no other process can find it unlocked and take it for dead.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked.rename(path)
        except OSError:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    @classmethod
    def take(cls, directory: Path, owner: str) -> "OwnerLock | None":
        """Lock the segments of a dead process; None while their owner lives. Raises OSError."""
        path = directory / f"{owner}.lock"
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def release(self, *, remove: bool) -> None:
        """Give the lock back; `remove` its file when no segment of this owner is left."""
        if remove:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def owner_of(name: str) -> str | None:
    """The owner in a segment's file name; None for any other file."""
    match = SEGMENT_NAME.fullmatch(name)
    return match[1] if match else None


def owners(directory: Path) -> dict[str, list[Path]]:
    """Each owner's segments, oldest first. Raises OSError where the directory cannot be read."""
    found: dict[str, list[Path]] = {}
    for path in sorted(directory.iterdir()):
        owner = owner_of(path.name)
        if owner is not None:
            found.setdefault(owner, []).append(path)
    return found
