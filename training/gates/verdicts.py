"""What a gate says of a version: one verdict a check, with its number, interval and reason.

A check that could not be measured fails: `unmeasured` never passes.
"""

from typing import Any, Literal

import msgspec

Gate = Literal["G0 data", "G1 reward model", "G2 policy"]
Outcome = Literal["pass", "fail", "unmeasured"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One check. value, low, high: with its interval at the level `alpha`. limit: what it was held against.

    n: units (prompts, users, rows). resolves: the smallest margin that so much data shows four times in five; needed:
    units that it takes to resolve the margin asked for. reason: a sentence with the numbers in it.
    """

    gate: Gate
    check: str
    outcome: Outcome
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    n: int = 0
    resolves: float | None = None
    needed: int | None = None
    alpha: float | None = None
    facts: dict[str, Any] = {}


class GateReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All verdicts about one version. of: its ref. thresholds: the file that was gone by, whole. data: by name, the
    digest of each data set that decided; uses: how many versions each has decided about before this one.
    vetoed: by whom and why, where a person said no. waived: checks that the thresholds let not decide.
    """

    of: str
    verdicts: list[Verdict]
    thresholds: dict[str, Any] = {}
    data: dict[str, str] = {}
    uses: dict[str, int] = {}
    vetoed: str = ""
    waived: list[Verdict] = []
    facts: dict[str, Any] = {}

    @property
    def passed(self) -> bool:
        return bool(self.verdicts) and not self.vetoed and all(one.outcome == "pass" for one in self.verdicts)
