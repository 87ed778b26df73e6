"""A stage's command as a process of its own: its JSON is taken, what it says besides is shown and kept.

It runs under the guardian that `bestow up` uses, so that nothing goes on working where this process was killed.
"""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gateway.launch.process import GUARDIAN

_GRACE_S = 15.0
_LAST_BYTES = 4096
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Answer:
    """code: of its exit. said: the JSON object that it printed; None: none. words: the last of what it said besides."""

    code: int
    said: dict[str, Any] | None
    words: str


def run_bestow(arguments: Sequence[str], log: Path) -> Answer:
    """`bestow ARGUMENTS`, here and now. On a terminal its progress is seen as if it were given by hand."""
    read_end, lifeline = os.pipe()
    shown, theirs = pty.openpty() if sys.stderr.isatty() else os.pipe()
    try:
        process = subprocess.Popen(
            [
                sys.executable,
                *("-I", "-S", str(GUARDIAN), str(read_end), str(_GRACE_S)),
                *(sys.executable, "-m", "gateway.cli", *arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            pass_fds=(read_end,),
            start_new_session=True,
        )
    finally:
        os.close(read_end)
        os.close(theirs)
    last = bytearray()
    with log.open("ab") as kept:
        teller = threading.Thread(target=_tell, args=(shown, kept, last), daemon=True)
        teller.start()
        try:
            printed, _ = process.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            process.wait()
            raise
        finally:
            os.close(lifeline)
            teller.join()
            os.close(shown)
        kept.write(printed)
    return Answer(process.returncode, _object(printed), _words(bytes(last)))


def _tell(source: int, kept: BinaryIO, last: bytearray) -> None:
    while True:
        try:
            data = os.read(source, 65_536)
        except OSError:  # how a terminal says that nobody writes to it any more
            return
        if not data:
            return
        kept.write(data)
        kept.flush()
        last += data
        del last[:-_LAST_BYTES]
        with contextlib.suppress(OSError):
            os.write(2, data)


def _object(printed: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(printed)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _words(data: bytes) -> str:
    text = _CODES.sub("", data.decode("utf-8", "replace"))
    lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    return lines[-1] if lines else ""
