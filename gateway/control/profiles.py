"""Profiles: the tunable settings of a strategy, versioned; and models, the public names that use them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from gateway.access.caller import Caller
from gateway.config import Config, ModelConfig
from gateway.control.state import ControlState
from gateway.errors import BadRequest, ModelNotFound
from gateway.profile_settings import ProfileConfig

logger = logging.getLogger(__name__)


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
    """The profiles this gateway serves with: the file's, each as version 1, until `hold` says what is in force."""

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

    def all(self) -> list[Profile]:
        return [self._profiles[name] for name in sorted(self._profiles)]

    def deciding(self) -> set[str]:
        """The scorers that have a say in an answer."""
        return {name for profile in self._profiles.values() for name in profile.settings.deciding}

    def hold(self, state: ControlState) -> None:
        """From now on these are in force. One that this release cannot read changes nothing here."""
        for name, live in state.profiles.items():
            current, held = live.current, self._profiles.get(name)
            try:
                settings = ProfileConfig.model_validate(current.settings)
            except ValidationError as error:
                logger.error(
                    "the profile %s@%d cannot be read by this release, and %s stays in force here: %s",
                    name,
                    current.number,
                    held.version if held else "none",
                    "; ".join(str(one["msg"]) for one in error.errors()),
                )
                continue
            self._profiles[name] = Profile(name, current.number, settings)


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
