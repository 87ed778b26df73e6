"""`bestow train sample`: candidates in bulk for rejection sampling, through the workers that serve."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import aiohttp
import typer

from gateway.config import Config
from gateway.launch.parts import filled_in
from training.configured import configured
from training.data.finding import find_snapshot
from training.data.layout import Snapshot
from training.data.places import home_of
from training.data.rows import BestOfN, PromptOnly, Split
from training.errors import TrainingError
from training.evaluation.asking import find_side
from training.evaluation.commands import progress
from training.evaluation.scoring import opened
from training.evaluation.servers import Server
from training.evaluation.settings import RunSettings, SamplingSettings
from training.evaluation.sides import Named, read_side
from training.policy.rejection import rate, rejection_of, rounds, rows_to_imitate, run_round
from training.policy.sampling import AT_ONCE, PURPOSE
from training.policy.trainer import PolicyRows

_HARD = RunSettings()


def sample(
    snapshot: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="Whose prompts are answered: its id, or a path.")],
    model: Annotated[str, typer.Argument(metavar="MODEL", help="MODEL[:PROFILE][+WEIGHTS] that answers.")],
    n: Annotated[int, typer.Option("--samples", min=2, max=128, help="Candidates to each prompt.")] = 8,
    reward_model: Annotated[
        str | None,
        typer.Option(
            help="A running scorer or a folder that rates them, and those of earlier rounds.  (default: the "
            "profile's own)"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another round.")] = 0,
    temperature: Annotated[float, typer.Option(min=0.01, max=2, help="Of the sampling.")] = 1.0,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of a candidate.  (default: the profile's)")] = None,
    split: Annotated[str, typer.Option(help="Of the snapshot; train, unless something is tried out.")] = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="So many prompts, always the same ones.")] = None,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="Requests under way together.")] = AT_ONCE,
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds for which a request that is turned away is repeated.")
    ] = _HARD.patience_s,
    config: Annotated[Path | None, typer.Option("--config", help="Configuration file.")] = None,
    api_key: Annotated[
        str | None, typer.Option("--api-key", envvar="BESTOW_API_KEY", help="The gateway's key.")
    ] = None,
) -> None:
    """Sample candidates from the policy that serves, behind all users, and keep them with their rewards.

    They are for `bestow train policy --method rejection`, which imitates the best of all rounds. A run that was killed
    goes on where it stopped.

    \b
    Example:
      bestow train sample 3f9a12 bestow-demo --samples 16
      bestow train sample 3f9a12 bestow-demo --samples 16 --reward-model .bestow/training/reward-models/reward@2
    """
    settings = configured(config)
    if settings is None:
        raise TrainingError("There is neither .bestow/run.yaml nor bestow.yaml here: name one with --config.")
    named = read_side(model)
    if not isinstance(named, Named) or named.url or named.n:
        raise TrainingError("Name who answers as MODEL[:PROFILE][+WEIGHTS], and how many candidates with --samples.")
    if split not in ("train", "calibration", "test", "holdout"):
        raise TrainingError(f"--split {split}: there are train, calibration, test and holdout.")
    home = home_of(settings)
    prompts = prompts_of(find_snapshot(snapshot, home), split, limit)  # type: ignore[arg-type]  # checked above
    how = SamplingSettings(seed=seed, temperature=temperature, max_tokens=max_tokens)
    hard = RunSettings(at_once=at_once, patience_s=patience)
    try:
        path, _ = asyncio.run(one_round(settings, named, prompts, n, how, hard, api_key, reward_model))
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        raise typer.Exit(130) from None
    kept = rounds(path.parent)
    candidates = [one for line in kept for one in line.candidates]
    usable = sum(one.usable for one in candidates)
    print(f"{len(kept)} prompts of all rounds have {len(candidates)} candidates; {usable} are safe and finished.")
    print(f"Wrote {path}")


async def one_round(
    settings: Config,
    named: Named,
    prompts: list[PromptOnly],
    n: int,
    how: SamplingSettings,
    hard: RunSettings,
    api_key: str | None,
    reward_model: str | None = None,
) -> tuple[Path, str]:
    """A round through the gateway of a configuration: its file, and the version of the reward model that rated it.

    reward_model: a scorer or a folder that rates all rounds, in place of the one that serves. Raises TrainingError.
    """
    full = filled_in(settings, settings.data_dir.expanduser().absolute())
    async with aiohttp.ClientSession() as session:
        server = Server.of_gateway(full, session, api_key, hard.patience_s, hard.timeout_s)
        asker = await find_side(named, server, purpose=PURPOSE)
        folder = rejection_of(home_of(settings), asker.side.model)
        path, rated_by = await run_round(asker, prompts, n, how, folder, progress, hard.at_once)
        if reward_model is not None:
            async with opened(reward_model, "reward", full, session) as scorer:
                await rate(folder, scorer, progress)
                rated_by = scorer.info.version
    return path, rated_by


def prompts_of(snapshot: Snapshot, split: Split, limit: int | None = None) -> list[PromptOnly]:
    """Those that a policy may learn from, by the digests of what is asked, so that a limit takes always the same."""
    found = [row for row in snapshot.rows(PromptOnly, split) if row.side.for_policy]
    return sorted(found, key=lambda row: row.side.prompt)[:limit]


def sampled_rows(snapshot: Snapshot, split: Split, home: Path, model: str, reward_model: str, best: int) -> PolicyRows:
    """What rejection sampling imitates: of a model's rounds, and of what the snapshot logged. See `rejection`."""
    logged = [row for row in snapshot.rows(BestOfN, split) if row.side.for_policy]
    return rows_to_imitate(logged, rejection_of(home, model), split, reward_model, best)
