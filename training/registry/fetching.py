"""Local copies of versions of a registry that is elsewhere: <cache>/<name>@<N>-<digest of its version.json>/."""

import shutil
import tempfile
from pathlib import Path

from training.data.places import make_folder, sha256_of, sync_file, sync_folder
from training.errors import TrainingError
from training.registry.layout import FOLDERS, VERSION, Version
from training.registry.storing import Storage

_DIGITS = 16


def fetch(storage: Storage, version: Version, digest: str, cache: Path) -> Path:
    """The copy's folder. Each file is checked by its SHA-256 when it arrives, by its size from then on.

    Raises TrainingError where a file is not what the version says, and OSError.
    """
    target = cache / f"{version.label}-{digest[:_DIGITS]}"
    if _is_whole(target, version):
        return target
    shutil.rmtree(target, ignore_errors=True)
    make_folder(cache)
    place = f"{FOLDERS[version.kind]}/{version.label}"
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetching-") as temporary:
        scratch = Path(temporary) / "version"
        scratch.mkdir(mode=0o755)  # workers read it, perhaps as another user
        for name, facts in version.files.items():
            path = scratch / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                storage.get(f"{place}/{name}", path)
            except FileNotFoundError:
                raise TrainingError(f"{name} of {version.ref} is missing in the registry {storage.url}.") from None
            if sha256_of(path) != facts.sha256:
                raise TrainingError(f"{name} of {version.ref} is damaged in the registry {storage.url}.")
            sync_file(path)
        (scratch / VERSION).write_bytes(storage.read(f"{place}/{VERSION}"))
        sync_folder(scratch)
        try:
            scratch.rename(target)
        except OSError:
            if not _is_whole(target, version):  # Another process was first.
                raise
    sync_folder(cache)
    return target


def _is_whole(folder: Path, version: Version) -> bool:
    return (folder / VERSION).is_file() and all(
        (folder / name).is_file() and (folder / name).stat().st_size == facts.bytes
        for name, facts in version.files.items()
    )
