"""What stands of a version: its last report, and whether a person has said no. Pure.

A veto stops a version whatever the checks say, until it is lifted; both are reports of their own, so nothing is
overwritten and it is known who did it and why (`bestow train veto`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from training.gates.verdicts import GateReport

VETO = "veto"
_SET, _LIFTED = "set", "lifted"


@dataclass(frozen=True, slots=True)
class Standing:
    """report: the last one with verdicts. veto: why it is stopped; empty: it is not."""

    report: GateReport | None
    veto: str

    @property
    def passed(self) -> bool:
        return self.report is not None and self.report.passed and not self.veto


def standing(reports: Sequence[GateReport]) -> Standing:
    """reports: the oldest first, as the registry has them."""
    last, veto = None, ""
    for one in reports:
        if one.facts.get(VETO) == _LIFTED:
            veto = ""
        elif one.facts.get(VETO) == _SET:
            veto = one.vetoed
        if one.verdicts:
            last = one
    return Standing(last, veto)


def veto(ref: str, by: str, reason: str, at: float) -> GateReport:
    return GateReport(of=ref, verdicts=[], vetoed=f"{by}: {reason}", facts={VETO: _SET, "at": at})


def lifted(ref: str, by: str, reason: str, at: float) -> GateReport:
    return GateReport(of=ref, verdicts=[], facts={VETO: _LIFTED, "by": by, "reason": reason, "at": at})
