"""The rows that a training learns from: of the snapshot, or sampled for it through the gateway."""

import asyncio
from dataclasses import dataclass

from gateway.config import Config
from training.data.layout import Snapshot
from training.data.places import home_of
from training.errors import TrainingError
from training.policy.choices import Models
from training.policy.rows import policy_rows
from training.policy.settings import PolicySettings
from training.policy.trainer import PolicyRows

# ruff: noqa: PLC0415  # aiohttp, scorers: a second


@dataclass(frozen=True)
class Live:
    """Whom to ask: the public model of the policy, at the gateway of a configuration."""

    settings: Config
    policy: str
    model: str | None
    api_key: str | None


def rows_of(snapshot: Snapshot, settings: PolicySettings, needed: Models, sample: bool, live: Live) -> PolicyRows:
    """sample: rejection: a round through the live workers first; what there is of it already is not asked again.

    Raises TrainingError where the gateway cannot be asked.
    """
    if settings.method == "rejection" and sample:
        return asyncio.run(_sampled(snapshot, settings, needed, live))
    return policy_rows(snapshot, "train", settings.method, settings)


async def _sampled(snapshot: Snapshot, settings: PolicySettings, needed: Models, live: Live) -> PolicyRows:
    from training.evaluation.settings import RunSettings, SamplingSettings
    from training.evaluation.sides import Named
    from training.gates.serving import public_model
    from training.policy.sample_command import one_round, prompts_of, sampled_rows

    public, _ = public_model(live.settings, live.model, live.policy)
    how = SamplingSettings(temperature=settings.temperature, max_tokens=settings.max_new_tokens)
    reward = None if needed.reward is None else str(needed.reward)
    _, rated_by = await one_round(
        live.settings,
        Named(public),
        prompts_of(snapshot, "train"),
        settings.samples,
        how,
        RunSettings(),
        live.api_key,
        reward,
    )
    if not rated_by:
        raise TrainingError(f"No reward model rates the answers of {public}: name one with --reward-model.")
    return sampled_rows(snapshot, "train", home_of(live.settings), public, rated_by, settings.best)
