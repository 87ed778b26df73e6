"""Where training keeps what it makes, and files that are there whole or not at all.

<data_dir>/training/snapshots/<first 12 of its id>/     a snapshot
                    snapshots/.work-<digest>/           one that is being made (`snapshot`)
                    snapshots/elsewhere.json            where those lie that were written with --to
                    reward-models/<name>@N/             a model with its card.json
                    registry/                           versions and releases (`training.registry.layout`)
                    cache/                              local copies of versions of a registry that is elsewhere
"""

import hashlib
import os
import shutil
from pathlib import Path

import msgspec

from gateway.config import Config
from training.data.layout import MANIFEST

NAME_DIGITS = 12
WORK_PREFIX = ".work-"
LABEL_PREFIX = ".label-"
OF = "of"
_ELSEWHERE = "elsewhere.json"
_CHUNK = 1 << 20


def home_of(settings: Config) -> Path:
    """The folder of all that training makes."""
    return settings.data_dir.expanduser().absolute() / "training"


def snapshots_of(home: Path) -> Path:
    return home / "snapshots"


def reward_models_of(home: Path) -> Path:
    return home / "reward-models"


def registry_folder(home: Path) -> Path:
    return home / "registry"


def known_snapshots(home: Path) -> list[str]:
    """Paths and URLs of all that were made here and are still known, in the order of their names."""
    folder = snapshots_of(home)
    own = sorted(str(path.parent) for path in folder.glob(f"[!.]*/{MANIFEST}"))
    return own + elsewhere(folder)


def elsewhere(folder: Path) -> list[str]:
    """Those that were written to another place."""
    path = folder / _ELSEWHERE
    return msgspec.json.decode(path.read_bytes(), type=list[str]) if path.exists() else []


def set_elsewhere(folder: Path, urls: list[str]) -> None:
    make_folder(folder)
    write_durably(folder / _ELSEWHERE, msgspec.json.encode(sorted(set(urls))))


def make_folder(path: Path) -> None:
    """For its owner alone: people's texts are in it."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)


def write_durably(path: Path, data: bytes) -> None:
    """All of it, or nothing; what was there before is replaced."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """So that names in it outlive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def remove_folder(path: Path) -> None:
    """Its manifest first, so that what a kill leaves of it is no snapshot."""
    (path / MANIFEST).unlink(missing_ok=True)
    if path.exists():
        sync_folder(path)
        shutil.rmtree(path)
