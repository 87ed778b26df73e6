"""From verdicts to a report: what thresholds waive, how often the data was used, standing vetoes; and a table of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import to_builtins
from rich.table import Table

from gateway.shared.command_line import plain
from training.errors import TrainingError
from training.gates.checks import KNOWN
from training.gates.standing import standing
from training.gates.thresholds import Thresholds
from training.gates.verdicts import GateReport, Verdict
from training.gates.wear import spent
from training.registry.registry import Registry

_MARKS = {"pass": "pass", "fail": "FAIL", "unmeasured": "UNMEASURED"}


class Wear:
    """How often each data set has decided about other versions, and the level that is left. One a report."""

    def __init__(self, registry: Registry, thresholds: Thresholds, ref: str) -> None:
        self._registry, self._thresholds, self._ref = registry, thresholds, ref
        self.data: dict[str, str] = {}
        self.uses: dict[str, int] = {}

    def alpha(self, name: str, digest: str) -> float:
        """Of the checks on this data, which are noted down with the report."""
        self.data[name] = digest
        self.uses[name] = self._registry.uses(digest, but=self._ref)
        return spent(self._thresholds.alpha, self.uses[name]) if self._thresholds.spend else self._thresholds.alpha

    def note(self) -> None:
        for digest in self.data.values():
            self._registry.note_use(digest, self._ref)


def kept_report(
    ref: str,
    verdicts: Sequence[Verdict],
    thresholds: Thresholds,
    wear: Wear,
    registry: Registry,
    facts: Mapping[str, Any] | None = None,
) -> GateReport:
    """Writes it to the registry. Raises TrainingError where the thresholds waive what is no check."""
    waived = set(thresholds.waived)
    if unknown := sorted(waived - KNOWN):
        raise TrainingError(f"waived: there is no check {unknown[0]!r}; there is {', '.join(sorted(KNOWN))}.")
    report = GateReport(
        of=ref,
        verdicts=[one for one in verdicts if one.check not in waived],
        waived=[one for one in verdicts if one.check in waived],
        thresholds=thresholds.model_dump(mode="json"),
        data=wear.data,
        uses=wear.uses,
        vetoed=standing(registry.verdicts(ref)).veto,
        facts=dict(facts or {}),
    )
    # First: a killed run has seen the data all the same.
    wear.note()
    registry.add_verdicts(ref, report)
    return report


def table(report: GateReport) -> Table:
    found = Table(show_edge=False, pad_edge=False, title_justify="left")
    for name in ("gate", "check", "", "why"):
        found.add_column(name, overflow="fold")
    for one in report.verdicts:
        found.add_row(one.gate, one.check, _MARKS[one.outcome], plain(one.reason))
    for one in report.waived:
        found.add_row(one.gate, one.check, "waived", plain(one.reason))
    return found


def conclusion(report: GateReport) -> str:
    """One sentence; then how worn the data is."""
    failed = [one.check for one in report.verdicts if one.outcome == "fail"]
    unknown = [one.check for one in report.verdicts if one.outcome == "unmeasured"]
    lines = []
    if report.vetoed:
        lines.append(f"Vetoed by {plain(report.vetoed)}.")
    if report.passed:
        lines.append(f"{report.of} passed: all {len(report.verdicts)} checks.")
    else:
        parts = [
            *([f"failed: {', '.join(failed)}"] if failed else []),
            *([f"unmeasured: {', '.join(unknown)}"] if unknown else []),
        ]
        lines.append(f"{report.of} did not pass{'; ' + '; '.join(parts) if parts else ''}.")
    lines += [
        f"The data {name} has decided about {count} other {'version' if count == 1 else 'versions'} before."
        for name, count in report.uses.items()
        if count
    ]
    return "\n".join(lines)


def as_dict(report: GateReport) -> dict[str, Any]:
    """For programs: the report, and whether it passed."""
    return {**to_builtins(report), "passed": report.passed}
