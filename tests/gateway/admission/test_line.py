from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.line import AGEING, Line, Waiter
from gateway.admission.tiers import TIERS, Tier


def waiter(tier: Tier = "default", tenant: str = "t", least: int = 1) -> Waiter:
    return Waiter(tier, tenant, least, least)


def line_of(*waiters: Waiter) -> Line[Waiter]:
    line: Line[Waiter] = Line()
    for one in waiters:
        line.join(one)
    return line


def serve_all(line: Line[Waiter]) -> list[Waiter]:
    order = []
    while (first := line.first()) is not None:
        line.served(first)
        order.append(first)
    return order


def test_higher_classes_go_first_and_within_one_who_came_first() -> None:
    flex, first, second, high = waiter("flex"), waiter(), waiter(), waiter("priority")
    assert serve_all(line_of(flex, first, second, high)) == [high, first, second, flex]


def test_tenants_of_a_class_take_turns() -> None:
    burst = [waiter(tenant="a") for _ in range(4)]
    others = [waiter(tenant="b"), waiter(tenant="c"), waiter(tenant="b")]
    order = serve_all(line_of(*burst, *others))
    assert [one.tenant for one in order] == ["a", "b", "c", "a", "b", "a", "a"]


def test_a_tenant_that_comes_back_goes_behind_the_others() -> None:
    line = line_of(waiter(tenant="a"), waiter(tenant="b"))
    again = waiter(tenant="a")
    line.served(line.first() or again)
    line.join(again)
    assert [one.tenant for one in serve_all(line)] == ["b", "a"]


def test_the_lowest_class_has_a_turn_now_and_then() -> None:
    old = waiter("flex")
    order = serve_all(line_of(old, *(waiter("priority") for _ in range(2 * AGEING))))
    assert order.index(old) == AGEING - 1


def test_the_newest_of_the_lowest_class_is_turned_away() -> None:
    flex = [waiter("flex"), waiter("flex")]
    line = line_of(flex[0], waiter(), flex[1], waiter("priority"))
    assert line.last() is flex[1]
    line.leave(flex[1])
    assert line.last() is flex[0]


def test_the_tenant_that_fills_the_line_is_turned_away_before_another() -> None:
    burst = [waiter(tenant="a") for _ in range(5)]
    line = line_of(*burst, waiter(tenant="b"))
    assert line.last() is burst[-1]


def test_what_waits_before_a_class_is_that_class_and_those_above() -> None:
    line = line_of(waiter("flex", least=1), waiter("default", least=2), waiter("priority", least=4))
    assert [line.before(tier) for tier in TIERS] == [7, 6, 4]


def test_who_left_twice_left_once() -> None:
    one, two = waiter(), waiter()
    line = line_of(one, two)
    line.leave(one)
    line.leave(one)
    assert (len(line), line.count("default"), line.before("default")) == (1, 1, 1)


WAITERS = st.lists(
    st.builds(waiter, st.sampled_from(TIERS), st.sampled_from("abc"), st.integers(1, 9)), min_size=1, max_size=60
)


@given(WAITERS, st.data())
def test_whoever_leaves_all_others_are_served_once_and_in_order(waiters: list[Waiter], data: st.DataObject) -> None:
    line = line_of(*waiters)
    gone = data.draw(st.sets(st.sampled_from(range(len(waiters)))))
    for index in gone:
        line.leave(waiters[index])
    staying = [one for index, one in enumerate(waiters) if index not in gone]
    assert sum(line.count(tier) for tier in TIERS) == len(line) == len(staying)
    assert line.before("flex") == sum(one.least for one in staying)
    order = serve_all(line)
    assert sorted(map(id, order)) == sorted(map(id, staying))
    arrival = {one: number for number, one in enumerate(waiters)}
    for tier in TIERS:
        for tenant in "abc":
            mine = [arrival[one] for one in order if (one.tier, one.tenant) == (tier, tenant)]
            assert all(early < late for early, late in pairwise(mine))
    assert len(line) == 0 and line.before("flex") == 0
    assert line._classes["flex"]._tenants == {}


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=80))
def test_no_tenant_waits_for_two_turns_of_another(tenants: list[str]) -> None:
    # Without the ageing turns, of which this is not: they go by age alone.
    order = []
    line = line_of(*(waiter(tenant=name) for name in tenants))
    while (first := line.first()) is not None:
        if (line._turns + 1) % AGEING == 0:
            line._turns += 1
            continue
        line.served(first)
        order.append(first.tenant)
    for start in range(len(order)):
        waiting = set(order[start:])
        assert len(set(order[start : start + len(waiting)])) == len(waiting)
