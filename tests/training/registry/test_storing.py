"""Files that the first of several writers makes alone."""

import errno
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.training.registry.making import memory_url
from training.errors import TrainingError
from training.registry.storing import open_storage


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_what_is_there_is_not_made_again(where: str, tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "r") if where == "folder" else memory_url())
    assert storage.create("a/b.json", b"first")
    assert not storage.create("a/b.json", b"second")
    assert storage.read("a/b.json") == b"first"
    assert storage.list("a/") == [("a/b.json", 5)]
    with pytest.raises(FileNotFoundError):
        storage.read("a/c.json")


def test_a_store_with_an_error_of_its_own_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """s3fs says EINVAL where S3 says 412, the precondition failed."""
    storage = open_storage(memory_url())
    storage.create("a.json", b"first")

    def refused(self: MemoryFileSystem, path: str, value: bytes, mode: str = "overwrite") -> None:
        raise OSError(errno.EINVAL, "At least one of the pre-conditions you specified did not hold")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refused)
    assert not storage.create("a.json", b"second")
    with pytest.raises(OSError, match="pre-conditions"):
        storage.create("b.json", b"first")


def test_a_url_that_nothing_here_reads_is_said() -> None:
    with pytest.raises(TrainingError, match="The registry nowhere://x cannot be reached"):
        open_storage("nowhere://x")
