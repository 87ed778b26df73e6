"""The commands: a snapshot's gate from the command line, vetoes, and what is wrong with what was typed."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from gateway.errors import BestowError
from tests.training.gates.test_gates_snapshots import rows
from tests.training.snapshots import write_snapshot
from training.commands import train_app
from training.gates.checks import BANNED, PERSONAL, PHRASES
from training.registry.layout import Version
from training.registry.registry import Registry

REF = "policy:demo-policy@2"


def bestow(*words: str) -> Result:
    return CliRunner().invoke(train_app, list(words))


def published(folder: Path) -> Registry:
    (folder / "w").mkdir()
    (folder / "w" / "model.safetensors").write_bytes(b"1")
    (folder / "w" / "config.json").write_text("{}")
    registry = Registry(str(folder / "registry"))
    registry.publish(Version(kind="policy", name="demo-policy", number=0), folder / "w", above=1)
    return registry


def test_a_snapshot_is_gated_and_the_report_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snapshot = write_snapshot(tmp_path / "snapshot", rows())
    registry = str(tmp_path / "registry")
    found = bestow("gate", "data", str(tmp_path / "snapshot"), "--registry", registry)
    assert found.exit_code == 1
    assert "unmeasured: banned people, pushed phrases" in found.stdout
    own = tmp_path / "thresholds.yaml"
    own.write_text(yaml.safe_dump({"waived": [BANNED, PHRASES, PERSONAL]}))
    words = ("gate", "data", str(tmp_path / "snapshot"), "--registry", registry, "--thresholds", str(own), "--json")
    waived = bestow(*words)
    assert waived.exit_code == 0, waived.output
    said = json.loads(waived.stdout)
    assert said["passed"] is True and len(said["waived"]) == 3
    assert len(Registry(registry).verdicts(f"snapshot:{snapshot.manifest.id}")) == 2


def test_a_veto_is_kept_and_lifted(tmp_path: Path) -> None:
    registry = published(tmp_path)
    words = ("veto", REF, "--registry", registry.url, "--reason", "too sweet")
    assert "is vetoed" in bestow(*words).stdout
    assert registry.verdicts(REF)[0].vetoed.endswith("too sweet")
    assert "is lifted" in bestow(*words, "--lift").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gate", "policy", REF, "--holdout", "x"), "neither .bestow/run.yaml nor bestow.yaml"),
        (("gate", "reward", "nothing@1"), "There is no reward model nothing@1"),
        (("gate", "data", "nothing"), "is no snapshot"),
        (("veto", "nothing", "--reason", "x"), "names no version"),
        (("veto", "policy:p@9", "--reason", "x"), "There is no policy:p@9"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    error = bestow(*words).exception
    assert isinstance(error, BestowError) and said in str(error)
