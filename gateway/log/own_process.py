"""Work of the log that a gateway has done in a process of its own: `python -m <module>`.

Standard input: a line of JSON, what it is to do, and then nothing until the starter is gone; the process ends with it.
Standard output: a line of JSON, what it did. A failure is one sentence on standard error and exit code 1.
"""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from redis.exceptions import RedisError

from gateway.errors import BestowError

# Requests go first.
_NICENESS = 10

T = TypeVar("T", bound=msgspec.Struct)


class ProcessFailed(Exception):
    """Its text says why."""


async def have_done(module: str, order: msgspec.Struct, timeout_s: float) -> bytes:
    """Have it done; what it wrote. Raises ProcessFailed, OSError, TimeoutError."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdin is not None
    try:
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        async with asyncio.timeout(timeout_s):
            out, said = await _outcome(process)
    finally:
        # Whatever ended this, the process ends too; what it had half done is done again.
        with suppress(ProcessLookupError):
            process.kill()
        process.stdin.close()
        await process.wait()
    if process.returncode != 0:
        raise ProcessFailed(_last_line(said) or f"exit code {process.returncode}")
    return out


def do(kind: type[T], work: Callable[[T], Coroutine[Any, Any, Any]]) -> int:
    """The process's side: do what it is told, and say what was done. Returns its exit code."""
    os.nice(_NICENESS)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=kind)
    threading.Thread(target=_end_with_starter, daemon=True).start()
    try:
        report = asyncio.run(work(order))
    except (BestowError, RedisError, OSError) as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(msgspec.json.encode(report).decode())
    return 0


async def _outcome(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    """What it wrote, when it has ended. Its input stays open: it ends when that is closed."""
    assert process.stdout is not None
    assert process.stderr is not None
    out, said = await asyncio.gather(process.stdout.read(), process.stderr.read())
    await process.wait()
    return out, said


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1][:500] if lines else ""


def _end_with_starter() -> None:
    # Not through sys.stdin, which the interpreter could then not close at its end.
    while os.read(0, 4096):
        pass
    os._exit(1)  # At any moment: what is half done is done again.
