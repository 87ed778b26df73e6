"""Scorers as an evaluation uses them: those of a stack that runs, by name, and folders that are loaded here.

What a score is known by is the scorer's version; of a folder it ends in a digest of its weights, so that a model which
was trained again under the same name is another one.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import aiohttp
from msgspec.structs import replace

from gateway.calibrate.scoring import find_scorer
from gateway.config import Config
from gateway.errors import ConfigError, StartError
from scorers.client import ScorerClient
from scorers.contract import Score, ScoreRequest, ScorerInfo
from scorers.errors import ScorerError
from training.errors import TrainingError

# ruff: noqa: PLC0415  # torch and transformers: seconds

Kind = Literal["reward", "judge", "safety"]

_TIMEOUT_S = 300.0
_TRIES = 6
_WAIT_S = 1.0


class Scores(Protocol):
    """One scorer, wherever it runs."""

    @property
    def info(self) -> ScorerInfo: ...

    async def score(self, request: ScoreRequest) -> list[Score]:
        """One a candidate. Raises ScorerError."""
        ...


@dataclass(frozen=True, slots=True)
class Running:
    """A scorer at the server that has it."""

    client: ScorerClient
    info: ScorerInfo

    async def score(self, request: ScoreRequest) -> list[Score]:
        return (await self.client.score(request, _TIMEOUT_S)).scores


async def patiently(scorer: Scores, request: ScoreRequest) -> list[Score]:
    """Asks again where the scorer is busy or away for a while; then each score says why there is none."""
    why = ""
    for attempt in range(_TRIES):
        try:
            return await scorer.score(request)
        except ScorerError as error:
            why = str(error)
            if error.status not in (429, 503):
                break
            await asyncio.sleep(_WAIT_S * attempt)
    return [Score(error=why)] * max(1, len(request.candidates))


@asynccontextmanager
async def opened(
    named: str, kind: Kind, config: Config | None, session: aiohttp.ClientSession
) -> AsyncIterator[Scores]:
    """A folder, or the name of a scorer that runs. Raises TrainingError where it cannot do what it is for."""
    if (folder := _folder(named)) is not None:
        async with _loaded(folder, kind) as scorer:
            yield scorer
        return
    if config is None:
        raise TrainingError(
            f"{named!r} is no folder, and where scorers run is not known: name a configuration with --config."
        )
    try:
        there = await find_scorer(config, named, session)
    except (StartError, ConfigError) as error:
        raise TrainingError(f"{named!r} is no folder, and no scorer that runs: {error}") from None
    running = Running(there.client, there.info)
    wanted = {"reward": "value", "judge": "value", "safety": "categories"}[kind]
    if running.info.gives != wanted:
        raise TrainingError(f"The scorer {named} gives no {wanted}: it cannot be the evaluation's {kind} model.")
    if running.info.relative != (kind == "judge"):
        what = "compares answers two by two: name it with --judge" if running.info.relative else "rates each alone"
        raise TrainingError(f"The scorer {named} {what}{'' if running.info.relative else ': name it as reward model'}.")
    yield running


def _folder(named: str) -> Path | None:
    folder = Path(named).absolute()
    return folder if folder.is_dir() else None


@asynccontextmanager
async def _loaded(folder: Path, kind: Kind) -> AsyncIterator[Scores]:
    from scorers.loading import Loading, load_scorer
    from scorers.model_path import LoadError
    from scorers.scorer_settings import JudgeConfig, RewardConfig, SafetyConfig, ScorerConfig
    from scorers.settings import ScorerServerConfig

    model = str(folder)
    configs: dict[Kind, ScorerConfig] = {
        "reward": RewardConfig(kind="reward", model=model),
        "judge": JudgeConfig(kind="judge", model=model),
        "safety": SafetyConfig(kind="safety", model=model),
    }
    name, loading = folder.name, Loading(ScorerServerConfig())
    try:
        served, _ = await asyncio.to_thread(load_scorer, name, configs[kind], loading)
    except LoadError as error:
        raise TrainingError(f"{folder} cannot be the evaluation's {kind} model: {error}") from None
    digest = await asyncio.to_thread(_weights_digest, folder)
    # A judge's version also says what it is told.
    told = served.info.version.partition("+")[2]
    try:
        yield _Here(served, f"{name}+{digest}{f'+{told}' if told else ''}")
    finally:
        await served.close()


class _Here:
    def __init__(self, served: Scores, version: str) -> None:
        self._served = served
        self.info = replace(served.info, version=version)

    async def score(self, request: ScoreRequest) -> list[Score]:
        return await self._served.score(request)


def _weights_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin") or path.name in ("config.json", "tokenizer.json"):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
