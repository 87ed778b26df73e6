"""`bestow calibrate`: a first word that is no command is a model."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.calibrate.commands import calibrate_app

RUNNER = CliRunner()


@pytest.mark.parametrize("words", [["bestow-demo"], ["model", "bestow-demo"], ["model", "reward"]])
def test_a_model_is_measured_with_or_without_its_command(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to where it looks for a configuration, which is not there."""
    monkeypatch.chdir(tmp_path)
    found = RUNNER.invoke(calibrate_app, [*words, "--answers", "4"])
    assert found.exit_code == 1 and "There is neither .bestow/run.yaml nor bestow.yaml here" in found.output


def test_the_other_commands_are_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = RUNNER.invoke(calibrate_app, ["safety", "x", "--labelled", "y"])
    assert found.exit_code == 1 and "either --false-alarms or --recall" in found.output
    assert "calibrate bestow-demo" in RUNNER.invoke(calibrate_app, []).output.replace("\n", " ")
