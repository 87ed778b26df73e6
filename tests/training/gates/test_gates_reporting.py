"""Reports: what is waived, how data wears, vetoes that stand, and what the table says."""

from pathlib import Path

import pytest

from training.errors import TrainingError
from training.gates.checks import KL, WINS
from training.gates.reporting import Wear, as_dict, conclusion, kept_report
from training.gates.standing import lifted, standing, veto
from training.gates.thresholds import Thresholds
from training.gates.verdicts import GateReport, Outcome, Verdict
from training.gates.wear import spent
from training.registry.registry import Registry

REF = "policy:p@2"


def verdict(check: str, outcome: Outcome = "pass") -> Verdict:
    return Verdict(gate="G2 policy", check=check, outcome=outcome, reason="Because.")


def report(registry: Registry, *verdicts: Verdict, ref: str = REF, waived: tuple[str, ...] = ()) -> GateReport:
    thresholds = Thresholds(waived=list(waived))
    wear = Wear(registry, thresholds, ref)
    wear.alpha("prompts", "d1")
    return kept_report(ref, verdicts, thresholds, wear, registry)


def test_all_checks_must_pass(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path))
    assert report(registry, verdict(WINS), verdict(KL)).passed
    assert not report(registry, verdict(WINS), verdict(KL, "fail")).passed
    assert not report(registry, verdict(WINS), verdict(KL, "unmeasured")).passed
    assert not report(registry).passed


def test_a_waived_check_is_shown_and_does_not_decide(tmp_path: Path) -> None:
    found = report(Registry(str(tmp_path)), verdict(WINS), verdict(KL, "fail"), waived=(KL,))
    assert found.passed and [one.check for one in found.waived] == [KL]


def test_a_check_that_is_not_there_cannot_be_waived(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no check 'kl'"):
        report(Registry(str(tmp_path)), verdict(WINS), waived=("kl",))


def test_the_level_shrinks_with_the_versions_that_the_data_has_decided_about(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path))
    for number in range(3):
        ref = f"policy:p@{number + 1}"
        assert Wear(registry, Thresholds(), ref).alpha("prompts", "d1") == pytest.approx(spent(0.05, number))
        report(registry, verdict(WINS), ref=ref)
    # To decide about one of them again is no further use.
    again = Wear(registry, Thresholds(), "policy:p@2")
    assert again.alpha("prompts", "d1") == pytest.approx(spent(0.05, 2))
    assert Wear(registry, Thresholds(spend=False), "policy:p@9").alpha("prompts", "d1") == 0.05
    assert "has decided about 2 other versions" in conclusion(report(registry, verdict(WINS)))


def test_a_veto_stands_until_it_is_lifted(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path), clock=iter(range(100)).__next__)
    report(registry, verdict(WINS))
    assert standing(registry.verdicts(REF)).passed
    registry.add_verdicts(REF, veto(REF, "ann", "too sweet", 1.0))
    assert not standing(registry.verdicts(REF)).passed
    later = report(registry, verdict(WINS), verdict(KL))
    assert not later.passed and later.vetoed == "ann: too sweet"
    assert "Vetoed by ann: too sweet." in conclusion(later)
    registry.add_verdicts(REF, lifted(REF, "bob", "was wrong", 2.0))
    assert not standing(registry.verdicts(REF)).veto
    assert report(registry, verdict(WINS), verdict(KL), verdict("x")).passed


def test_programs_are_told_whether_it_passed(tmp_path: Path) -> None:
    assert as_dict(report(Registry(str(tmp_path)), verdict(WINS, "fail")))["passed"] is False
