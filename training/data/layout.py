"""A snapshot as a directory, by any fsspec path; immutable, and named by what is in it.

    manifest.json                              what is in it and where it came from; its `id` is a digest of the rest
    preference/train-00000.parquet             TRL's columns (and a prompt's `reference`): load_dataset("parquet", ...)
    preference/train-00000.side.parquet        the sidecar (`rows.Side`), row by row in the same order
    unpaired/...  prompt/...  demonstration/...  best_of_n/...      the same, for train, calibration, test, holdout

`open_snapshot` is how training reads one. Parquet and fsspec are imported when they are needed.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from training.data.rows import (
    BestOfN,
    Dataset,
    Demonstration,
    Preference,
    PromptOnly,
    Row,
    Side,
    Split,
    Unpaired,
)
from training.errors import TrainingError

# ruff: noqa: PLC0415  # pyarrow: 0.3 s

MANIFEST = "manifest.json"
LAYOUT_VERSION = 1
_BATCH_ROWS = 1024

_ROWS: dict[Dataset, type[Row]] = {
    "preference": Preference,
    "unpaired": Unpaired,
    "prompt": PromptOnly,
    "demonstration": Demonstration,
    "best_of_n": BestOfN,
}

R = TypeVar("R", Preference, Unpaired, PromptOnly, Demonstration, BestOfN)


class File(msgspec.Struct, frozen=True):
    """path: relative, of the Parquet with TRL's columns; side: of the sidecar. Digests are SHA-256, in hex."""

    dataset: Dataset
    split: Split
    path: str
    side: str
    rows: int
    sha256: str
    side_sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """id: digest of all but itself, `created` and `facts`, so that the same content has the same name.

    scope: tenant:NAME or shared: whose models it may train. settings: all that decided what is in it. sources: what was
    read, in counts. skipped: what was left out, why. facts: what does not decide what is in it (seconds, versions).
    replaces: the id of the snapshot that this one is without erased people. erased: ids of interactions taken out.
    """

    id: str = ""
    version: int = LAYOUT_VERSION
    created: float = 0.0
    scope: str = ""
    files: list[File] = []
    settings: dict[str, Any] = {}
    sources: dict[str, int] = {}
    skipped: dict[str, int] = {}
    replaces: str | None = None
    erased: list[str] = []
    facts: dict[str, Any] = {}

    def sealed(self) -> "Manifest":
        """With its id."""
        hashed = msgspec.structs.replace(self, id="", created=0.0, facts={})
        return msgspec.structs.replace(self, id=hashlib.sha256(_json(hashed)).hexdigest())


def _json(manifest: Manifest) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(manifest), order="sorted")


def encoded(manifest: Manifest) -> bytes:
    """As it lies in the directory."""
    return msgspec.json.format(_json(manifest), indent=2)


@dataclass(frozen=True)
class Snapshot:
    """A snapshot to read. url: where it lies."""

    url: str
    manifest: Manifest

    def files(self, dataset: Dataset, split: Split) -> list[File]:
        return [file for file in self.manifest.files if (file.dataset, file.split) == (dataset, split)]

    def count(self, dataset: Dataset, split: Split) -> int:
        return sum(file.rows for file in self.files(dataset, split))

    def rows(self, kind: type[R], split: Split) -> Iterator[R]:
        """Each row with its sidecar, a batch at a time in memory. Raises TrainingError where a file is damaged."""
        dataset = next(name for name, row in _ROWS.items() if row is kind)
        for file in self.files(dataset, split):
            for row, side in zip(
                self._read(file.path, file.sha256), self._read(file.side, file.side_sha256), strict=True
            ):
                yield msgspec.convert({**row, "side": msgspec.convert(side, Side)}, kind)

    def _read(self, path: str, sha256: str) -> Iterator[dict[str, Any]]:
        import fsspec
        import pyarrow.parquet as parquet

        with fsspec.open(f"{self.url.rstrip('/')}/{path}", "rb") as opened:
            digest = hashlib.sha256()
            while chunk := opened.read(1 << 20):
                digest.update(chunk)
            if digest.hexdigest() != sha256:
                raise TrainingError(
                    f"{self.url}/{path} is not what its manifest says: make the snapshot again with "
                    "`bestow train snapshot`."
                )
            opened.seek(0)
            for batch in parquet.ParquetFile(opened).iter_batches(_BATCH_ROWS):
                yield from batch.to_pylist()


def open_snapshot(url: str) -> Snapshot:
    """Raises TrainingError where there is none, or one of a layout that we do not know."""
    import fsspec

    try:
        with fsspec.open(f"{url.rstrip('/')}/{MANIFEST}", "rb") as opened:
            manifest = msgspec.json.decode(opened.read(), type=Manifest)
    except FileNotFoundError:
        raise TrainingError(
            f"{url} is no snapshot: it has no {MANIFEST}. Make one with `bestow train snapshot`."
        ) from None
    except msgspec.DecodeError as error:
        raise TrainingError(f"{url}/{MANIFEST} cannot be read: {error}.") from error
    if manifest.version != LAYOUT_VERSION:
        raise TrainingError(
            f"{url} has layout version {manifest.version}; this Bestow reads version {LAYOUT_VERSION}. Make it again."
        )
    return Snapshot(url, manifest)
