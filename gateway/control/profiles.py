"""Profiles: the tunable settings of a strategy, versioned; and models, the public names that use them."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.config import Config, ModelConfig, ProfileConfig
from gateway.errors import BadRequest, ModelNotFound


@dataclass(frozen=True, slots=True)
class Profile:
    """One version of a profile."""

    name: str
    number: int
    settings: ProfileConfig

    @property
    def version(self) -> str:
        """name@N, as in receipts and in the log."""
        return f"{self.name}@{self.number}"


class ProfileStore:
    """The profiles this gateway serves with; the configuration file seeds version 1 of each."""

    def __init__(self, seeds: Mapping[str, ProfileConfig]) -> None:
        self._profiles = {name: Profile(name, 1, settings) for name, settings in seeds.items()}

    def get(self, name: str) -> Profile:
        """The current version. Raises BadRequest naming guidance.profile where there is none of that name."""
        try:
            return self._profiles[name]
        except KeyError:
            raise BadRequest(
                f"guidance.profile: there is no profile {name!r} (there is {', '.join(sorted(self._profiles))})",
                param="guidance.profile",
            ) from None


class ModelDirectory:
    """The public models."""

    def __init__(self, config: Config) -> None:
        self._models = config.models

    def get(self, name: str) -> ModelConfig:
        """Raises ModelNotFound, which lists what there is."""
        try:
            return self._models[name]
        except KeyError:
            known = ", ".join(self._models) or "none"
            raise ModelNotFound(f"The model {name!r} does not exist. Available: {known}.", param="model") from None

    def names(self) -> list[str]:
        return list(self._models)
