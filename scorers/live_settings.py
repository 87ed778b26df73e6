"""Settings of a scorer that comes while the server runs: the same keys as in the file, but no address and no secrets.

Whoever adds scorers names files and addresses in them. They are read here, and would be sent there: what could carry a
secret from a file of this machine to an address of their choice is the configuration file's alone.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from scorers.configuration import explain
from scorers.errors import WrongSetting
from scorers.scorer_settings import ScorerConfig, location
from scorers.settings import Name

# The keys that name a secret, or what proves who we are.
_SECRET = ("_file", "_env")


class _One(BaseModel):
    model_config = ConfigDict(frozen=True)

    scorers: dict[Name, ScorerConfig]


def parse_scorer(name: str, settings: dict[str, Any]) -> ScorerConfig:
    """The settings of the scorer `name`, as they stand in the file below it. Raises WrongSetting."""
    try:
        [config] = _One.model_validate({"scorers": {name: settings}}).scorers.values()
    except ValidationError as error:
        first = error.errors()[0]
        _, _, param = location(first).removeprefix("scorers.").partition(f"{name}.")
        raise WrongSetting("; ".join(explain(one) for one in error.errors()), param or None) from None
    if config.url is not None:
        raise WrongSetting("url: a scorer that is added runs in the scorer server that takes it", "url")
    for key in _set_keys(config.model_dump(mode="json", exclude_none=True)):
        if key.rpartition(".")[2].endswith(_SECRET):
            raise WrongSetting(f"{key}: what holds a secret is named in the configuration file alone", key)
    return config


def fingerprint(settings: dict[str, Any]) -> str:
    """Equal for equal settings."""
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _set_keys(settings: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in settings.items():
        yield prefix + key
        if isinstance(value, dict) and key == "vllm":
            yield from _set_keys(value, f"{prefix}{key}.")
