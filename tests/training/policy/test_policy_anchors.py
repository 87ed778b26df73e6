"""The anchor: the configuration's own weights until somebody decides otherwise, with every decision kept."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config import Config, parse
from gateway.shared.note import Note
from training.errors import TrainingError
from training.policy.anchors import FILE, anchor_folder, anchor_of, read_anchors, set_anchor
from training.registry.layout import Version
from training.registry.registry import Registry

WHY = Note("cli:somebody", 1000.0, "we read it")


def settings(folder: Path, version: int = 1) -> Config:
    own = folder / "own"
    own.mkdir(exist_ok=True)
    (own / "config.json").write_text("{}")
    worker = {"model": str(own), "version": version, "workers": [{"url": "http://127.0.0.1:1"}]}
    return parse(
        {
            "data_dir": str(folder),
            "policies": {"p": worker},
            "profiles": {"default": {"reward": None, "safety": None}},
            "models": {"m": {"policy": "p", "profile": "default"}},
        }
    )


def registry(folder: Path, versions: int) -> Registry:
    made = Registry(str(folder / "registry"))
    for number in range(versions):
        publish(made, folder, number)
    return made


def publish(made: Registry, folder: Path, number: int) -> None:
    weights = folder / f"weights-{number}"
    weights.mkdir()
    (weights / "adapter_model.safetensors").write_bytes(bytes([number]))
    (weights / "adapter_config.json").write_text("{}")
    jobs = {"jobs": [f"job-{number}"]}
    made.publish(Version(kind="policy", name="p", number=0, adapter=True, measures=jobs), weights, above=1)


def test_it_is_the_configurations_own_weights_until_somebody_decides(tmp_path: Path) -> None:
    config, versions = settings(tmp_path), registry(tmp_path, 1)
    assert anchor_of(tmp_path, config, "p").version == "p@1" and anchor_of(tmp_path, config, "p").note is None
    assert anchor_folder(tmp_path, config, "p", versions) == tmp_path / "own"
    assert not (tmp_path / FILE).exists()


def test_each_decision_is_kept_with_who_and_why(tmp_path: Path) -> None:
    config, versions = settings(tmp_path), registry(tmp_path, 2)
    set_anchor(tmp_path, config, "p@2", WHY, versions)
    set_anchor(tmp_path, config, "p@3", Note("cli:other", 2000.0, "read again"), versions)
    assert [one.version for one in read_anchors(tmp_path).policies["p"]] == ["p@2", "p@3"]
    assert read_anchors(tmp_path).policies["p"][0].note == WHY
    assert anchor_of(tmp_path, config, "p").version == "p@3"
    folder = anchor_folder(tmp_path, config, "p", versions)
    assert (folder / "adapter_model.safetensors").read_bytes() == bytes([1])
    set_anchor(tmp_path, config, "p@1", Note("cli:other", 3000.0, "too far"), versions)
    assert anchor_folder(tmp_path, config, "p", versions) == tmp_path / "own"


def test_new_versions_do_not_move_it(tmp_path: Path) -> None:
    config, versions = settings(tmp_path), registry(tmp_path, 2)
    set_anchor(tmp_path, config, "p@2", WHY, versions)
    publish(versions, tmp_path, 2)
    assert [one.label for one in versions.versions("policy")] == ["p@2", "p@3", "p@4"]
    assert anchor_of(tmp_path, config, "p").version == "p@2"


@pytest.mark.parametrize(
    ("version", "note", "says"),
    [
        ("p@9", WHY, r"no version p@9 .* there is p@1, p@2"),
        ("p", WHY, "names no version"),
        ("q@1", WHY, "no policy 'q'"),
        ("p@2", Note("cli:x", 1.0, " "), "--reason"),
    ],
)
def test_what_cannot_be_an_anchor_is_told(tmp_path: Path, version: str, note: Note, says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        set_anchor(tmp_path, settings(tmp_path), version, note, registry(tmp_path, 1))
    assert not (tmp_path / FILE).exists()


def test_a_damaged_file_is_no_fresh_start(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(TrainingError, match="cannot be read"):
        anchor_of(tmp_path, settings(tmp_path), "p")


def test_the_command_sets_and_shows(tmp_path: Path) -> None:
    versions = registry(tmp_path, 1)
    settings(tmp_path)
    file = tmp_path / "bestow.yaml"
    file.write_text(
        f"data_dir: {tmp_path}\npolicies: {{p: {{model: {tmp_path}/own, workers: [{{url: 'http://127.0.0.1:1'}}]}}}}\n"
        "profiles: {default: {reward: null, safety: null}}\nmodels: {m: {policy: p, profile: default}}\n"
    )
    run = CliRunner().invoke
    made = run(
        app,
        ["train", "anchor", "set", "p@2", "--reason", "we read it", "--registry", versions.url, "--config", str(file)],
    )
    assert made.exit_code == 0 and "p@2" in made.stdout
    shown = run(app, ["train", "anchor", "show", "--config", str(file)])
    assert "p@2" in shown.stdout and "we read it" in shown.stdout and "cli:" in shown.stdout
