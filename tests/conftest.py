"""How the whole run goes: over several processes, the end-to-end tests last, what was measured in its summary."""

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

E2E = Path(__file__).parent / "e2e"
# A property of a test that says something to the reader of the run: (MEASURED + where, the line).
MEASURED = "measured "

# How long an example takes says how busy the machine is.
settings.register_profile("bestow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bestow")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The end-to-end tests last: their stack and the others would wait for each other's processors."""
    items.sort(key=lambda item: E2E in item.path.parents)


def pytest_collection_finish() -> None:
    """Nothing here may stop an event loop for long.

    The garbage collector needs half a second for what was imported, seconds on a busy machine: it is told to leave that
    alone. Of several processes each has one of PyTorch's threads: more would keep processors busy with waiting.
    """
    gc.collect()
    gc.freeze()
    if "PYTEST_XDIST_WORKER" in os.environ and (torch := sys.modules.get("torch")):
        torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Of `-n auto`: most tests wait more than they compute. Files that are named are run here: a debugger works."""
    if all(".py" in argument for argument in config.args):
        return 0
    return min(os.cpu_count() or 2, 7) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadScopeScheduling":
    """Test by test, in the order in which they were collected; the end-to-end ones to one process, with one stack."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415  # only where several processes are asked for

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # It has no types.
        def _split_scope(self, nodeid: str) -> str:
            return "e2e" if nodeid.startswith("tests/e2e/") else nodeid

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests measured, also in other processes, where a reader of the run sees it."""
    sections: dict[str, list[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "teardown":
                for name, line in report.user_properties:
                    if name.startswith(MEASURED):
                        sections.setdefault(name, []).append(str(line))
    for title, lines in sections.items():
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.line(line)
