"""`bestow train reward` from a snapshot to a version with a card, in real processes."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.training.reward.small_world import pairs, share_right, thumbs
from tests.training.snapshots import write_snapshot
from training.commands import train_app
from training.data.rows import Preference, Unpaired
from training.errors import TrainingError
from training.reward.versions import read_card, read_members


def ran(*arguments: str) -> str:
    result = CliRunner().invoke(train_app, ["reward", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def world(folder: Path, name: str = "snapshot") -> str:
    rows: list[Preference | Unpaired] = [
        *pairs(48),
        *thumbs(48),
        *pairs(12, "calibration", 1),
        *thumbs(12, "calibration", 1),
    ]
    snapshot = write_snapshot(folder / name, [*rows, *pairs(16, "test", 2), *thumbs(16, "test", 2)])
    return snapshot.url


def test_a_snapshot_becomes_a_version_with_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    url = world(tmp_path)
    arguments = [url, "--seeds", "2", "--set", "batch=8", "--set", "rate=0.002"]
    said = ran(*arguments)
    version = tmp_path / ".bestow/training/reward-models/reward@1"
    assert f"bestow scorers add reward-1 --model {version}" in said.replace("\n", "")
    card, members = read_card(version), read_members(version)
    assert card.report is not None
    assert card.data["pairs"] == 48
    assert card.spread is not None and card.spread.pairs == 12
    assert sorted(one.seed for one in members.members) == [0, 1]
    assert len({one.weights for one in members.members}) == 2
    assert share_right(version, pairs(40, "test", seed=3)) >= 0.9
    assert list((tmp_path / ".bestow/training/jobs").iterdir()) == []
    # Said again it finds what it made, and makes nothing.
    assert "reward@1" in ran(*arguments)
    assert [path.name for path in version.parent.iterdir()] == ["reward@1"]


def test_what_is_missing_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = world(tmp_path)
    with pytest.raises(TrainingError, match="bestow train snapshot"):
        ran("nothing")
    with pytest.raises(TrainingError, match="--split"):
        ran(url, "--split", "holdout")
    with pytest.raises(TrainingError, match="no pairs and no thumbs"):
        ran(url, "--set", "sources=[curated]")
    with pytest.raises(TrainingError, match="The settings are method, epochs"):
        ran(url, "--set", "epoch=2")
    with pytest.raises(TrainingError, match="--base"):
        ran(url, "--base", "./nowhere")
