"""Small real processes that stand for the parts: an HTTP server that can be slow, fail, fork, or refuse to end."""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gateway.launch.parts import Part
from gateway.launch.probe import HttpReady
from tests.ports import free_port

# Arguments: port, folder for notes, name, then any of: fork, stubborn, fail-start, new-session.
SERVER = """
import http.server, os, pathlib, signal, subprocess, sys, time
port, notes, name, modes = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
print("stub starts", flush=True)
if "fail-start" in modes:
    raise ValueError("the weights of this stub are broken")
if "fork" in modes or "new-session" in modes:
    sleeper = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    child = subprocess.Popen([sys.executable, "-S", "-c", sleeper], start_new_session="new-session" in modes)
    (notes / f"{name}.forked").write_text(str(child.pid))
def ended(*_):
    if "stubborn" in modes:
        return
    with (notes / "order").open("a") as file:
        file.write(name + "\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, ended)
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
        if self.path == "/die":
            print("RuntimeError: asked to die", flush=True)
            os._exit(3)
    def log_message(self, *_): pass
(notes / f"{name}.pid").write_text(str(os.getpid()))
http.server.ThreadingHTTPServer(("127.0.0.1", port), Page).serve_forever()
"""


def command(port: int, notes: Path, name: str, *modes: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", SERVER, str(port), str(notes), name, *modes)


def stub_part(
    notes: Path,
    name: str,
    *modes: str,
    stop_order: int = 1,
    after: tuple[str, ...] = (),
    grace_s: float = 5.0,
    limit_s: float = 20.0,
) -> Part:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    return Part(
        name=name,
        title=f"stub {name}",
        command=command(port, notes, name, *modes),
        ready=HttpReady(f"{address}/"),
        address=address,
        expected_s=1,
        limit_s=limit_s,
        env={},
        grace_s=grace_s,
        stop_order=stop_order,
        after=after,
    )


def alive(pid: int) -> bool:
    """Running, not merely waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition: Callable[[], object], limit_s: float = 15.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def pid_in(file: Path) -> int:
    wait_for(lambda: file.exists() and file.read_text())
    return int(file.read_text())


def kill_quietly(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 9)
