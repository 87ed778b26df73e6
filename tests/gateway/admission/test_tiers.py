import pytest

from gateway.admission.tiers import ServiceTier, Tier, tier_of


@pytest.mark.parametrize(
    ("asked", "highest", "got"),
    [
        (None, "default", "default"),
        ("auto", "default", "default"),
        ("auto", "priority", "default"),
        ("scale", "priority", "default"),
        ("priority", "priority", "priority"),
        ("fast", "priority", "priority"),
        ("priority", "default", "default"),
        ("priority", "flex", "flex"),
        (None, "flex", "flex"),
        ("flex", "priority", "flex"),
    ],
)
def test_a_request_gets_the_class_it_asks_for_up_to_its_tenants(
    asked: ServiceTier | None, highest: Tier, got: Tier
) -> None:
    assert tier_of(asked, highest) == got
