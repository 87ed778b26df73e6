"""Taking erased people out of snapshots: each that has rows of theirs is written anew without them, then deleted.

The new one says what it takes the place of; its untouched files are the old one's. It is whole before the old one goes,
so a kill in between leaves both, and the next call goes on. Models that were made of the old one are marked with a file
beside their card, or in the registry, since weights cannot be rewritten: whether one is trained again is for people to
decide.
"""

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec

from training.data.layout import File, Manifest, Snapshot, encoded
from training.data.lineage import ERASED, REPLACED, Found, Model, OfErased, Replaced, replaced_by
from training.data.making import upload
from training.data.places import (
    LABEL_PREFIX,
    NAME_DIGITS,
    OF,
    WORK_PREFIX,
    elsewhere,
    make_folder,
    remove_folder,
    set_elsewhere,
    sha256_of,
    snapshots_of,
    sync_file,
    sync_folder,
    write_durably,
)
from training.data.work import Plan, locked
from training.registry.registry import Registry

# ruff: noqa: PLC0415  # pyarrow: 0.3 s


class Mark(msgspec.Struct, frozen=True):
    """That a model has seen what was erased since. at: seconds since 1970. snapshot: which had it."""

    snapshot: str
    orders: list[str]
    at: float


def rewrite(home: Path, snapshot: Snapshot, found: list[Found], erased: OfErased) -> Snapshot:
    """The same without these rows, in its place. Raises OSError."""
    snapshots = snapshots_of(home)
    folder = snapshots / f"{WORK_PREFIX}forget-{snapshot.manifest.id[:NAME_DIGITS]}"
    if folder.exists():
        shutil.rmtree(folder)
    make_folder(folder)
    by_path = {one.file.path: one for one in found}
    files = []
    for file in snapshot.manifest.files:
        _fetch(snapshot, file, folder)
        kept = _without(folder, file, by_path[file.path].rows) if file.path in by_path else file
        if kept is not None:
            files.append(kept)
    manifest = _manifest(snapshot, files, found, erased)
    write_durably(folder / "manifest.json", encoded(manifest))
    parent = snapshot.url.rstrip("/").rpartition("/")[0]
    url = f"{parent}/{manifest.id[:NAME_DIGITS]}"
    if Path(parent) == snapshots:
        if not Path(url).exists():
            folder.rename(url)
            sync_folder(snapshots)
        remove_folder(Path(snapshot.url))
    else:
        set_elsewhere(snapshots, [*elsewhere(snapshots), url])
        upload(folder, manifest, url)
        _delete_elsewhere(snapshot)
        set_elsewhere(snapshots, [one for one in elsewhere(snapshots) if one != snapshot.url])
    if folder.exists():
        shutil.rmtree(folder)
    return Snapshot(url, manifest)


def mark(models: list[Model], registry: Registry, replaced: Replaced, at: float) -> None:
    """Say beside each model's card, or in the registry, that it has seen what was erased. Once for each snapshot and
    orders."""
    for model in models:
        if model.folder is None:
            registry.mark_erased(model.name, replaced.id, replaced.orders)
            continue
        path = model.folder / ERASED
        known = msgspec.json.decode(path.read_bytes(), type=list[Mark]) if path.exists() else []
        if any((one.snapshot, one.orders) == (replaced.id, replaced.orders) for one in known):
            continue
        write_durably(path, msgspec.json.format(msgspec.json.encode([*known, Mark(replaced.id, replaced.orders, at)])))


def drop_unfinished(home: Path, revision: int) -> int:
    """Delete what was begun before the last erasure and is not being worked on; how many there were."""
    dropped = 0
    for folder in sorted(snapshots_of(home).glob(f"{WORK_PREFIX}*")):
        plan = folder / "plan.json"
        if plan.exists() and msgspec.json.decode(plan.read_bytes(), type=Plan).revision == revision:
            continue
        with locked(folder) as free:
            if free:
                shutil.rmtree(folder)
                dropped += 1
    return dropped


def drop_copies(home: Path, replaced: Collection[str]) -> int:
    """Delete what else was made of snapshots that are replaced and holds texts of them; how many folders there were.

    Evaluations on their prompts, trainings that are not done, what a judge said. They can be made again of the new one.
    """
    dropped = 0
    for path, snapshot in _copies(home):
        if snapshot in replaced:
            shutil.rmtree(path)
            dropped += 1
    return dropped


class _Set(msgspec.Struct):
    snapshot: str | None = None


class _Asked(msgspec.Struct):
    set: _Set


class _Job(msgspec.Struct):
    snapshot: str = ""


def _copies(home: Path) -> Iterator[tuple[Path, str | None]]:
    """Folders, and the ids of the snapshots that their texts are of."""
    for path in sorted(home.glob("evaluations/*/asked.json")):
        yield path.parent, msgspec.json.decode(path.read_bytes(), type=_Asked).set.snapshot
    for path in sorted(home.glob("jobs/*/manifest.json")):
        yield path.parent, msgspec.json.decode(path.read_bytes(), type=_Job).snapshot
    for path in sorted(snapshots_of(home).glob(f"{LABEL_PREFIX}*/{OF}")):
        yield path.parent, path.read_text(encoding="utf-8")


def _manifest(snapshot: Snapshot, files: list[File], found: list[Found], erased: OfErased) -> Manifest:
    old = snapshot.manifest
    interactions = sorted({one for part in found for one in part.interactions})
    people = {one for part in found for one in part.people}
    orders = erased.orders(interactions, people)
    history = [*replaced_by(snapshot), Replaced(old.id, interactions, orders)]
    return msgspec.structs.replace(
        old,
        files=files,
        replaces=old.id,
        erased=sorted({*old.erased, *interactions}),
        facts={**old.facts, REPLACED: msgspec.to_builtins(history)},
    ).sealed()


def _without(folder: Path, file: File, rows: frozenset[int]) -> File | None:
    """The file with its sidecar less these rows; None where nothing is left."""
    import pyarrow.parquet as parquet

    from training.data.columns import joined_halves
    from training.data.writing import Regrouped, write_pair

    own, side = folder / file.path, folder / file.side
    before = own.with_suffix(".before"), side.with_suffix(".before")
    for path, old in zip((own, side), before, strict=True):
        path.rename(old)

    def kept() -> Iterator[Any]:
        start = 0
        for parts in zip(*(parquet.ParquetFile(path).iter_batches(1000) for path in before), strict=True):
            table = joined_halves(*parts)
            keep = [start + at not in rows for at in range(table.num_rows)]
            start += table.num_rows
            yield table.filter(keep)

    count = write_pair(own, side, Regrouped(kept()).groups(file.rows))
    for old in before:
        old.unlink()
    if not count:
        return None
    return msgspec.structs.replace(file, rows=count, sha256=sha256_of(own), side_sha256=sha256_of(side))


def _fetch(snapshot: Snapshot, file: File, folder: Path) -> None:
    """Both files of it into a folder."""
    import fsspec

    files, root = fsspec.core.url_to_fs(snapshot.url)
    for name in (file.path, file.side):
        make_folder((folder / name).parent)
        files.get_file(f"{root}/{name}", str(folder / name))
        sync_file(folder / name)


def _delete_elsewhere(snapshot: Snapshot) -> None:
    """The manifest first: what a kill leaves is no snapshot."""
    import fsspec

    files, root = fsspec.core.url_to_fs(snapshot.url)
    files.rm_file(f"{root}/manifest.json")
    files.rm(root, recursive=True)
