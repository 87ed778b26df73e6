"""Versions, verdicts, uses and releases, in a folder and where there are only objects."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import msgspec
import pytest

from tests.training.registry.making import adapter, memory_url, model, policy, registry_at, report, reward
from training.errors import TrainingError
from training.registry.layout import Release, Version
from training.registry.publishing import identity
from training.registry.registry import Registry


@pytest.fixture(params=["folder", "memory"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    url = str(tmp_path / "registry") if request.param == "folder" else memory_url()
    yield registry_at(url, tmp_path / "cache")
    fsspec.filesystem("memory").store.clear()


def names(registry: Registry) -> set[str]:
    return {name for name, _ in registry.storage.list("")}


def test_a_folder_becomes_a_version_with_all_its_files(registry: Registry, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    (folder / "curves").mkdir()
    (folder / "curves" / "kl.json").write_text("[]")
    (folder / ".hidden").write_text("")
    version = registry.publish(policy("job"), folder, above=1)
    assert version.label == "demo-policy@2"  # @1 is what the configuration has
    assert set(version.files) == {"adapter_config.json", "adapter_model.safetensors", "curves/kl.json"}
    assert registry.versions("policy") == [version] == [registry.open("policy:demo-policy@2")]
    assert registry.versions("reward_model") == []
    local = registry.local(version.ref)
    assert (local / "curves" / "kl.json").read_text() == "[]"
    assert (local / "adapter_model.safetensors").read_bytes() == b"weights"


def test_the_same_jobs_and_weights_are_the_same_version(registry: Registry, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "out")
    first = registry.publish(policy("job"), folder)
    before = names(registry)
    again = registry.publish(policy("job", facts={"seconds": 9}), folder)
    assert again == first
    assert names(registry) == before
    assert registry.made_by("policy", "demo-policy", ["job"]) == first
    assert registry.made_by("policy", "demo-policy", ["other"]) is None
    assert registry.publish(policy("other"), folder).number == 2
    assert registry.publish(policy("job"), adapter(tmp_path / "anew", b"other weights")).number == 3


def test_numbers_are_by_name_and_kind(registry: Registry, tmp_path: Path) -> None:
    assert registry.publish(policy("a"), adapter(tmp_path / "a")).label == "demo-policy@1"
    assert registry.publish(policy("b", name="other"), adapter(tmp_path / "a")).label == "other@1"
    assert registry.publish(reward("c"), model(tmp_path / "r")).ref == "reward_model:reward@1"
    assert registry.publish(policy("d"), adapter(tmp_path / "d"), above=6).number == 7
    assert [one.number for one in registry.versions("policy", "demo-policy")] == [1, 7]


def test_two_publishers_at_once_get_different_numbers(registry: Registry, tmp_path: Path) -> None:
    """Of the same they get the same."""
    folders = [adapter(tmp_path / str(index), str(index).encode()) for index in range(6)]
    barrier = threading.Barrier(12)

    def publish(index: int) -> Version:
        barrier.wait()
        return registry.publish(policy(f"job {index}"), folders[index])

    with ThreadPoolExecutor(12) as pool:
        made = list(pool.map(publish, [*range(6), *range(6)]))
    assert sorted(one.number for one in made[:6]) == [1, 2, 3, 4, 5, 6]
    assert made[:6] == made[6:]
    for one in made:
        registry.verify(one.ref)


def test_damage_is_named(registry: Registry, tmp_path: Path) -> None:
    version = registry.publish(policy("job"), adapter(tmp_path / "out"))
    place = "policies/demo-policy@1"
    registry.storage.write(f"{place}/adapter_model.safetensors", b"WEIGHTS")  # as long as it was
    registry.storage.delete(f"{place}/adapter_config.json")
    registry.storage.write(f"{place}/more.bin", b"?")
    assert [str(one) for one in registry.faults(version.ref)] == [
        "adapter_config.json is missing",
        "adapter_model.safetensors is damaged",
        "more.bin does not belong to it",
    ]
    with pytest.raises(TrainingError, match=r"adapter_config\.json is missing \(and 2 more\)"):
        registry.verify(version.ref)


def test_what_is_no_version_is_not_published(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"has no adapter_config\.json"):
        registry.publish(policy("job"), model(tmp_path / "whole"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="no files"):
        registry.publish(policy("job"), tmp_path / "empty")
    with pytest.raises(TrainingError, match="no name for a version"):
        registry.publish(policy("job", name="../up"), adapter(tmp_path / "a"))
    assert registry.versions("policy") == []


@pytest.mark.parametrize("ref", ["demo-policy@1", "policy:demo-policy", "policy:../x@1", "policy:x@0", "release:1"])
def test_what_names_no_version_is_said(registry: Registry, ref: str) -> None:
    with pytest.raises(TrainingError, match="names no version"):
        registry.open(ref)


def test_what_is_not_there_is_said(registry: Registry) -> None:
    with pytest.raises(TrainingError, match="There is no policy:demo-policy@1"):
        registry.open("policy:demo-policy@1")
    with pytest.raises(TrainingError, match="There is no release 3"):
        registry.open_release(3)


def test_verdicts_are_kept_once_in_their_order(registry: Registry) -> None:
    ref = "policy:demo-policy@1"
    stopped, passed = report(ref, "G2 policy", "fail"), report(ref, "G2 policy")
    digest = registry.add_verdicts(ref, stopped)
    registry.add_verdicts(ref, passed)
    assert registry.add_verdicts(ref, stopped) == digest
    assert [one.passed for one in registry.verdicts(ref)] == [False, True]
    assert registry.named_verdicts(ref)[0][0] == digest
    assert registry.verdicts("policy:demo-policy@2") == []


def test_uses_count_other_versions(registry: Registry) -> None:
    for ref in ("policy:p@2", "policy:p@2", "policy:p@3"):
        registry.note_use("prompts/1", ref)
    assert registry.uses("prompts/1") == 2
    assert registry.uses("prompts/1", but="policy:p@3") == 1
    assert registry.uses("prompts/2") == 0
    assert registry.data_of("policy:p@3") == ["prompts/1"]


def test_a_release_is_numbered_once_and_holds_digests(registry: Registry, tmp_path: Path) -> None:
    version = registry.publish(policy("job"), adapter(tmp_path / "out"))
    wanted = Release(number=0, model="bestow-demo", policy=version.ref)
    made = registry.release(wanted)
    assert (made.number, made.digests) == (1, {version.ref: registry.digest(version.ref)})
    assert registry.release(wanted) == made
    assert registry.release(msgspec.structs.replace(wanted, calibration={"n": 4})).number == 2
    assert [one.number for one in registry.releases()] == [1, 2]
    with pytest.raises(TrainingError, match="There is no policy:other@1"):
        registry.release(msgspec.structs.replace(wanted, policy="policy:other@1"))


def test_marks_are_kept(registry: Registry) -> None:
    registry.mark_erased("policy:p@2", "s1", ["order"])
    registry.mark_erased("policy:p@2", "s1", ["order"])
    registry.mark_erased("policy:p@2", "s2", ["order"])
    assert registry.erased() == {"policy:p@2"}


def test_another_layout_is_not_read(registry: Registry, tmp_path: Path) -> None:
    version = registry.publish(policy("job"), adapter(tmp_path / "out"))
    newer = msgspec.json.encode(msgspec.structs.replace(version, layout=9))
    registry.storage.write("policies/demo-policy@1/version.json", newer)
    with pytest.raises(TrainingError, match="has layout 9; this Bestow reads layout 1"):
        registry.open(version.ref)


def test_identity_is_of_jobs_and_weights_alone(tmp_path: Path) -> None:
    registry = registry_at(str(tmp_path / "registry"), tmp_path)
    one = registry.publish(policy("job"), adapter(tmp_path / "out"))
    assert identity(one) == identity(msgspec.structs.replace(one, number=9, facts={}, settings={"beta": 1}))
    assert identity(one) != identity(msgspec.structs.replace(one, name="other"))
