from gateway.telemetry.waiting import WaitClock


def test_overlapping_waits_count_once() -> None:
    now = 0.0
    clock = WaitClock(lambda: now)
    with clock:
        now = 2.0
        with clock:
            now = 5.0
        now = 6.0
    now = 10.0
    with clock:
        now = 11.0
    assert clock.seconds == 7.0
