from gateway.log.records import decode_interaction, encode
from tests.gateway.log.log_samples import interaction


def test_a_record_keeps_the_class_of_its_request_and_what_the_load_left_of_n() -> None:
    record = interaction(tier="flex", asked=8, n=2, degraded="load")
    assert decode_interaction(encode(record)) == record


def test_a_record_of_before_there_were_classes_reads_as_one_that_nothing_was_left_out_of() -> None:
    old = encode(interaction())
    assert b"tier" not in old and b"asked" not in old and b"queue_ms" not in old
    found = decode_interaction(old)
    assert (found.tier, found.asked, found.timings.queue_ms) == ("default", None, 0.0)
