"""Who gets places and when, in virtual time: every test runs on a loop whose clock jumps."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from gateway.admission.admission import Place
from gateway.errors import RateLimited, Unavailable
from tests.gateway.admission.desk import Desk, settle
from tests.gateway.admission.virtual_time import run


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def runs() -> None:
        run(test())

    return runs


async def refusal(task: "asyncio.Task[Place]") -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        await task
    return caught.value


@in_virtual_time
async def test_while_there_is_room_nobody_waits_and_nothing_shrinks() -> None:
    desk = Desk(places=20)
    place = await desk.admit(2, 8, tier="flex")
    assert (place.n, place.resample, place.shrunk, place.waited_s) == (8, True, False, 0.0)
    assert desk.held == 8


@in_virtual_time
async def test_as_it_fills_n_shrinks_to_the_least_before_anyone_waits() -> None:
    desk = Desk(places=20)
    places = [await desk.admit(1, 4) for _ in range(6)]
    assert [place.n for place in places] == [4, 4, 4, 4, 2, 2]
    assert [place.resample for place in places] == [True, True, True, False, False, False]
    assert [place.shrunk for place in places] == [False, False, False, False, True, True]
    assert (desk.metric("shrunk_total"), desk.held) == (2, 20)
    assert not (await desk.ask(1, 4)).done()


@in_virtual_time
async def test_who_finds_no_room_waits_until_there_is() -> None:
    desk = Desk(places=4)
    first = await desk.admit(4)
    waiting = await desk.ask(2)
    await asyncio.sleep(3.0)
    assert not waiting.done() and desk.metric("waiting", tier="default") == 1
    first.release()
    place = await waiting
    assert (place.n, place.waited_s, desk.held) == (2, 3.0, 2)
    assert desk.metric("wait_seconds_sum", tier="default") == 3.0
    assert desk.metric("waiting", tier="default") == 0


@in_virtual_time
async def test_a_place_is_released_once_and_by_leaving_its_block() -> None:
    desk = Desk(places=4)
    other = await desk.admit(1)
    with await desk.admit(3) as place:
        assert desk.held == 4
    place.release()
    assert desk.held == 1
    other.release()
    assert desk.held == 0


@in_virtual_time
async def test_places_of_finished_candidates_are_free_while_the_others_go_on() -> None:
    desk = Desk(places=4)
    first = await desk.admit(4)
    waiting = await desk.ask(2)
    first.finished()
    await settle()
    assert not waiting.done()
    first.finished()
    await settle()
    assert waiting.done() and desk.held == 4
    first.finished(5)
    first.release()
    assert desk.held == 2


@in_virtual_time
async def test_a_second_wave_is_counted_and_does_not_wait() -> None:
    desk = Desk(places=10)
    place = await desk.admit(4)
    place.finished(4)
    other = await desk.admit(8)
    place.again(4)
    assert desk.held == 12
    place.release()
    place.again(4)
    assert desk.held == 8
    other.release()


@in_virtual_time
async def test_a_wave_smaller_than_what_was_granted_gives_the_rest_back() -> None:
    desk = Desk(places=16)
    place = await desk.admit(16)
    waiting = await desk.ask(12)
    place.again(4)
    await settle()
    assert waiting.done() and desk.held == 16
    place.finished(4)
    place.again(4)
    assert desk.held == 16
    place.release()
    assert desk.held == 12


@in_virtual_time
async def test_what_others_run_and_what_runs_ungranted_takes_room() -> None:
    desk = Desk(places=10)
    first = await desk.admit(1)
    desk.becomes(others=6.0)
    waiting = await desk.ask(5)
    desk.becomes(others=0.0, running=6)
    await settle()
    assert not waiting.done()
    desk.becomes(running=1)
    assert (await waiting).n == 5
    first.release()


@in_virtual_time
async def test_a_burst_is_counted_before_the_pool_has_sent_anything() -> None:
    desk = Desk(places=6)
    tasks = [await desk.ask(2) for _ in range(5)]
    assert [task.done() for task in tasks] == [True, True, True, False, False]


@in_virtual_time
async def test_who_wants_more_than_the_whole_pool_gets_it_when_the_gateway_is_idle() -> None:
    desk = Desk(places=4)
    first = await desk.admit(1)
    large = await desk.ask(9)
    await settle()
    assert not large.done()
    first.release()
    assert (await large).n == 9
    assert not (await desk.ask(1)).done()


@in_virtual_time
async def test_a_gateway_that_holds_nothing_is_not_locked_out_by_others() -> None:
    desk = Desk(places=4)
    desk.becomes(others=40.0, waiting=30.0)
    place = await desk.admit(2, 4)
    assert (place.n, place.shrunk) == (2, True)
    assert not (await desk.ask(1)).done()


@in_virtual_time
async def test_a_small_request_does_not_pass_a_large_one_that_waits() -> None:
    desk = Desk(places=4)
    first = await desk.admit(3)
    large, small = await desk.ask(3), await desk.ask(1)
    await settle()
    assert not large.done() and not small.done()
    first.release()
    assert (await large).n == 3 and (await small).n == 1


@in_virtual_time
async def test_when_a_large_one_gives_up_the_small_ones_behind_it_go_on() -> None:
    desk = Desk(places=4)
    await desk.admit(3)
    large, small = await desk.ask(3), await desk.ask(1)
    large.cancel()
    assert (await small).n == 1


@in_virtual_time
async def test_when_a_large_one_has_waited_too_long_the_small_ones_behind_it_go_on() -> None:
    desk = Desk(places=4)
    await desk.admit(3)
    large = await desk.ask(3, deadline=5.0)
    small = await desk.ask(1)
    await refusal(large)
    assert (await small).waited_s == 5.0


@in_virtual_time
async def test_a_higher_class_passes_the_lower_ones() -> None:
    desk = Desk(places=1)
    first = await desk.admit(1)
    flex, default, priority = [await desk.ask(1, tier=tier) for tier in ("flex", "default", "priority")]
    first.release()
    (await priority).release()
    await settle()
    assert default.done() and not flex.done()


@in_virtual_time
async def test_while_others_wait_each_gets_the_least() -> None:
    desk = Desk(places=100)
    first = await desk.admit(100)
    tasks = [await desk.ask(1, 8) for _ in range(3)]
    first.release()
    assert [(await task).n for task in tasks] == [1, 1, 8]


@in_virtual_time
async def test_a_late_event_loop_shrinks_n_and_makes_nobody_wait() -> None:
    desk = Desk(places=100)
    desk.lag_s = 30.0
    place = await desk.admit(2, 8)
    assert (place.n, place.resample, place.shrunk) == (2, False, True)


@in_virtual_time
async def test_who_has_waited_as_long_as_any_may_is_told_to_try_again() -> None:
    desk = Desk(places=4, max_wait_s=10.0)
    first = await desk.admit(2)
    other = await desk.admit(2)
    await asyncio.sleep(10.0)
    other.release()
    other = await desk.admit(2)
    waiting = await desk.ask(4, tier="flex")
    error = await refusal(waiting)
    assert asyncio.get_running_loop().time() == pytest.approx(20.0)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert "10 s" in error.message
    # Two places came free in 20 s, and that ten seconds ago: it takes a while until 4 do.
    assert error.retry_after is not None and 30 < error.retry_after <= 60
    assert desk.metric("rejected_total", tier="flex", reason="waited") == 1
    assert (desk.held, desk.metric("waiting", tier="flex")) == (4, 0)
    first.release()


@in_virtual_time
async def test_retry_after_is_about_when_the_turn_would_have_come() -> None:
    desk = Desk(places=10, max_waiting=40)
    place = await desk.admit(10)
    for _ in range(300):
        await asyncio.sleep(0.1)
        place.release()
        place = await desk.admit(10)
    waiting = [await desk.ask(1, n=25) for _ in range(40)]
    big = await desk.ask(460)
    # 100 places come free a second; 40 + 460 are wanted.
    error = await refusal(big)
    assert error.retry_after == pytest.approx(5.0, abs=1.0)
    assert f"about {error.retry_after:.0f} s" in error.message
    for task in waiting:
        task.cancel()


@in_virtual_time
async def test_who_has_less_time_than_that_is_told_at_its_deadline() -> None:
    desk = Desk(places=1)
    await desk.admit(1)
    await refusal(await desk.ask(1, deadline=2.5))
    assert asyncio.get_running_loop().time() == pytest.approx(2.5)
    assert desk.metric("rejected_total", tier="default", reason="deadline") == 1


@in_virtual_time
async def test_when_too_many_wait_the_newest_of_the_lowest_class_is_turned_away() -> None:
    desk = Desk(places=1, max_waiting=2)
    await desk.admit(1)
    flex, default = await desk.ask(1, tier="flex"), await desk.ask(1)
    another_flex = await desk.ask(1, tier="flex")
    assert "more than 2 requests wait" in (await refusal(another_flex)).message
    priority = await desk.ask(1, tier="priority")
    await refusal(flex)
    assert desk.metric("rejected_total", tier="flex", reason="queue_full") == 2
    assert not default.done() and not priority.done()


@in_virtual_time
async def test_where_none_may_wait_who_finds_no_room_is_turned_away_at_once() -> None:
    desk = Desk(places=1, max_waiting=0)
    first = await desk.admit(1)
    await refusal(await desk.ask(1, tier="priority"))
    first.release()
    assert (await desk.admit(1)).n == 1


@in_virtual_time
async def test_without_a_worker_nobody_waits_here_since_the_pool_knows_why() -> None:
    desk = Desk(places=1)
    await desk.admit(1)
    waiting = await desk.ask(1, 4)
    desk.becomes(places=0)
    assert (await waiting).n == 1
    assert (await desk.admit(2, 4)).n == 2
    assert desk.metric("saturation") == 1.0


@in_virtual_time
async def test_one_whose_client_left_while_its_turn_came_leaves_its_place_to_the_next() -> None:
    desk = Desk(places=1)
    first = await desk.admit(1)
    gone, granted_and_gone, last = [await desk.ask(1) for _ in range(3)]
    gone.cancel()
    first.release()
    granted_and_gone.cancel()
    assert (await last).n == 1
    assert desk.held == 1
    assert gone.cancelled() and granted_and_gone.cancelled()


@in_virtual_time
async def test_one_whose_client_left_is_not_the_one_turned_away() -> None:
    desk = Desk(places=1, max_waiting=1)
    await desk.admit(1)
    gone = await desk.ask(1)
    arriving = asyncio.create_task(desk.admit(1, tier="priority"))
    gone.cancel()
    await settle()
    assert gone.cancelled() and not arriving.done()
    assert desk.metric("rejected_total", tier="default", reason="queue_full") == 0


@in_virtual_time
async def test_when_the_gateway_stops_those_who_wait_are_told_so() -> None:
    desk = Desk(places=1)
    await desk.admit(1)
    tasks = [await desk.ask(1, tier=tier) for tier in ("flex", "priority")]
    desk.admission.close()
    for task in tasks:
        with pytest.raises(Unavailable):
            await task


@in_virtual_time
async def test_saturation_counts_other_gateways() -> None:
    desk = Desk(places=10)
    await desk.admit(2)
    desk.becomes(others=3.0)
    assert desk.metric("saturation") == 0.5
