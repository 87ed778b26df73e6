"""What a version's files are, by their SHA-256, and which of them are not what they were."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from training.data.places import sha256_of
from training.errors import TrainingError
from training.registry.layout import FOLDERS, VERSION, FileFacts, Version
from training.registry.storing import Storage

CLAIM = "claim.json"
_OURS = (VERSION, CLAIM)
_CHUNK = 1 << 20


class Fault(NamedTuple):
    file: str
    what: Literal["is missing", "is damaged", "does not belong to it"]

    def __str__(self) -> str:
        return f"{self.file} {self.what}"


def files_in(folder: Path, only: Sequence[str] | None = None) -> dict[str, FileFacts]:
    """All files of a folder, links followed, but for hidden ones and the registry's own. only: those, and subfolders.

    Raises TrainingError where there is none.
    """
    found = {name: FileFacts(sha256_of(path), path.stat().st_size) for name, path in _files(folder, only)}
    if not found:
        raise TrainingError(f"There are no files in {folder}: a version is a folder in Hugging Face layout.")
    return found


def _files(folder: Path, only: Sequence[str] | None) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        wanted = only is None or any(parts[: len(Path(one).parts)] == Path(one).parts for one in only)
        if path.is_file() and wanted and not hidden and path.relative_to(folder).as_posix() not in _OURS:
            yield path.relative_to(folder).as_posix(), path


def faults(storage: Storage, version: Version) -> list[Fault]:
    """By file. Reads all of them. Raises OSError."""
    place = f"{FOLDERS[version.kind]}/{version.label}/"
    there = {name.removeprefix(place): size for name, size in storage.list(place)}
    found = [Fault(name, "does not belong to it") for name in there if name not in version.files and name not in _OURS]
    for name, facts in version.files.items():
        if name not in there:
            found.append(Fault(name, "is missing"))
        elif there[name] != facts.bytes or _sha256(storage, place + name) != facts.sha256:
            found.append(Fault(name, "is damaged"))
    return sorted(found)


def _sha256(storage: Storage, name: str) -> str:
    with storage.open(name) as opened:
        return sha256_of_stream(opened)


def sha256_of_stream(opened: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := opened.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
