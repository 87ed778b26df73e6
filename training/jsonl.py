"""Lines of JSON that are appended as they come, so that a run that was killed goes on where it stopped."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from training.errors import TrainingError

T = TypeVar("T", bound=msgspec.Struct)


def encoded(line: Any) -> bytes:
    """One line: keys sorted, so that equal things are equal bytes."""
    return msgspec.json.encode(msgspec.to_builtins(line), order="sorted") + b"\n"


def read_lines(path: Path, kind: type[T]) -> list[T]:
    """The whole lines of a file that another run may be appending to; it stays as it is. Raises TrainingError."""
    data = path.read_bytes()
    return _decoded(path, data[: data.rfind(b"\n") + 1], kind)


def _decoded(path: Path, whole: bytes, kind: type[T]) -> list[T]:
    found: list[T] = []
    for number, raw in enumerate(whole.splitlines(), 1):
        try:
            found.append(msgspec.json.decode(raw, type=kind))
        except msgspec.DecodeError as error:
            raise TrainingError(
                f"{path}, line {number} cannot be read: {error}. Move the folder away, and it is made anew."
            ) from None
    return found


class Lines(Generic[T]):
    """A file of them, read once and then appended to."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        """A last line without an end is of a run that was killed while it wrote, and goes. Raises TrainingError."""
        self._path = path
        # It may have users' prompts in it, and answers to them.
        path.touch(mode=0o600)
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            with path.open("r+b") as file:
                file.truncate(len(whole))
        self.all: list[T] = _decoded(path, whole, kind)

    def add(self, line: T) -> None:
        """Raises OSError."""
        with self._path.open("ab", buffering=0) as file:
            file.write(encoded(line))
        self.all.append(line)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """No two runs write into a folder. Raises TrainingError."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(f"Another run is at work in {folder}: wait for it, or end it first.") from None
        yield
