"""Whoever is killed while publishing leaves nothing or a whole version."""

import itertools
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.training.registry.making import adapter, memory_url, policy, registry_at
from training.errors import TrainingError
from training.registry.registry import Registry

_CHANGING = ("write", "create", "put", "delete")


class Killed(BaseException):
    """As a kill would be: nothing catches it."""


class Failing:
    """A store whose `at`-th change does not happen, and whose writer is gone."""

    def __init__(self, storage: Any, at: int) -> None:
        self._storage, self._left = storage, at

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._storage, name)
        if name not in _CHANGING:
            return found

        def change(*arguments: Any) -> Any:
            if self._left == 0:
                raise Killed
            self._left -= 1
            return found(*arguments)

        return change


def whole(registry: Registry) -> list[str]:
    """The versions that are there, each of which is whole."""
    found = registry.versions("policy")
    for version in found:
        registry.verify(version.ref)
    return [one.label for one in found]


def test_a_publisher_killed_anywhere_goes_on_where_there_are_objects_alone(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    ends = []
    for at in range(10):
        registry = registry_at(memory_url(), tmp_path / "cache")
        storage = registry.storage
        registry.storage = Failing(storage, at)
        try:
            registry.publish(policy("job"), folder)
            ends.append("done")
        except Killed:
            registry.storage = storage
            assert whole(registry) == []
            ends.append("killed")
        registry.storage = storage
        # Another one comes in between and gets a number of its own; the killed one then has what it claimed.
        other = registry.publish(policy("other"), folder)
        again = registry.publish(policy("job"), folder)
        assert whole(registry) == sorted([other.label, again.label])
        assert len({other.number, again.number}) == 2
    assert ends[:4] == ["killed"] * 4  # the claim, two files, version.json
    assert ends[4:] == ["done"] * 6


def test_a_number_stays_taken_by_a_claim(tmp_path: Path) -> None:
    registry = registry_at(memory_url(), tmp_path / "cache")
    storage = registry.storage
    registry.storage = Failing(storage, 2)
    with pytest.raises(Killed):
        registry.publish(policy("job"), adapter(tmp_path / "out"))
    registry.storage = storage
    assert registry.publish(policy("other"), adapter(tmp_path / "out")).number == 2
    assert registry.publish(policy("job"), adapter(tmp_path / "out")).number == 1


def test_what_changes_while_it_is_copied_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = adapter(tmp_path / "out")
    registry = registry_at(str(tmp_path / "registry"), tmp_path / "cache")
    real = os.fsync

    def trained_on(descriptor: int) -> None:
        (folder / "adapter_model.safetensors").write_bytes(b"other")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", trained_on)
    with pytest.raises(TrainingError, match="has changed while it was published"):
        registry.publish(policy("job"), folder)
    assert registry.versions("policy") == []


def publish_many(url: str, folder: str, count: int) -> None:
    registry = Registry(url)
    for index in range(count):
        registry.publish(policy(f"job {index}"), Path(folder))


@pytest.mark.slow
def test_kill_minus_nine_at_any_moment(tmp_path: Path) -> None:
    folder, url = adapter(tmp_path / "out", os.urandom(1 << 20)), str(tmp_path / "registry")
    for index in range(6):
        (folder / f"shard-{index}.safetensors").write_bytes(os.urandom(1 << 16))
    forked, draws = multiprocessing.get_context("fork"), random.Random(9)
    killed, before, count = 0, 0, 6
    for attempt in itertools.count(1):
        child = forked.Process(target=publish_many, args=(url, str(folder), count))
        child.start()
        time.sleep(draws.uniform(0, 0.01 * 1.2**attempt))  # later and later, however slow the disk is
        assert child.pid is not None
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            killed += 1
        child.join()
        labels = whole(Registry(url))
        assert labels == [f"demo-policy@{number}" for number in range(1, len(labels) + 1)]
        assert len(labels) >= before  # nothing that was there has gone
        before = len(labels)
        if child.exitcode == 0:
            break
    assert before == count
    assert killed >= 3
    jobs = [one.measures["jobs"] for one in Registry(url).versions("policy", "demo-policy")]
    assert jobs == [[f"job {index}"] for index in range(count)]  # as an undisturbed run would have it
    left = {path.name for path in (tmp_path / "registry" / "policies").iterdir()}
    assert left == {".lock", *(f"demo-policy@{number}" for number in range(1, count + 1))}
