"""From a scorer's settings to a scorer that runs: each kind has a module with a function `load`, imported then."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from scorers.calibration.calibrated import CalibratedScorer
from scorers.calibration.calibration import read_calibration
from scorers.contract import ScorerInfo
from scorers.contract import ServedScorer as ServedScorer
from scorers.model_path import LoadError
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


class Observe(Protocol):
    """Called after each batch with inputs, tokens that ran and seconds. given: the tokens of the inputs, where what ran
    is more (padding) or less (beginnings that are shared)."""

    def __call__(self, inputs: int, tokens: int, seconds: float, *, given: int | None = None) -> None: ...


Cached = Callable[[int, int], None]
"""Called after each call of a backend with a cache, with its hits and misses."""


@dataclass(frozen=True, slots=True)
class Loading:
    """What a kind's `load` may use. loaded: the scorers of this server that are loaded already, by name."""

    server: ScorerServerConfig
    observe: Observe | None = None
    loaded: Mapping[str, ServedScorer] = field(default_factory=dict)
    cached: Cached | None = None


def declared(
    name: str,
    config: ScorerConfig,
    *,
    prompt_only: bool = False,
    max_tokens: int = 0,
    categories: Sequence[str] = (),
    partial: bool = True,
    steps: bool = False,
    vocabulary: str = "",
    digest: str = "",
) -> ScorerInfo:
    """What a scorer says of itself: see `ScorerInfo`. digest: what its version ends in beside name@N."""
    return ScorerInfo(
        id=name,
        kind=config.kind,
        gives=config.gives,
        version=f"{name}@{config.version}{f'+{digest}' if digest else ''}",
        prompt_only=prompt_only,
        max_tokens=max_tokens,
        categories=list(categories),
        partial=partial,
        steps=steps,
        relative=config.relative,
        vocabulary=vocabulary,
    )


def load_scorer(name: str, config: ScorerConfig, loading: Loading) -> tuple[ServedScorer, str]:
    """The scorer, and where and how it runs in a few words. Blocks; call it in a thread. Raises LoadError."""
    module = importlib.import_module(_MODULES[config.kind])
    if config.calibration is None:
        return cast(tuple[ServedScorer, str], module.load(name, config, loading))
    # Read before the weights are: a wrong file is told at once.
    calibration = read_calibration(config.calibration, f"{name}@{config.version}")
    scorer, words = cast(tuple[ServedScorer, str], module.load(name, config, loading))
    if calibration.scorer != scorer.info.version:
        raise LoadError(
            f"The calibration {config.calibration} was measured on {calibration.scorer}, not on {scorer.info.version}: "
            "measure it again with `bestow calibrate`, or leave `calibration` out."
        )
    return CalibratedScorer(scorer, calibration), f"{words}, calibrated"
