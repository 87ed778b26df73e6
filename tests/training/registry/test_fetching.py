"""Local copies of versions that lie elsewhere."""

from pathlib import Path

import pytest

from tests.training.registry.making import adapter, memory_url, policy, registry_at
from training.errors import TrainingError


def test_a_copy_is_made_once(tmp_path: Path) -> None:
    registry = registry_at(memory_url(), tmp_path / "cache")
    version = registry.publish(policy("job"), adapter(tmp_path / "out"))
    copy = registry.local(version.ref)
    assert copy.parent == tmp_path / "cache"
    inode = (copy / "adapter_model.safetensors").stat().st_ino
    assert registry.local(version.ref) == copy
    assert (copy / "adapter_model.safetensors").stat().st_ino == inode


def test_a_copy_that_lost_a_file_is_made_again(tmp_path: Path) -> None:
    registry = registry_at(memory_url(), tmp_path / "cache")
    version = registry.publish(policy("job"), adapter(tmp_path / "out"))
    (registry.local(version.ref) / "adapter_model.safetensors").unlink()
    assert (registry.local(version.ref) / "adapter_model.safetensors").read_bytes() == b"weights"


def test_damage_elsewhere_is_found_when_it_is_fetched(tmp_path: Path) -> None:
    registry = registry_at(memory_url(), tmp_path / "cache")
    version = registry.publish(policy("job"), adapter(tmp_path / "out"))
    registry.storage.write("policies/demo-policy@1/adapter_model.safetensors", b"WEIGHTS")
    with pytest.raises(TrainingError, match=r"adapter_model\.safetensors of policy:demo-policy@1 is damaged"):
        registry.local(version.ref)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_folder_needs_no_copy(tmp_path: Path) -> None:
    registry = registry_at(str(tmp_path / "registry"), tmp_path / "cache")
    version = registry.publish(policy("job"), adapter(tmp_path / "out"))
    assert registry.local(version.ref) == tmp_path / "registry" / "policies" / "demo-policy@1"
    assert not (tmp_path / "cache").exists()
