"""Which checkpoint to go on from: a killed run may leave one half written, which looks whole by its name.

A checkpoint is whole when it has a seal: a list of its files with sizes and digests, written last, by rename.
"""

import json
import shutil
from pathlib import Path

from training.data.places import sha256_of, sync_file, write_durably

_SEAL = "complete.json"


def seal(checkpoint: Path) -> None:
    """Marks a checkpoint as whole; all its files are on the disk before."""
    listed = {}
    for file in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        sync_file(file)
        listed[str(file.relative_to(checkpoint))] = sha256_of(file)
    write_durably(checkpoint / _SEAL, json.dumps(listed, indent=2, sort_keys=True).encode())


def complete_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint in the folder, if any."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=_step, reverse=True):
        if _is_whole(checkpoint):
            return checkpoint
    return None


def drop_damaged(folder: Path) -> None:
    """Removes what is not whole: by its name alone, it would count as one of those that are kept."""
    for checkpoint in folder.glob("checkpoint-*"):
        if not _is_whole(checkpoint):
            shutil.rmtree(checkpoint)


def _is_whole(checkpoint: Path) -> bool:
    try:
        listed = json.loads((checkpoint / _SEAL).read_text(encoding="utf-8"))
        return all(sha256_of(checkpoint / name) == digest for name, digest in listed.items())
    except (OSError, ValueError):
        return False


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1
