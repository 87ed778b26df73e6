"""A training job as a directory: all that passes between who asks for a model and what trains it.

    manifest.json            what to train: kind, settings, seed, base, inputs with digests, processes
    inputs/train.parquet     rows as token ids
    inputs/...
    out/progress.jsonl       a line about once a second while it runs: step, steps, loss, seconds, to_go
    out/checkpoints/         to go on from after `kill -9`
    out/model/               the model: safetensors and tokenizer in plain Hugging Face layout, or a LoRA adapter
    out/points/<step>/       of a policy: the model at points of its training, for curves
    out/metrics.json         written last: where it is, the job is done
    out/failed.json          why it is not; removed when it is tried again
    out/log.txt              what the process said, where this machine ran it

Whatever runs `python -m training.jobs.run JOBDIR` on it, as often as it likes, does the job once. Light: no torch.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from training.data.places import make_folder, sha256_of, write_durably
from training.errors import TrainingError
from training.jobs.progress import Step

MANIFEST_VERSION = 1
_SECONDS_BETWEEN_LOOKS = 0.1


class Input(msgspec.Struct, frozen=True):
    """path: within the job. sha256: in hex."""

    path: str
    sha256: str
    rows: int


class Base(msgspec.Struct, frozen=True):
    """The model to start from. folder: as the process that trains sees it. weights: their SHA-256, in hex."""

    folder: str
    weights: str


class JobManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What to train. The same manifest gives the same weights, on the same kind of machine.

    scope, snapshot, split: where the inputs come from. processes: that share a batch: more or fewer round differently.
    models: others that it needs, by what they are there for (start, anchor, reward).
    """

    version: int = MANIFEST_VERSION
    kind: Literal["reward", "policy"]
    settings: dict[str, Any]
    seed: int
    base: Base
    inputs: dict[str, Input]
    left_out: dict[str, int] = {}
    processes: int = 1
    scope: str = ""
    snapshot: str = ""
    split: str = "train"
    models: dict[str, Base] = {}

    @property
    def id(self) -> str:
        """A digest of all but where the models lie."""
        moved = msgspec.to_builtins(msgspec.structs.replace(self, base=Base("", self.base.weights)))
        del moved["models"]  # jobs without any had their names before there were such
        if self.models:
            moved["models"] = {role: model.weights for role, model in self.models.items()}
        return hashlib.sha256(msgspec.json.encode(moved, order="sorted")).hexdigest()


class Place(NamedTuple):
    """How far a job's progress was read: which file (by inode), how many bytes."""

    file: int = 0
    position: int = 0


class Job:
    """The paths of a job's directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest_file = folder / "manifest.json"
        self.inputs = folder / "inputs"
        self.out = folder / "out"
        self.model = self.out / "model"
        self.adapter = self.out / "adapter"
        self.points = self.out / "points"
        self.checkpoints = self.out / "checkpoints"
        self.progress = self.out / "progress.jsonl"
        self.metrics = self.out / "metrics.json"
        self.failed = self.out / "failed.json"
        self.log = self.out / "log.txt"

    @property
    def is_done(self) -> bool:
        return self.metrics.is_file()

    def manifest(self) -> JobManifest:
        """Raises TrainingError where there is none that we know."""
        try:
            manifest = msgspec.json.decode(self.manifest_file.read_bytes(), type=JobManifest)
        except FileNotFoundError:
            raise TrainingError(f"{self.folder} is no training job: it has no manifest.json.") from None
        except msgspec.DecodeError as error:
            raise TrainingError(f"{self.manifest_file} cannot be read: {error}.") from error
        if manifest.version != MANIFEST_VERSION:
            raise TrainingError(
                f"{self.folder} is a job of version {manifest.version}; this Bestow runs version {MANIFEST_VERSION}."
            )
        return manifest

    def checked_input(self, name: str, of: Input) -> Path:
        """The input's file. Raises TrainingError where it is not what the manifest says."""
        path = self.folder / of.path
        if not path.is_file() or sha256_of(path) != of.sha256:
            raise TrainingError(
                f"The input {name} of the job {self.folder} is not what its manifest says: delete the folder and start "
                "the command again."
            )
        return path

    def progress_after(self, place: Place) -> tuple[list[Step], Place]:
        """Steps told since `place`, and the place after them. A line half written is left for later."""
        try:
            with self.progress.open("rb") as opened:
                file = os.fstat(opened.fileno()).st_ino
                position = place.position if place.file == file else 0  # another file: of a new attempt
                opened.seek(position)
                whole = opened.read()
        except FileNotFoundError:
            return [], place
        end = whole.rfind(b"\n") + 1
        return [msgspec.json.decode(line, type=Step) for line in whole[:end].splitlines()], Place(file, position + end)


class Failed(msgspec.Struct, frozen=True):
    error: str


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all, and on the disk when this returns."""
    make_folder(path.parent)
    write_durably(path, msgspec.json.format(msgspec.json.encode(msgspec.to_builtins(value)), indent=2) + b"\n")


@contextmanager
def alone(job: Job, rank: int, attempt: str, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Waits until no other attempt works at the job: two would write the same checkpoints.

    Of several processes the first holds the lock; the others, which know it by what it writes there, wait for it.
    """
    make_folder(job.out)
    path = job.out / "lock"
    if rank:
        while not job.is_done and not (path.is_file() and path.read_text(encoding="utf-8") == attempt):
            sleep(_SECONDS_BETWEEN_LOOKS)
        yield
        return
    with path.open("a+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(attempt)
        lock.flush()
        yield
