"""What a person reads: the telling line of a log, the progress, the install script's tidying."""

import io
import runpy
from pathlib import Path

import pytest
from rich.console import Console

from gateway.launch.process import Ended
from gateway.launch.progress import HEARTBEAT_S, Progress
from gateway.launch.reason import telling_line, without_frames

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ([], "it wrote nothing"),
        (["one", "two"], "two"),
        (["ValueError: no such model", "Traceback ends", "bye"], "ValueError: no such model"),
        (
            [
                "(EngineCore pid=9) ERROR 11-21 04:08:12 [core.py:1] OSError: weights are missing",
                "(APIServer pid=8) RuntimeError: Engine core initialization failed. See root cause above.",
            ],
            "OSError: weights are missing",
        ),
        (
            ["x.ValidationError: 1 validation error for VllmConfig", "  Value error, bad header", "  see docs"],
            "x.ValidationError: 1 validation error for VllmConfig: Value error, bad header",
        ),
        (["# Fatal error, can't open config file", "other"], "# Fatal error, can't open config file"),
    ],
)
def test_the_line_that_says_why(lines: list[str], line: str) -> None:
    assert telling_line(lines) == line


def test_the_excerpt_of_a_log_leaves_out_the_frames_of_tracebacks() -> None:
    prefix = "(Worker pid=3) ERROR 11-21 04:08:12 [core.py:1] "
    lines = [
        "loading",
        prefix + "Traceback (most recent call last):",
        prefix + '  File "/a/b.py", line 3, in load',
        prefix + "    return open(path)",
        prefix + "           ^^^^^^^^^^",
        prefix + "OSError: weights are missing",
        "bye",
    ]
    assert without_frames(lines) == ["loading", prefix + "OSError: weights are missing", "bye"]


def test_an_exit_is_put_in_words() -> None:
    assert str(Ended(2)) == "ended with exit code 2"
    assert str(Ended(143)) == "was ended by SIGTERM"
    assert "memory" in str(Ended(137))


def test_progress_is_plain_lines_where_there_is_no_terminal() -> None:
    now = [0.0]
    said = io.StringIO()
    with Progress(Console(file=said), clock=lambda: now[0]) as progress:
        progress.show("w", "policy worker (vLLM)", "loading the weights", "usually 45 s on 2 cores")
        progress.show("w", "policy worker (vLLM)", "loading the weights", "usually 45 s on 2 cores")
        now[0] = HEARTBEAT_S + 1
        progress.heartbeat()
        progress.ready("w")
    assert said.getvalue().splitlines() == [
        "[   0 s] policy worker (vLLM): loading the weights … usually 45 s on 2 cores",
        "[  16 s] policy worker (vLLM): loading the weights … usually 45 s on 2 cores (for 16 s now)",
        "[  16 s] policy worker (vLLM): ready after 16 s",
    ]


def test_progress_on_a_terminal_leaves_the_lines_that_stay() -> None:
    said = io.StringIO()
    with Progress(Console(file=said, force_terminal=True, width=120)) as progress:
        progress.show("w", "worker", "loading", "")
        progress.ready("w")
    assert "worker: ready after 0 s" in said.getvalue()


def test_the_lock_fits_every_index_and_machine() -> None:
    tidied = runpy.run_path(str(ROOT / "requirements" / "install.py"))["tidied"]
    text = tidied("torch==2.13.0+cpu\n    # via x\nintel-openmp==2024.2.1\n", "cpu")
    assert text.splitlines()[1:] == [
        "torch==2.13.0",
        "    # via x",
        "intel-openmp==2024.2.1 ; platform_machine == 'x86_64'",
    ]
    lock = (ROOT / "requirements" / "cpu.txt").read_text()
    assert "nvidia" not in lock and "+cpu" not in lock
