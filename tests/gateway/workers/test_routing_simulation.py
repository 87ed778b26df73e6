"""64 workers, skewed prefixes: see routing_simulation. The figures are its table's, with room for other parameters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from gateway.workers.prefix import PrefixKey
from gateway.workers.routing import FLOOR
from tests.gateway.workers.routing_simulation import (
    Choose,
    Conversation,
    Outcome,
    Seen,
    Simulation,
    World,
    conversations,
    least_loaded,
    ours,
    pure_hashing,
    round_robin,
)

BOUND = 1.25


@dataclass
class Audited:
    """Holds each decision of a router against its bound."""

    choose: Choose
    keyed: int = 0
    beyond: int = 0
    no_worker_able: int = 0

    def __call__(self, workers: Sequence[Seen], key: PrefixKey | None, cost: float) -> Seen:
        loads = {worker.id: worker.load.score() for worker in workers}
        limit = max(BOUND * (sum(loads.values()) + cost) / len(workers), FLOOR)
        chosen = self.choose(workers, key, cost)
        if key:
            self.keyed += 1
            if loads[chosen.id] and loads[chosen.id] + cost > limit:
                self.beyond += 1
                self.no_worker_able += all(load and load + cost > limit for load in loads.values())
        return chosen


@pytest.fixture(scope="module")
def plan() -> list[Conversation]:
    return conversations(World())


@pytest.fixture(scope="module")
def audited() -> Audited:
    return Audited(ours(bound=BOUND))


@pytest.fixture(scope="module")
def bounded(plan: list[Conversation], audited: Audited) -> Outcome:
    return Simulation(plan, World.workers, [audited]).run()


@pytest.fixture(scope="module")
def hashed(plan: list[Conversation]) -> Outcome:
    return Simulation(plan, World.workers, [pure_hashing(World.workers)]).run()


def test_the_bound_is_never_exceeded(bounded: Outcome, audited: Audited) -> None:
    assert audited.keyed > 8_000
    # But by a request for which no worker has room: many candidates, while little else runs.
    assert audited.beyond == audited.no_worker_able
    assert audited.beyond < 0.05 * audited.keyed


@pytest.mark.parametrize("blind", [round_robin, least_loaded])
def test_far_more_is_found_cached_than_without_affinity(
    plan: list[Conversation], bounded: Outcome, blind: Callable[[], Choose]
) -> None:
    without = Simulation(plan, World.workers, [blind()]).run()
    assert bounded.hit_share > without.hit_share + 0.25
    assert bounded.worst < 1.15 * without.worst
    assert bounded.wall_s < 1.03 * without.wall_s


def test_nearly_as_much_is_found_cached_as_by_pure_hashing_and_the_worst_load_is_far_below(
    bounded: Outcome, hashed: Outcome
) -> None:
    assert bounded.hit_share > 0.8 * hashed.hit_share
    assert bounded.worst - 1 < 0.5 * (hashed.worst - 1)


def test_pure_hashing_of_system_prompts_drowns_the_homes_of_popular_tenants(
    plan: list[Conversation], bounded: Outcome
) -> None:
    drowned = Simulation(plan, World.workers, [pure_hashing(4)]).run()
    assert bounded.worst < 0.25 * drowned.worst
    assert bounded.waited < 0.01 < drowned.waited


def test_two_gateways_that_know_of_each_other_by_reports_alone_do_not_herd(
    plan: list[Conversation], bounded: Outcome
) -> None:
    two = Simulation(plan, World.workers, [ours(seed=1), ours(seed=2)]).run()
    assert two.worst < 1.25 * bounded.worst
    assert two.hit_share > bounded.hit_share - 0.05
