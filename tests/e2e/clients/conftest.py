"""Clients that are no Python packages of ours: `requirements/install.py --clients` has them in `.venv/clients`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import PROJECT, Stack

HERE = Path(__file__).parent
CLIENTS = PROJECT / ".venv/clients/bin"
Script = Callable[..., Any]


@pytest.fixture(scope="session")
def clients() -> Path:
    """The folder with their `node` and `python`; made at the first run, which takes a minute and the registries."""
    subprocess.run([sys.executable, "requirements/install.py", "--clients"], cwd=PROJECT, check=True, timeout=900)
    return CLIENTS


@pytest.fixture
def node(clients: Path, stack: Stack) -> Script:
    """Runs a script of `node/` with these arguments (one JSON object) and returns what it printed, also JSON."""
    return lambda name, **asked: _run([str(clients / "node"), str(HERE / "node" / f"{name}.mjs")], stack, asked)


@pytest.fixture
def outside(clients: Path, stack: Stack) -> Script:
    """The same for a script of `outside/`, in Python."""
    return lambda name, **asked: _run([str(clients / "python"), str(HERE / "outside" / f"{name}.py")], stack, asked)


def _run(command: list[str], stack: Stack, asked: dict[str, Any]) -> Any:
    # As an application's own environment: the clients read their address and key from there.
    env = {
        **os.environ,
        "OPENAI_BASE_URL": f"{stack.url}/v1",
        "OPENAI_API_KEY": "none needed",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    done = subprocess.run([*command, json.dumps(asked)], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)
