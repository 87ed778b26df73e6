"""Profiles: the tunable settings of a strategy, versioned; and models, the public names that use them."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.access.caller import Caller
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

    def get(self, name: str, caller: Caller) -> ModelConfig:
        """Raises ModelNotFound, which lists what the caller may use; what they may not is as if it were not there."""
        if name in self._models and caller.may_use_model(name):
            return self._models[name]
        known = ", ".join(self.names(caller)) or "none"
        raise ModelNotFound(f"The model {name!r} does not exist. Available: {known}.", param="model")

    def names(self, caller: Caller) -> list[str]:
        """The models that the caller may use."""
        return [name for name in self._models if caller.may_use_model(name)]
