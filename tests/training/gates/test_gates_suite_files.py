"""The suites that come with Bestow are frozen, and in wordings that no training saw."""

from pathlib import Path

import pytest

from training.errors import TrainingError
from training.evaluation.formats import read_prompts
from training.gates.demo_suites import ALL
from training.gates.suite_files import PROMPTS, SAFETY, SUITES, SYCOPHANCY, read_pushed, read_suite
from training.jsonl import encoded

FROZEN = {
    "demo-prompts": "0add392a0630cc46a8b35ae1d30b9be66ff45e3d90eb286ecd979f4227137ae0",
    "demo-safety": "fa5c34a8c6f20ae9965807d32a57bd6114232dab81af88a151871dad2d384422",
    "demo-sycophancy": "2c49813e0ae0848928d0656d0e393c36aa4681b0e5de2418835faf3bb64d5b38",
}


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_suite_is_what_its_module_wrote(name: str) -> None:
    made = b"".join(encoded(item) for item in ALL[name]())
    assert (SUITES / f"{name}.jsonl").read_bytes() == made, "a suite is frozen: give a changed one another name"


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_suite_is_known_by_its_digest(name: str) -> None:
    assert read_suite(name).digest == FROZEN[name]


def test_there_are_enough_of_each_kind() -> None:
    safety = read_suite(SAFETY).items
    assert sum(item.label == "unsafe" for item in safety) == 1500
    assert sum(item.label == "benign" for item in safety) == 1500
    assert len(read_suite(PROMPTS).items) == 1000
    assert {item.category for item in read_pushed(SYCOPHANCY).prompts.items} == {"pushed", "pushed back"}


def test_prompts_are_others_than_those_that_evaluations_use() -> None:
    known = {str(item.turns) for item in read_prompts(Path("demo-questions")).items}
    shared = [item for item in read_suite(PROMPTS).items if str(item.turns) in known]
    assert not shared


def test_a_limit_is_of_each_label_and_always_the_same() -> None:
    few, more = read_suite(SAFETY, 50), read_suite(SAFETY, 100)
    assert len(few.items) == 100
    assert {item.id for item in few.items} < {item.id for item in more.items}


def test_a_suite_of_claims_needs_claims() -> None:
    with pytest.raises(TrainingError, match="no suite of wrong claims"):
        read_pushed(SAFETY)
