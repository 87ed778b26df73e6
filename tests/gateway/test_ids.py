import time

from gateway.ids import is_completion_id, new_completion_id, unix_seconds


def test_an_id_tells_its_own_time() -> None:
    before = time.time()
    identifier = new_completion_id()
    assert before - 0.01 <= unix_seconds(identifier) <= time.time() + 0.01


def test_ids_sort_in_the_order_they_were_made() -> None:
    ids = [new_completion_id() for _ in range(1000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 1000


def test_only_completion_ids_count_as_such() -> None:
    assert is_completion_id(new_completion_id())
    for wrong in ("", "chatcmpl-", new_completion_id()[9:], new_completion_id() + "0", "chatcmpl-" + "0" * 36):
        assert not is_completion_id(wrong)
