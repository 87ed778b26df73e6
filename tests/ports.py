"""Ports for servers of tests that cannot choose one themselves, or that must come back at the one they had.

They are below those that connections and servers get by themselves (from 32,768): else any of them could take one
between choosing and using it. Of the processes of a run (pytest-xdist's) each has ports of its own.
"""

import itertools
import os
import random
import socket

_FIRST, _END, _PROCESSES = 10_000, 22_768, 16
_number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_own = range(_FIRST + _number % _PROCESSES, _END, _PROCESSES)
# From anywhere: another run on this machine should meet others.
_next = itertools.islice(itertools.cycle(_own), random.SystemRandom().randrange(len(_own)), None)


def free_port() -> int:
    """Of this machine's own address, and so that the port of a Redis cluster's bus (10,000 up) is free too."""
    return next(port for port in _next if _free(port) and _free(port + 10_000))


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
