import pytest

from gateway.admission.rate import Rate


def test_a_steady_rate_is_known_from_the_start_and_stays() -> None:
    rate = Rate(over_s=10.0, now=100.0)
    for tick in range(1, 1001):
        rate.add(2, 100.0 + tick * 0.1)
        if tick in (10, 100, 1000):
            assert rate.per_s(100.0 + tick * 0.1) == pytest.approx(20.0, rel=0.06)


def test_what_stops_is_forgotten() -> None:
    rate = Rate(over_s=10.0, now=0.0)
    rate.add(1000, 10.0)
    assert rate.per_s(100.0) < 0.1


def test_nothing_yet_is_zero() -> None:
    assert Rate(10.0, 5.0).per_s(5.0) == Rate(10.0, 5.0).per_s(9.0) == 0.0
