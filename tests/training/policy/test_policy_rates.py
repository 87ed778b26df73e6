"""Learning rates that nobody named."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as some

from training.policy.rates import default_rate
from training.policy.settings import Method


@given(some.sampled_from(get_args(Method)), some.integers(10_000, 10**12), some.integers(1, 1000))
def test_larger_models_learn_slower_and_adapters_faster(method: Method, parameters: int, larger: int) -> None:
    rate = default_rate(parameters, method, True)
    assert default_rate(parameters * larger, method, True) <= rate
    assert default_rate(parameters, method, False) <= rate <= 2e-3


def test_the_demo_policy_has_the_rate_that_was_tried() -> None:
    for method in ("dpo", "kto"):
        assert 0.9e-3 < default_rate(1_000_000, method, True) < 1.1e-3
    assert default_rate(10**9, "dpo", False) == default_rate(10**11, "dpo", False) == 1e-6
