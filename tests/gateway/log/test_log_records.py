import msgspec

from gateway.log.records import CandidateRecord, ScoreRecord, Verdict, decode_interaction, encode
from tests.gateway.log.log_samples import interaction


def test_a_record_keeps_the_class_of_its_request_and_what_the_load_left_of_n() -> None:
    record = interaction(tier="flex", asked=8, n=2, degraded="load")
    assert decode_interaction(encode(record)) == record


def test_a_record_of_before_there_were_classes_reads_as_one_that_nothing_was_left_out_of() -> None:
    old = encode(interaction())
    assert b"tier" not in old and b"asked" not in old and b"queue_ms" not in old
    found = decode_interaction(old)
    assert (found.tier, found.asked, found.timings.queue_ms) == ("default", None, 0.0)


def test_a_record_keeps_what_each_scorer_said_and_who_gave_a_candidate_up() -> None:
    candidate = CandidateRecord(
        0,
        {"role": "assistant", "content": "x"},
        "stop",
        1,
        verdict=Verdict({"a": 0.9}, noted=["a"], guards={"g@1": {"a": 0.9}, "h@2": {"a": 0.1}}),
        scores={"cheap@1": ScoreRecord(value=1.5, parts={"helpful": 1.5}), "reward@3": ScoreRecord(error="away")},
        pruned_by="cheap@1",
        second_check=Verdict({"b": 0.7}, ["b"], blocked=["b"]),
    )
    record = interaction(candidates=[candidate], second_check="other@1", reference="42", outcome="blocked")
    assert decode_interaction(encode(record)) == record


def test_what_a_scorer_did_not_say_takes_no_room() -> None:
    assert msgspec.json.encode(ScoreRecord(value=1.5)) == b'{"value":1.5}'


def test_a_record_of_before_there_were_cascades_reads_as_one_without() -> None:
    old = encode(interaction())
    assert not any(name in old for name in (b"scores", b"pruned_by", b"second_check", b"noted", b"guards"))
    found = decode_interaction(old).candidates[0]
    assert (found.scores, found.pruned_by, found.second_check) == ({}, None, None)
