import asyncio

import pytest

from gateway.admission.lag import LoopLag
from gateway.admission.shrink import LAG
from tests.gateway.admission.virtual_time import VirtualLoop, run


def test_an_idle_loop_has_none_and_a_busy_one_has_what_it_is_late() -> None:
    async def watched() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        told: list[float] = []
        lag = LoopLag(told.append)
        await lag.start()
        await asyncio.sleep(5.0)
        assert lag.seconds == pytest.approx(0.0, abs=1e-6)

        for _ in range(20):
            await asyncio.sleep(0.05)
            loop.late(0.3)
        # A timer falls due at any time within such a callback.
        assert 0.1 < lag.seconds < 0.3
        assert told[-1] == lag.seconds

        await asyncio.sleep(10.0)
        assert lag.seconds < 0.001
        await lag.close()

    run(watched())


def test_one_long_callback_is_no_overload() -> None:
    async def watched() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        lag = LoopLag(lambda _: None)
        await lag.start()
        await asyncio.sleep(1.0)
        loop.late(0.1)
        await asyncio.sleep(0.2)
        assert 0.0 < lag.seconds < LAG.calm
        await lag.close()

    run(watched())
