"""The scorer server's part of the one configuration file: `scorers:` and `scorer_server:`. Other keys are ignored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scorers.errors import ConfigurationError
from scorers.scorer_settings import UNKNOWN_KIND, ScorerConfig, location, no_such_kind
from scorers.settings import Name, ScorerServerConfig


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """`scorers` are those that are served here, by name: all without an address of their own."""

    server: ScorerServerConfig
    scorers: dict[str, ScorerConfig]


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    scorer_server: ScorerServerConfig = Field(default_factory=lambda: ScorerServerConfig())
    scorers: dict[Name, ScorerConfig] = Field(default_factory=dict)


def read_settings(path: Path) -> ServerSettings:
    """Read the file. Raises ConfigurationError."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ConfigurationError(f"There is no configuration file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The configuration file {path} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path} must hold keys and values, such as `scorers:`.")
    try:
        file = _File.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError("\n".join(f"{path}: {explain(one)}" for one in error.errors())) from None
    served = {name: scorer for name, scorer in file.scorers.items() if scorer.url is None}
    if not served:
        raise ConfigurationError(
            f"{path} has no scorer to serve here: under `scorers:`, name one with a `kind` and a `model` and no `url`."
        )
    return ServerSettings(file.scorer_server, served)


def explain(error: Any) -> str:
    """One of pydantic's errors in words: which key, and what is wrong with it."""
    where = location(error)
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no such key"
    if error["type"] in UNKNOWN_KIND:
        return f"{where}: {no_such_kind(error)}"
    return f"{where}: {str(error['msg']).removeprefix('Value error, ')}"
