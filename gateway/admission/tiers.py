"""The classes of requests, as OpenAI's `service_tier` names them. While the workers are full, the highest is first."""

from typing import Literal, get_args

Tier = Literal["flex", "default", "priority"]

TIERS: tuple[Tier, ...] = get_args(Tier)
"""The lowest first."""

ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast"]
"""What a client may ask for: OpenAI's values."""

# `scale` is capacity that is bought beforehand, which is not sold here; `fast` is another name of priority.
_MEANT: dict[ServiceTier | None, Tier] = {"flex": "flex", "priority": "priority", "fast": "priority"}


def tier_of(asked: ServiceTier | None, highest: Tier) -> Tier:
    """The class that a request gets. highest: the best that its tenant may have; asking for more gets that."""
    wanted = _MEANT.get(asked, "default")
    return min(wanted, highest, key=TIERS.index)
