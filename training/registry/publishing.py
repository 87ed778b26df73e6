"""A folder becomes a version: its files are copied, each with its SHA-256, and version.json is written last.

In a folder of this machine all of it is put together aside and appears by one rename, under a lock (flock): whoever is
killed leaves a scratch folder, which the next one empties. Elsewhere a number is taken by a claim, a small file that
only one writer can make (`Storage.create`); whoever is killed leaves a claim, and goes on in it when it publishes the
same again.
"""

import fcntl
import hashlib
import itertools
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from training.data.places import make_folder, sha256_of, sync_file, sync_folder, write_durably
from training.errors import TrainingError
from training.registry.checking import CLAIM, files_in
from training.registry.layout import FOLDERS, LAYOUT_VERSION, VERSION, Version
from training.registry.reading import encode, removed_labels
from training.registry.refs import check_name, parse_label, parse_ref
from training.registry.storing import Storage

SCRATCH = ".partial"
_WEIGHTS = (".safetensors", ".bin")
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
_WHOLE = ("config.json",)


class Claim(msgspec.Struct, frozen=True):
    """Who has taken a number: what is being published under it."""

    identity: str


def publish(storage: Storage, version: Version, folder: Path, above: int, only: Sequence[str] | None) -> Version:
    """Raises TrainingError where the folder is no such version, and OSError."""
    check_name(version.name)
    files = files_in(folder, only)
    for name in _ADAPTER if version.adapter else _WHOLE:
        if name not in files:
            raise TrainingError(f"{folder} has no {name}: it is no {'adapter' if version.adapter else 'model'}.")
    full = msgspec.structs.replace(version, layout=LAYOUT_VERSION, number=0, files=files)
    if storage.root is not None:
        return _publish_here(storage, storage.root, full, folder, above)
    return _publish_elsewhere(storage, full, folder, above)


def identity(version: Version) -> str:
    """Equal where the same jobs have made the same weights of the same name."""
    weights = {name: facts.sha256 for name, facts in version.files.items() if name.endswith(_WEIGHTS)}
    parts = {
        "kind": version.kind,
        "name": version.name,
        "jobs": version.measures.get("jobs"),
        "weights": weights or {name: facts.sha256 for name, facts in version.files.items()},
    }
    return hashlib.sha256(encode(parts)).hexdigest()


def decode(data: bytes, where: str) -> Version:
    """Raises TrainingError."""
    try:
        version = msgspec.json.decode(data, type=Version)
    except msgspec.DecodeError as error:
        raise TrainingError(f"{where}/{VERSION} cannot be read: {error}.") from error
    if version.layout != LAYOUT_VERSION:
        raise TrainingError(f"{where} has layout {version.layout}; this Bestow reads layout {LAYOUT_VERSION}.")
    return version


def _publish_here(storage: Storage, root: Path, version: Version, folder: Path, above: int) -> Version:
    home = root / FOLDERS[version.kind]
    make_folder(home)
    with _alone(home):
        scratch = home / SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)
        if same := _same(storage, version):
            return same
        for name, facts in version.files.items():
            path = scratch / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, path)
            if sha256_of(path) != facts.sha256:
                raise TrainingError(f"{folder / name} has changed while it was published: publish it when it is done.")
            sync_file(path)
        numbered = msgspec.structs.replace(version, number=_next(storage, version, above))
        write_durably(scratch / VERSION, encode(numbered))
        for path in (*(one for one in scratch.rglob("*") if one.is_dir()), scratch):
            sync_folder(path)
        scratch.rename(home / numbered.label)  # fails where such a folder is there: nothing is ever replaced
        sync_folder(home)
        sync_folder(root)
        return numbered


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One publisher at a time; the lock of a killed one is free."""
    with (home / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _publish_elsewhere(storage: Storage, version: Version, folder: Path, above: int) -> Version:
    if same := _same(storage, version):
        return same
    numbered = msgspec.structs.replace(version, number=_claimed(storage, version, above))
    place = parse_ref(numbered.ref).place
    for name in numbered.files:
        storage.put(folder / name, f"{place}/{name}")
    if storage.create(f"{place}/{VERSION}", encode(numbered)):
        return numbered
    # Another process published the same at the same time.
    return decode(storage.read(f"{place}/{VERSION}"), f"{storage.url}/{place}")


def _claimed(storage: Storage, version: Version, above: int) -> int:
    """A number that is ours: one that a killed publisher of the same has claimed, or the next free one."""
    claim = encode(Claim(identity(version)))
    numbers, _ = _taken(storage, version)
    unfinished = [number for number, whole in numbers.items() if not whole and number > above]
    for number in sorted(unfinished):
        if _claim(storage, version, number) == claim:
            return number
    for number in itertools.count(_next(storage, version, above)):
        storage.create(f"{FOLDERS[version.kind]}/{version.name}@{number}/{CLAIM}", claim)
        # Read back: of two writers, where the store cannot say who was first, the last one has it.
        if _claim(storage, version, number) == claim:
            return number
    raise AssertionError


def _claim(storage: Storage, version: Version, number: int) -> bytes | None:
    try:
        return storage.read(f"{FOLDERS[version.kind]}/{version.name}@{number}/{CLAIM}")
    except FileNotFoundError:
        return None


def _same(storage: Storage, version: Version) -> Version | None:
    """The version that this is, if it was published before."""
    wanted = identity(version)
    numbers, _ = _taken(storage, version)
    for number in sorted(number for number, whole in numbers.items() if whole):
        place = f"{FOLDERS[version.kind]}/{version.name}@{number}"
        found = decode(storage.read(f"{place}/{VERSION}"), f"{storage.url}/{place}")
        if identity(found) == wanted:
            return found
    return None


def _next(storage: Storage, version: Version, above: int) -> int:
    numbers, removed = _taken(storage, version)
    return max((*numbers, *removed, above), default=0) + 1


def _taken(storage: Storage, version: Version) -> tuple[dict[int, bool], set[int]]:
    """Numbers of its name that are taken, and whether that version is whole; and numbers of removed ones."""
    numbers: dict[int, bool] = {}
    for path, _ in storage.list(f"{FOLDERS[version.kind]}/"):
        _, label, *rest = path.split("/")
        parts = parse_label(label)
        if parts and parts[0] == version.name:
            numbers[parts[1]] = numbers.get(parts[1], False) or rest == [VERSION]
    removed = [parse_ref(one.of) for one in removed_labels(storage, version.kind)]
    return numbers, {one.number for one in removed if one.name == version.name}


def remove_files(storage: Storage, place: str) -> None:
    """Of a version that is none any more."""
    for name, _ in storage.list(f"{place}/"):
        storage.delete(name)
    if storage.root is not None:
        shutil.rmtree(storage.root / place, ignore_errors=True)


def sweep(storage: Storage, folder: str) -> None:
    """What a killed publisher left in a folder of this machine, unless one is at work. Elsewhere it goes on in it."""
    scratch = storage.root / folder / SCRATCH if storage.root is not None else None
    if scratch is not None and scratch.exists():
        with _alone(scratch.parent):
            shutil.rmtree(scratch, ignore_errors=True)
