"""The gateway as a process: what it imports, how fast it starts, what it says when it cannot."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_the_gateway_imports_no_model_library() -> None:
    code = (
        "import sys, gateway.__main__; print(sorted({'torch','transformers','vllm','trl','numpy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("yaml", "reason"),
    [
        ("models: {}", "models: there is none"),
        ("gateway: {host: 0.0.0.0}", "which other machines can reach"),
        ("gateway: {port: 0}", "gateway.port"),
        ("gateway: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_one_plain_sentence_and_no_traceback(tmp_path: Path, yaml: str, reason: str) -> None:
    path = tmp_path / "bestow.yaml"
    path.write_text(yaml)
    command = [sys.executable, "-m", "gateway", "--config", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 1
    assert reason in run.stderr
    assert "Traceback" not in run.stderr
