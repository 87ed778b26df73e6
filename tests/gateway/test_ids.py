import time
import uuid

import pytest

from gateway.ids import interaction_id, new_completion_id, tagged, unix_seconds


def test_an_id_tells_its_own_time() -> None:
    before = time.time()
    identifier = new_completion_id()
    assert before - 0.01 <= unix_seconds(identifier) <= time.time() + 0.01


def test_ids_sort_in_the_order_they_were_made() -> None:
    ids = [new_completion_id() for _ in range(1000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 1000


def test_a_tag_takes_the_last_four_bytes_and_leaves_a_uuid7_in_its_order() -> None:
    ids = [new_completion_id(lambda head: head[-4:]) for _ in range(1000)]
    assert ids == sorted(ids) and len(set(ids)) == 1000
    for identifier in ids:
        found = uuid.UUID(identifier.removeprefix("chatcmpl-"))
        assert (found.version, found.variant) == (7, uuid.RFC_4122)
        assert found.bytes[12:] == found.bytes[8:12]


@pytest.mark.parametrize("prefix", ["chatcmpl-", "cmpl-", "resp_"])
def test_one_interaction_has_one_id_whatever_the_endpoint(prefix: str) -> None:
    identifier = new_completion_id()
    other = prefix + identifier.removeprefix("chatcmpl-")
    assert interaction_id(other) == identifier
    assert unix_seconds(other) == unix_seconds(identifier)
    assert tagged(other, lambda _: b"\0\0\0\0").startswith(prefix)


def test_what_is_no_answers_id_has_no_interaction() -> None:
    for wrong in ("", "chatcmpl-", new_completion_id()[9:], "msg_" + new_completion_id()[9:], "cmpl-" + "0" * 36):
        assert interaction_id(wrong) is None
    with pytest.raises(ValueError):
        unix_seconds("chatcmpl-1")
