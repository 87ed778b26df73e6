"""Which ports are free, and who holds the others."""

import contextlib
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holder:
    """A process that listens on a port; `part` when it is one of Bestow's own."""

    pid: int
    name: str
    part: str | None

    def __str__(self) -> str:
        if self.part:
            return f"Bestow's own {self.part} (process {self.pid}): it is running already"
        return f"{self.name} (process {self.pid})"


@dataclass(frozen=True)
class Need:
    """A port that a part needs, and the key of the configuration that moves it."""

    part: str
    host: str
    port: int
    key: str


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: without it a port stays taken for a minute after its server has gone.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def holder(port: int) -> Holder | None:
    """The process that listens on a port, where /proc tells (of other users' processes it does not)."""
    sockets = _listening_sockets(port)
    if not sockets:
        return None
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(descriptor.readlink()) in sockets for descriptor in (folder / "fd").iterdir()):
                name = (folder / "comm").read_text().strip()
                return Holder(int(folder.name), name, _part_of(folder) or _part_of(_session_leader(folder)))
    return None


def _listening_sockets(port: int) -> set[str]:
    """`socket:[inode]` of each socket that listens on the port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found


def _session_leader(process: Path) -> Path:
    # The part's guardian. Redis writes its title over its environment, so that one is asked too.
    return process.with_name(str(os.getsid(int(process.name))))


def _part_of(process: Path) -> str | None:
    with contextlib.suppress(OSError):
        match = re.search(rb"(?:^|\0)BESTOW_PART=([^\0]*)", (process / "environ").read_bytes())
        return match[1].decode("utf-8", "replace") if match else None
    return None


def conflicts(needs: Iterable[Need]) -> list[str]:
    """One plain sentence for each port that cannot be had: taken already, or wanted by two parts."""
    found = []
    wanted: dict[int, Need] = {}
    for need in needs:
        if need.port in wanted:
            other = wanted[need.port]
            found.append(
                f"Port {need.port} is wanted twice, by {other.key} and by {need.key}. "
                f"Give one of them another number in the configuration file."
            )
            continue
        wanted[need.port] = need
        if not is_free(need.host, need.port):
            found.append(taken(need))
    return found


def taken(need: Need) -> str:
    """The sentence for a port that something holds."""
    by = holder(need.port)
    who = f"by {by}" if by else "by another program"
    if by and by.part:
        how = "Stop that one first (Ctrl-C where it runs)"
    else:
        how = f"Stop that program (`kill {by.pid}`)" if by else "Stop that program"
    option = "`--port NUMBER`" if need.key == "gateway.port" else f"`{need.key}` in the configuration file"
    return f"Port {need.port}, which the {need.part} needs, is taken {who}. {how}, or choose another with {option}."
