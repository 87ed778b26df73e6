"""Where the archive's files are: a folder, or anywhere that fsspec reaches. Synchronous; errors are OSError.

A file is there whole or not at all, and when `write` returns it stays.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

# They show a file when all of it has arrived, and rename by copying.
_WHOLE_OR_NOTHING = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory"}


class Store(Protocol):
    """Names are relative, with slashes. list: (name, size) of all files below a folder that ends in a slash.

    delete: what is not there is no error; it stays deleted. sweep: delete what killed writers left half-written there.
    """

    def write(self, name: str, data: bytes) -> None: ...

    def list(self, folder: str) -> list[tuple[str, int]]: ...

    def open(self, name: str) -> BinaryIO: ...

    def delete(self, name: str) -> None: ...

    def sweep(self, folder: str) -> None: ...


def open_store(url: str) -> Store:
    """A folder's path, file://..., or an fsspec URL. Raises ValueError where it is none, ImportError where a package
    that it needs is not installed.
    """
    if "://" not in url:
        return LocalStore(Path(url).expanduser())
    if url.startswith("file://"):
        return LocalStore(Path(url.removeprefix("file://")))
    return FsspecStore(url)


class LocalStore:
    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, name: str, data: bytes) -> None:
        path = self._root / name
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with unfinished.open("xb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        for folder in (path.parent, path.parent.parent, self._root):
            _sync_folder(folder)

    def list(self, folder: str) -> list[tuple[str, int]]:
        return list(self._found(self._root / folder))

    def open(self, name: str) -> BinaryIO:
        return (self._root / name).open("rb")

    def delete(self, name: str) -> None:
        path = self._root / name
        try:
            path.unlink()
        except FileNotFoundError:
            return
        _sync_folder(path.parent)

    def sweep(self, folder: str) -> None:
        for path in (self._root / folder).glob(".*"):
            path.unlink(missing_ok=True)

    def _found(self, folder: Path) -> Iterator[tuple[str, int]]:
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.is_dir():
                yield from self._found(Path(entry.path))
            elif not entry.name.startswith("."):
                with suppress(FileNotFoundError):  # Deleted since.
                    yield Path(entry.path).relative_to(self._root).as_posix(), entry.stat().st_size


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FsspecStore:
    """Keys and endpoints come from the environment or ~/.config/fsspec, as fsspec and its packages read them."""

    def __init__(self, url: str) -> None:
        import fsspec  # noqa: PLC0415  # 40 ms, and most archives are folders

        filesystem, root = fsspec.core.url_to_fs(url)
        self._files: Any = filesystem
        self._root = str(root).rstrip("/")
        protocols = {filesystem.protocol} if isinstance(filesystem.protocol, str) else set(filesystem.protocol)
        self._direct = bool(protocols & _WHOLE_OR_NOTHING)

    def write(self, name: str, data: bytes) -> None:
        path = f"{self._root}/{name}"
        folder, _, last = path.rpartition("/")
        self._files.makedirs(folder, exist_ok=True)
        if self._direct:
            self._files.pipe_file(path, data)
            return
        unfinished = f"{folder}/.{last}.{uuid.uuid4().hex}"
        self._files.pipe_file(unfinished, data)
        self._files.mv(unfinished, path)

    def list(self, folder: str) -> list[tuple[str, int]]:
        self._files.invalidate_cache()  # Others write there too.
        try:
            found = self._files.find(f"{self._root}/{folder}", detail=True)
        except FileNotFoundError:
            return []
        inside = len(self._files._strip_protocol(self._root)) + 1
        names = [(path[inside:], int(facts["size"])) for path, facts in found.items()]
        return [(name, size) for name, size in names if not name.rpartition("/")[2].startswith(".")]

    def open(self, name: str) -> BinaryIO:
        return cast(BinaryIO, self._files.open(f"{self._root}/{name}", "rb"))

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{name}")

    def sweep(self, folder: str) -> None:
        if self._direct:
            return
        self._files.invalidate_cache()
        for path in self._files.glob(f"{self._root}/{folder}.*"):
            with suppress(FileNotFoundError):
                self._files.rm_file(path)
