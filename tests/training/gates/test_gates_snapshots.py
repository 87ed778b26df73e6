"""G0 on snapshots on disk: who has how much to say, whose rows they are, who is banned, what is personal."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.feedback.trust.decisions import Decision
from gateway.feedback.trust.reasons import Reason
from gateway.log.privacy.redactor import Redactor
from tests.training.snapshots import pair, thumb, write_snapshot
from training.data.layout import Snapshot
from training.data.rows import Dataset, Row, Side, Unpaired
from training.defence.defend import defend
from training.defence.settings import DefenceSettings
from training.defence.votes import VoteOnAnswer
from training.gates.checks import BANNED, PERSONAL, PHRASES, SCOPE, SHARE, WEIGHT
from training.gates.commands import suspects_of
from training.gates.gate import gate_data
from training.gates.snapshots import poisoning, texts, votes, weights_of
from training.gates.thresholds import DataThresholds, Thresholds
from training.gates.verdicts import GateReport, Verdict
from training.registry.registry import Registry

KINDS = ("email", "phone")


def rows(people: int = 300, each: int = 2, **known: Any) -> list[Row]:
    return [_thumb(who, n, who * each + n, **known) for who in range(people) for n in range(each)]


def _thumb(who: int, n: int, index: int, **known: Any) -> Row:
    return thumb(index, f"Question {who}?", f"Answer {n}.", n % 2 == 0, user=f"u{who}", people=[f"u{who}"], **known)


def gated(folder: Path, of: list[Row], suspects: set[str] | None = None, scope: str = "tenant:default") -> GateReport:
    snapshot: Snapshot = write_snapshot(folder / "snapshot", of, scope)
    registry = Registry(str(folder / "registry"))
    return gate_data(snapshot, Thresholds(), registry, redactor=Redactor(KINDS), suspects=suspects)


def by_check(report: GateReport) -> dict[str, Verdict]:
    return {one.check: one for one in report.verdicts}


def test_a_clean_snapshot_passes_all_but_what_needs_a_reference(tmp_path: Path) -> None:
    report = gated(tmp_path, rows(), suspects={"somebody else"})
    assert {one.check for one in report.verdicts if one.outcome != "pass"} == {PHRASES}
    assert not report.passed
    assert Registry(str(tmp_path / "registry")).verdicts(report.of)[0].verdicts == report.verdicts


def test_one_person_with_too_much_to_say_fails(tmp_path: Path) -> None:
    loud = [thumb(9000 + n, f"Q{n}?", "A.", True, user="loud", people=["loud"]) for n in range(40)]
    found = by_check(gated(tmp_path, [*rows(), *loud]))
    assert found[WEIGHT].outcome == "fail" and found[WEIGHT].value == 40
    assert found[SHARE].outcome == "fail" and found[SHARE].value == pytest.approx(40 / 640)


def test_a_vote_that_made_rows_in_two_datasets_weighs_once() -> None:
    label = thumb(1, "Q?", "A.", True, user="u")
    pairs = [pair(2, "Q?", "A.", "B.", user="u"), pair(3, "P?", "A.", "B.", user="u")]
    sides: list[tuple[Dataset, Side]] = [("unpaired", label.side), *(("preference", one.side) for one in pairs)]
    assert weights_of("tenant:default", sides).people == {"u": 2.0}


def test_among_few_people_a_share_is_twice_an_equal_one(tmp_path: Path) -> None:
    assert by_check(gated(tmp_path, rows(people=10)))[SHARE].outcome == "pass"


def test_rows_of_another_tenant_fail(tmp_path: Path) -> None:
    strange = thumb(9000, "Q?", "A.", True, user="x", people=["x"], tenant="other")
    assert by_check(gated(tmp_path, [*rows(), strange]))[SCOPE].value == 1
    curated = thumb(9001, "Q?", "A.", True, tenant="none", source="curated")
    assert by_check(gated(tmp_path / "b", [*rows(), curated]))[SCOPE].outcome == "pass"


def test_a_snapshot_that_does_not_say_whose_models_it_trains_fails(tmp_path: Path) -> None:
    assert by_check(gated(tmp_path, rows(), scope=""))[SCOPE].outcome == "fail"
    assert by_check(gated(tmp_path / "b", rows(tenant="any"), scope="shared"))[SCOPE].outcome == "pass"


def test_who_was_found_and_is_still_in_it_fails_and_nobody_looking_is_unmeasured(tmp_path: Path) -> None:
    found = by_check(gated(tmp_path, rows(), suspects={"u3", "u5", "nobody"}))
    assert found[BANNED].outcome == "fail" and found[BANNED].value == 2
    assert by_check(gated(tmp_path / "b", rows()))[BANNED].outcome == "unmeasured"


def test_whom_an_operator_released_is_no_suspect() -> None:
    reasons = {"v1": [Reason("against_reference", "user:aa", "")], "v2": [Reason("copies", "user:bb", "")]}
    released = Decision(subject="user:bb", verdict="released", by="op", at=0.0)
    assert suspects_of(reasons, {"user:bb": released}) == {"aa"}


def test_personal_data_fails_and_says_of_which_kind(tmp_path: Path) -> None:
    leaky = thumb(9000, "Write to jane.doe@example.com", "Yes.", True, user="x", people=["x"])
    found = by_check(gated(tmp_path, [*rows(), leaky]))[PERSONAL]
    assert found.outcome == "fail" and found.facts == {"email": 1}


def test_a_sample_of_texts_is_always_the_same_and_says_how_many_there_are(tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path / "s", rows())
    few, count = texts(snapshot, 50)
    assert len(few) == 50 and count > 300
    assert few == texts(snapshot, 50)[0]


@pytest.mark.parametrize("attackers", [0, 6])
def test_who_votes_against_a_reference_is_seen_in_the_snapshots_own_votes(tmp_path: Path, attackers: int) -> None:
    rng = random.Random(0)
    of: list[Unpaired] = []
    for who in range(80):
        for n in range(30):
            good = rng.random() < 0.5
            up = rng.random() < (0.85 if good == (who >= attackers) else 0.15)
            text = f"{'good' if good else 'bad'} answer {n}"
            of.append(thumb(len(of), f"Question {who} {n}?", text, up, user=f"u{who}", people=[f"u{who}"]))
    snapshot = write_snapshot(tmp_path / "s", of)
    facts = defend((_read(vote) for vote in votes(snapshot)), DefenceSettings()).facts
    found = weights_of("tenant:default", (("unpaired", row.side) for row in of))
    banned, phrases = poisoning(facts, None, found, DataThresholds())
    assert banned.value == attackers
    assert banned.outcome == ("fail" if attackers else "pass")
    assert phrases.outcome != "unmeasured" and phrases.n == 2400


def _read(vote: VoteOnAnswer) -> VoteOnAnswer:
    return replace(vote, rewards=(1.7 if vote.answer.startswith("good") else -1.7, None))
