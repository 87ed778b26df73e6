"""From a scorer's settings to a scorer that runs: each kind has a module with a function `load`, imported then."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

from scorers.contract import Score, ScoreRequest, ScorerInfo
from scorers.scorer_settings import ScorerConfig
from scorers.settings import ScorerServerConfig

_MODULES = {
    "reward": "scorers.reward",
    "ensemble": "scorers.ensemble",
    "process": "scorers.process",
    "judge": "scorers.judge.loading",
    "verifier": "scorers.verifiers.loading",
    "safety": "scorers.safety",
    "generative_safety": "scorers.guards.generative",
    "moderation": "scorers.guards.moderation",
    "patterns": "scorers.guards.patterns",
}

Observe = Callable[[int, int, float], None]
"""Called after each batch with inputs, padded tokens and seconds."""


class ServedScorer(Protocol):
    """What the server needs of a scorer: the contract, its queue, and an end."""

    @property
    def info(self) -> ScorerInfo: ...

    @property
    def waiting(self) -> int: ...

    async def score(self, request: ScoreRequest) -> list[Score]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Loading:
    """What a kind's `load` may use. loaded: the scorers of this server that are loaded already, by name."""

    server: ScorerServerConfig
    observe: Observe | None = None
    loaded: Mapping[str, ServedScorer] = field(default_factory=dict)


def load_scorer(name: str, config: ScorerConfig, loading: Loading) -> tuple[ServedScorer, str]:
    """The scorer, and where and how it runs in a few words. Blocks; call it in a thread. Raises LoadError."""
    module = importlib.import_module(_MODULES[config.kind])
    return cast(tuple[ServedScorer, str], module.load(name, config, loading))
