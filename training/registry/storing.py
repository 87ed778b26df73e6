"""Where a registry's files are: a folder, or anywhere that fsspec reaches. Synchronous; errors are OSError.

The archive's stores (`gateway.log.archive.store`), and what a registry needs beside them: files made by the first of
several writers alone, and files of any size. S3 and Google Cloud Storage decide themselves who was first; where fsspec
can only look and then write (`create`), two writers within that moment may both believe it.
"""

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from gateway.log.archive.store import FsspecStore, LocalStore, Store
from training.data.places import make_folder, sync_file, sync_folder
from training.errors import TrainingError


class Storage(Store, Protocol):
    """url: of its root, without a slash at its end. root: where it is a folder of this machine."""

    url: str
    root: Path | None

    def create(self, name: str, data: bytes) -> bool:
        """False where the file was there before: then it stays as it is."""

    def put(self, file: Path, name: str) -> None: ...

    def get(self, name: str, file: Path) -> None: ...

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""

    def modified(self, name: str) -> float:
        """Seconds since 1970."""


def open_storage(url: str) -> Storage:
    """Raises TrainingError where no such store can be reached."""
    if "://" not in url:
        return Folder(Path(url).expanduser().absolute())
    if url.startswith("file://"):
        return Folder(Path(url.removeprefix("file://")))
    try:
        return Elsewhere(url.rstrip("/"))
    except (ValueError, ImportError) as error:
        raise TrainingError(
            f"The registry {url} cannot be reached: {error}. It is a folder or an fsspec URL (s3 needs s3fs)."
        ) from error


class Folder(LocalStore):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root: Path | None = root
        self.url = str(root)
        self._folder = root

    def create(self, name: str, data: bytes) -> bool:
        path = self._folder / name
        make_folder(path.parent)
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        unfinished.write_bytes(data)
        try:
            sync_file(unfinished)
            os.link(unfinished, path)  # fails where another process was first; replaces nothing
        except FileExistsError:
            return False
        finally:
            unfinished.unlink(missing_ok=True)
        sync_folder(path.parent)
        sync_folder(self._folder)
        return True

    def put(self, file: Path, name: str) -> None:
        path = self._folder / name
        make_folder(path.parent)
        shutil.copyfile(file, path)
        sync_file(path)
        sync_folder(path.parent)

    def get(self, name: str, file: Path) -> None:
        shutil.copyfile(self._folder / name, file)

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def modified(self, name: str) -> float:
        return (self._folder / name).stat().st_mtime


class Elsewhere(FsspecStore):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.root: Path | None = None
        self.url = url

    def create(self, name: str, data: bytes) -> bool:
        path = f"{self._root}/{name}"
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            self._files.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        except OSError:
            # Some stores have their own error for it.
            self._files.invalidate_cache()
            if self._files.exists(path):
                return False
            raise
        return True

    def put(self, file: Path, name: str) -> None:
        path = f"{self._root}/{name}"
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.put_file(str(file), path)

    def get(self, name: str, file: Path) -> None:
        self._files.get_file(f"{self._root}/{name}", str(file))

    def read(self, name: str) -> bytes:
        self._files.invalidate_cache()
        return bytes(self._files.cat_file(f"{self._root}/{name}"))

    def modified(self, name: str) -> float:
        with suppress(NotImplementedError):
            return float(self._files.modified(f"{self._root}/{name}").timestamp())
        return 0.0
