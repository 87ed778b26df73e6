from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.capacity import Capacity
from gateway.admission.shrink import Share, room, saturation, share

EMPTY = Capacity(places=100, running=0, others=0.0, waiting=0.0, kv_usage=None)


def got(
    own: int = 0, lag_s: float = 0.0, n: int = 8, least: int = 2, *, others_wait: bool = False, **changes: float
) -> Share:
    return share(n, least, replace(EMPTY, **changes), own, lag_s, others_wait=others_wait)  # type: ignore[arg-type]


def test_while_there_is_room_a_request_gets_all() -> None:
    assert got() == got(own=50) == Share(8, True)


def test_second_waves_are_dropped_before_n_shrinks() -> None:
    assert got(own=55) == Share(8, False)
    assert got(own=80) == Share(5, False)
    assert got(own=98) == Share(2, False)


@pytest.mark.parametrize(
    ("calm", "some", "full"),
    [
        ({"kv_usage": 0.8}, {"kv_usage": 0.91}, {"kv_usage": 0.99}),
        ({"waiting": 0.0}, {"waiting": 5.0}, {"waiting": 10.0}),
        ({"lag_s": 0.1}, {"lag_s": 0.6}, {"lag_s": 3.0}),
        ({"others": 50.0}, {"others": 80.0}, {"others": 97.0}),
    ],
)
def test_every_signal_shrinks_n(calm: dict[str, float], some: dict[str, float], full: dict[str, float]) -> None:
    assert got(**calm) == Share(8, True)  # type: ignore[arg-type]
    assert got(**some) == Share(5, False)  # type: ignore[arg-type]
    assert got(**full) == Share(2, False)  # type: ignore[arg-type]


def test_while_others_wait_everyone_gets_the_least() -> None:
    assert got(others_wait=True) == Share(2, False)


def test_without_workers_it_is_the_least() -> None:
    assert got(places=0) == Share(2, False)
    assert saturation(replace(EMPTY, places=0), 0) == 1.0


def test_a_full_event_loop_takes_no_room() -> None:
    assert got(lag_s=60.0, own=10).n == 2
    assert room(EMPTY, 10) == 90


def test_a_long_queue_in_the_workers_leaves_no_room() -> None:
    assert room(replace(EMPTY, waiting=25.0), 10) == 90
    assert room(replace(EMPTY, waiting=26.0), 10) == 0


counts = st.integers(0, 500)
capacities = st.builds(
    Capacity,
    places=counts,
    running=counts,
    others=st.floats(0, 500),
    waiting=st.floats(0, 100),
    kv_usage=st.none() | st.floats(0, 1),
)


@st.composite
def wishes(draw: st.DrawFn) -> tuple[int, int]:
    n = draw(st.integers(1, 128))
    return n, draw(st.integers(1, n))


@given(wishes(), capacities, counts, st.floats(0, 5), st.booleans())
def test_n_is_within_its_bounds_and_within_the_room(
    wish: tuple[int, int], capacity: Capacity, own: int, lag_s: float, others_wait: bool
) -> None:
    n, least = wish
    found = share(n, least, capacity, own, lag_s, others_wait=others_wait)
    assert least <= found.n <= n
    assert found.n <= max(least, room(capacity, own))


@given(
    wishes(),
    capacities,
    counts,
    st.floats(0, 5),
    st.fixed_dictionaries({"own": counts, "others": st.floats(0, 99), "waiting": st.floats(0, 99)}),
    st.floats(0, 1),
    st.floats(0, 5),
)
def test_more_load_never_gives_more(
    wish: tuple[int, int],
    capacity: Capacity,
    own: int,
    lag_s: float,
    more: dict[str, float],
    kv: float,
    more_lag_s: float,
) -> None:
    fuller = replace(
        capacity,
        others=capacity.others + more["others"],
        waiting=capacity.waiting + more["waiting"],
        kv_usage=max(capacity.kv_usage or 0.0, kv),
    )
    before = share(*wish, capacity, own, lag_s, others_wait=False)
    after = share(*wish, fuller, own + int(more["own"]), lag_s + more_lag_s, others_wait=False)
    assert after.n <= before.n
    assert after.resample <= before.resample


@given(wishes(), capacities, counts, st.floats(0, 5))
def test_n_shrinks_only_where_second_waves_are_dropped(
    wish: tuple[int, int], capacity: Capacity, own: int, lag_s: float
) -> None:
    n, least = wish
    found = share(n, least, capacity, own, lag_s, others_wait=False)
    fits = room(capacity, own) >= n
    assert not (found.resample and found.n < n and fits)


@given(capacities, counts, st.floats(0, 5), st.booleans())
def test_one_sample_stays_one(capacity: Capacity, own: int, lag_s: float, others_wait: bool) -> None:
    assert share(1, 1, capacity, own, lag_s, others_wait=others_wait).n == 1
