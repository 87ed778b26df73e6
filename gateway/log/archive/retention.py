"""How long records are kept: what the configuration says of all, of a model, and a tenant of itself. Pure.

The strictest holds. Days are whole: a record goes when the day (UTC) of its interaction ended that many days ago, so
all that is kept equally long leaves a partition at once. What is said of an interaction goes with it.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import msgspec

from gateway.config import Config


class Retention(msgspec.Struct, frozen=True):
    """Days; None, or not named: for ever. models: by public name. tenants: by name."""

    overall: int | None = None
    models: Mapping[str, int] = {}
    tenants: Mapping[str, int] = {}

    @property
    def least(self) -> int | None:
        """The shortest that anything may be kept."""
        return _least(self.overall, *self.models.values(), *self.tenants.values())

    def of(self, model: str, tenant: str) -> int | None:
        return _least(self.overall, self.models.get(model), self.tenants.get(tenant))

    def of_any_model(self, tenant: str) -> int | None:
        """As long as a tenant's records may be kept, whatever their model."""
        return _least(self.overall, self.tenants.get(tenant))

    def of_unknown(self, tenant: str) -> int | None:
        """Of records whose interaction is nowhere: it was of any model, and is gone already."""
        return _least(self.of_any_model(tenant), *self.models.values())

    def over(self, day: date, now: float) -> "Retention":
        """What of it says that a day's records have to go, now."""
        return Retention(
            self.overall if is_over(day, self.overall, now) else None,
            {name: days for name, days in self.models.items() if is_over(day, days, now)},
            {name: days for name, days in self.tenants.items() if is_over(day, days, now)},
        )


def models_retention(config: Config) -> dict[str, int]:
    """By public name."""
    said = {name: model.log.retain_days for name, model in config.models.items() if model.log is not None}
    return {name: days for name, days in said.items() if days is not None}


def is_over(day: date, days: int | None, now: float) -> bool:
    """Whether a day ended so many days ago. now: seconds since 1970."""
    if days is None:
        return False
    ended = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    return now >= ended.timestamp() + days * 86_400


def _least(*days: int | None) -> int | None:
    return min((each for each in days if each is not None), default=None)
