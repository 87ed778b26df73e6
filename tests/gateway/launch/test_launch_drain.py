"""How fast the gateway of `bestow up` stops."""

from typing import Any

import pytest

from gateway.config import dump, parse
from gateway.launch.machine import Machine
from gateway.launch.parts import Plan, plan

CPU = Machine(cores=2, memory_gib=20, gpu=False)


def planned(gateway: dict[str, Any]) -> Plan:
    return plan(parse({"gateway": gateway}), CPU, "/usr/bin/redis-server")


def test_no_time_is_lost_on_a_load_balancer_that_is_not_there() -> None:
    config = planned({"drain_timeout_s": 7}).config
    assert config.gateway.drain_delay_s == 0
    assert parse({"gateway": {"drain_delay_s": 0, "drain_timeout_s": 7}}).gateway == config.gateway
    assert "drain_delay_s: 0" in dump(config)


@pytest.mark.parametrize("delay_s", [2.0, 5.0])
def test_a_delay_that_the_file_asks_for_is_kept_and_waited_for(delay_s: float) -> None:
    todo = planned({"drain_delay_s": delay_s})
    assert todo.config.gateway.drain_delay_s == delay_s
    gateway = next(part for part in todo.parts if part.name == "gateway")
    assert gateway.grace_s > delay_s + todo.config.gateway.drain_timeout_s
