"""The command line: quick, plain about mistakes, no traceback."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

BESTOW = [sys.executable, "-m", "gateway.cli"]
ROOT = Path(__file__).resolve().parents[3]


def bestow(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*BESTOW, *arguments], capture_output=True, text=True, cwd=cwd, env=env, check=False)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from gateway.cli import app; app(['--help'], standalone_mode=False); "
        "print(sorted({'torch', 'aiohttp', 'redis', 'fastapi', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "command", [[], ["up"], ["doctor"], ["gateway"], ["scorer"], ["config"], ["config", "example"], ["version"]]
)
def test_every_command_explains_itself(command: list[str]) -> None:
    done = bestow(*command, "--help")
    assert done.returncode == 0 and "Usage" in done.stdout


def test_a_wrong_file_is_one_plain_line_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "b.yaml"
    file.write_text("models: {m: {policy: nobody}}\n")
    done = bestow("config", "check", str(file))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"{file}: models.m.policy: no policy 'nobody' (there is none)"]


def test_the_example_is_a_file_that_can_be_used(tmp_path: Path) -> None:
    file = tmp_path / "b.yaml"
    assert bestow("config", "example", "--output", str(file)).returncode == 0
    assert bestow("config", "check", str(file)).stdout == f"{file} is right. Models: bestow-demo.\n"


def test_a_taken_port_is_said_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = bestow("up", "--port", port, "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1
    assert f"Port {port}, which the gateway needs, is taken by" in done.stderr
    assert not (tmp_path / "data").exists()


def test_an_unexpected_error_is_a_sentence_and_a_file(tmp_path: Path) -> None:
    done = bestow("config", "example", "--output", str(tmp_path / "no" / "such" / "folder"), cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
    details = Path(done.stderr.strip().rpartition(" ")[2])
    assert "Traceback" in details.read_text()
    details.unlink()


def test_make_stays_quiet_on_ctrl_c(tmp_path: Path) -> None:
    """The recipe of `make up` in small: make and bestow get the signal together, bestow leaves with 0."""
    recipe = (ROOT / "Makefile").read_text().partition("\nup: ")[2].splitlines()[1]
    assert recipe == "\t@exec $(BIN)/bestow up $(ARGS)"
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin" / "bestow"
    stub.write_text(
        f"#!{sys.executable}\nimport signal, sys\nsignal.signal(2, lambda *_: sys.exit(0))\n"
        "print('up', flush=True)\nsignal.pause()\n"
    )
    stub.chmod(0o755)
    (tmp_path / "Makefile").write_text(f"BIN := bin\nup:\n{recipe}\n")
    make = subprocess.Popen(
        ["make", "up"],
        cwd=tmp_path,
        # Under `make test` this one would be make's child, and say which folder it enters.
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert make.stdout is not None
    assert make.stdout.readline() == "up\n"
    os.killpg(make.pid, signal.SIGINT)
    assert make.communicate(timeout=10)[0] == ""
