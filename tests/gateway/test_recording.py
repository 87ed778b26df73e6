from typing import Any

import pytest

from gateway.decoding.selection.chooser import Outcomes
from gateway.log.records import CandidateRecord, Verdict
from gateway.recording import candidate_records, count_interaction
from gateway.telemetry.metrics import Metrics
from scorers.contract import Score
from tests.gateway.decoding.judged import judged
from tests.gateway.log.log_samples import interaction

FLAGGED, FAILED, SAFE = Verdict({"x": 0.9}, ["x"]), Verdict(error="away"), Verdict({"x": 0.1})


def candidate(**fields: Any) -> CandidateRecord:
    return CandidateRecord(0, {"role": "assistant", "content": "x"}, "stop", 1, **fields)


def test_a_candidates_record_has_what_each_scorer_said() -> None:
    score = Score(value=2.0, calibrated=0.5, parts={"a": 2.0}, steps=[1.0], tokens=9)
    one = judged(0, 2.0, scores={"reward@1": score}, pruned_by="cheap@1", second_check=SAFE)
    [record] = candidate_records([one], Outcomes((0.25,)), 0.0, keep_token_ids=False)
    said = record.scores["reward@1"]
    assert (said.value, said.calibrated, said.parts, said.steps, said.error) == (2.0, 0.5, {"a": 2.0}, [1.0], None)
    assert (record.pruned_by, record.second_check, record.propensity) == ("cheap@1", SAFE, 0.25)


@pytest.mark.parametrize(
    ("fields", "fate"),
    [
        ({}, "passed_over"),
        ({"pruned_by": "cheap@1", "verdict": SAFE}, "pruned"),
        ({"verdict": FLAGGED}, "flagged"),
        ({"verdict": SAFE, "second_check": FLAGGED}, "flagged"),
        ({"verdict": FAILED}, "unjudged"),
        ({"verdict": SAFE, "second_check": FAILED}, "unjudged"),
    ],
)
def test_a_candidate_has_one_fate(fields: dict[str, Any], fate: str) -> None:
    metrics = Metrics()
    record = interaction(candidates=[candidate(**fields)], delivered=[], chosen=None)
    count_interaction(metrics, record, "p")
    samples = [one for one in next(iter(metrics.candidates.collect())).samples if one.name.endswith("_total")]
    assert [(one.labels["fate"], one.value) for one in samples] == [(fate, 1.0)]


def test_what_was_flagged_is_counted_by_stage_category_and_what_became_of_it() -> None:
    metrics = Metrics()
    prompt = Verdict({"a": 0.9, "b": 0.9, "c": 0.9}, ["a", "b"], blocked=["b"], noted=["c"])
    one = candidate(verdict=Verdict({"a": 0.9}, noted=["a"]), second_check=FLAGGED)
    count_interaction(metrics, interaction(prompt_verdict=prompt, candidates=[one], delivered=[]), "p")
    samples = [one for one in next(iter(metrics.flagged.collect())).samples if one.name.endswith("_total")]
    assert {(one.labels["stage"], one.labels["category"], one.labels["action"]) for one in samples} == {
        ("prompt", "a", "refuse"),
        ("prompt", "b", "block"),
        ("prompt", "c", "flag"),
        ("candidate", "a", "flag"),
        ("second_check", "x", "refuse"),
    }
