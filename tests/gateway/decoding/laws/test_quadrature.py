import math

import pytest

from gateway.decoding.laws.quadrature import gauss_legendre, integral


@pytest.mark.parametrize("points", [1, 2, 5, 16, 91])
def test_a_rule_is_exact_for_every_power_it_should_be_and_for_no_more(points: int) -> None:
    def error(power: int) -> float:
        return abs(sum(weight * node**power for node, weight in gauss_legendre(points)) - 1 / (power + 1))

    assert max(error(power) for power in range(2 * points)) < 1e-14
    if points <= 5:
        assert error(2 * points) > 1e-7


def test_nodes_ascend_inside_the_unit_interval() -> None:
    nodes = [node for node, _ in gauss_legendre(64)]
    assert nodes == sorted(set(nodes))
    assert 0 < nodes[0] < nodes[-1] < 1


def test_panels_of_any_width_add_up() -> None:
    assert integral(math.exp, [-1.0, -0.9, 2.0, 5.0]) == pytest.approx(math.exp(5) - math.exp(-1), rel=1e-13)


def test_a_rule_of_no_points_is_refused() -> None:
    with pytest.raises(ValueError, match="1 point or more"):
        gauss_legendre(0)
