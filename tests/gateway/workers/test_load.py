import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.workers.load import TYPICAL_TOKENS, EngineLoad, Lease, WorkerLoad


def test_a_request_counts_from_the_moment_it_is_taken_until_it_is_closed() -> None:
    load = WorkerLoad()
    lease = load.take(4, 1000)
    assert (load.sequences, load.score()) == (4, 1000)
    lease.progress(300)
    assert load.score() == 700
    lease.close()
    lease.close()
    assert (load.sequences, load.score()) == (0, 0)


def test_a_candidate_that_ends_early_takes_along_what_it_will_never_sample() -> None:
    load = WorkerLoad()
    lease = load.take(4, 1000)
    lease.progress(200)
    lease.finished()
    assert (load.sequences, load.score()) == (3, 600)


def test_a_sequence_that_is_longer_than_expected_still_counts() -> None:
    load = WorkerLoad()
    lease = load.take(2, 200)
    lease.progress(5000)
    assert load.score() == 20
    lease.finished()
    assert load.score() == 10


def test_what_others_run_counts_and_our_own_is_not_counted_twice() -> None:
    load = WorkerLoad()
    lease = load.take(8, 8000)
    load.report(EngineLoad(running=8, waiting=0))
    assert (load.others, load.score()) == (0, 8000)
    load.report(EngineLoad(running=12, waiting=0))
    assert load.others == 4
    assert load.score() > 8000
    lease.close()
    assert load.others == 4


def test_an_old_report_does_not_hold_work_of_ours_that_has_ended() -> None:
    load = WorkerLoad()
    lease = load.take(8, 8000)
    load.report(EngineLoad(running=8, waiting=0))
    lease.close()
    assert load.score() == 0


def test_a_report_that_was_made_before_our_requests_reached_the_worker_takes_nothing_off() -> None:
    load = WorkerLoad()
    load.take(8, 8000)
    load.report(EngineLoad(running=0, waiting=0))
    assert load.score() == 8000


def test_a_worker_that_stops_reporting_is_forgotten_to_be_busy() -> None:
    load = WorkerLoad()
    load.report(EngineLoad(running=50, waiting=50, kv_usage=1.0))
    assert load.score() > 0
    load.report(None)
    assert (load.others, load.score()) == (0, 0)


def test_a_queue_is_what_waits_in_two_reports_in_a_row() -> None:
    load = WorkerLoad()
    seen = []
    for waiting in (8, 0, 5, 7, 3, 0):
        load.report(EngineLoad(running=1, waiting=waiting))
        seen.append(load.queued)
    assert seen == [0, 0, 0, 5, 3, 0]
    load.report(EngineLoad(running=1, waiting=9))
    load.report(None)
    load.report(EngineLoad(running=1, waiting=9))
    assert load.queued == 0


def test_waiting_sequences_weigh_more_than_running_ones() -> None:
    running, waiting = WorkerLoad(), WorkerLoad()
    running.report(EngineLoad(running=10, waiting=0))
    waiting.report(EngineLoad(running=0, waiting=10))
    assert running.score() == 10 * TYPICAL_TOKENS / 2
    assert waiting.score() == 10 * TYPICAL_TOKENS


@pytest.mark.parametrize(("kv_usage", "times"), [(None, 1), (0.0, 1), (0.9, 1), (0.95, 1.5), (1.0, 2)])
def test_a_nearly_full_cache_makes_a_worker_count_for_more(kv_usage: float | None, times: float) -> None:
    load = WorkerLoad()
    load.take(1, 100)
    load.report(EngineLoad(running=1, waiting=0, kv_usage=kv_usage))
    assert load.score() == pytest.approx(100 * times)


def test_the_sequences_of_others_are_measured_by_ours() -> None:
    load = WorkerLoad()
    for _ in range(50):
        load.take(4, 8000).close()
    load.report(EngineLoad(running=0, waiting=1))
    assert load.score() == pytest.approx(2000, rel=0.01)


def test_requests_that_sample_nothing_do_not_make_the_sequences_of_others_look_small() -> None:
    load = WorkerLoad()
    for _ in range(50):
        load.take(4, 8000).close()
    for _ in range(20):
        load.take(1, 1).close()
    load.report(EngineLoad(running=0, waiting=1))
    assert load.score() == pytest.approx(2000, rel=0.05)


@given(st.data())
def test_whatever_happens_load_is_never_negative_and_nothing_is_left_at_the_end(data: st.DataObject) -> None:
    load = WorkerLoad()
    leases: list[Lease] = []
    for _ in range(data.draw(st.integers(0, 40))):
        what = data.draw(st.sampled_from(["take", "take", "progress", "finished", "close", "report"]))
        if what == "take":
            leases.append(load.take(data.draw(st.integers(1, 64)), data.draw(st.floats(0, 1e6))))
        elif what == "report":
            running, waiting = data.draw(st.tuples(st.integers(0, 500), st.integers(0, 500)))
            load.report(EngineLoad(running, waiting, data.draw(st.none() | st.floats(0, 1))))
        elif leases:
            lease = data.draw(st.sampled_from(leases))
            if what == "progress":
                lease.progress(data.draw(st.integers(0, 10**6)))
            elif what == "finished":
                lease.finished()
            else:
                lease.close()
        assert load.tokens >= 0
        assert load.sequences >= 0
        assert load.score() >= 0
    for lease in leases:
        lease.close()
    load.report(None)
    assert (load.sequences, load.tokens, load.score()) == (0, 0, 0)
