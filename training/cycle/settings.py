"""What a turn of the loop does, in a YAML file given with --settings (deploy/training/cycle.yaml is an example)."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from scorers.settings import Name, Section
from training.errors import TrainingError
from training.policy.settings import Method


class RewardPart(Section):
    """The turn's reward model."""

    train: bool = Field(True, description="Train a new one; false: the policy learns from `model`, or needs none.")
    name: Name = Field("reward", description="Its name; each turn makes a new version.")
    model: str | None = Field(
        None,
        description="The reward model to go by where none is trained, a ref or a folder; empty: the configured one.",
    )
    base: str | None = Field(None, description="What to start from; empty: the configured policy.")
    seeds: int = Field(3, ge=1, le=20, description="Models to train; the one in the middle is served.")
    lora: bool = Field(False, description="Train a LoRA, merged at the end.")
    settings: dict[str, Any] = Field({}, description="Other settings of `bestow train reward --set`.")
    serve: bool = Field(True, description="Release it with the policy; false: it only trains and judges.")


class PolicyPart(Section):
    """The turn's policy."""

    train: bool = Field(True, description="Train a new one; false: the release has a new reward model alone.")
    name: Name | None = Field(None, description="The configured policy to improve; empty: that of `model`.")
    method: Method = Field("kto", description="How it learns; see `bestow train policy --help`.")
    full: bool = Field(False, description="Train all weights, not a LoRA.")
    settings: dict[str, Any] = Field({}, description="Other settings of `bestow train policy --set`.")


class CycleSettings(Section):
    """One turn: snapshot, reward model, gate, policy, gate, release, canary."""

    model: Name | None = Field(None, description="The public model to improve; empty: the only one that there is.")
    tenant: Name | None = Field(None, description="Whose feedback trains it; empty: the tenant default.")
    shared: bool = Field(False, description="Learn from all tenants that share, instead of one.")
    curated: Path | None = Field(None, description="A file of curated rows to mix in; see `bestow train snapshot`.")
    curated_share: float = Field(0.5, ge=0.01, le=0.99, description="Share of the weight that comes from that file.")
    snapshot_settings: Path | None = Field(None, description="YAML: which rows are made.")
    reference: str | None = Field(
        None,
        description="A reward model that no vote has taught, to look for poisoning by; empty: the configured one.",
    )
    reward: RewardPart = Field(RewardPart(), description="The reward model.")
    policy: PolicyPart = Field(PolicyPart(), description="The policy.")
    thresholds: Path | None = Field(None, description="YAML: the gates' thresholds; empty: those that are shipped.")
    prompts: Path | None = Field(None, description="Prompts for the policy's gate; empty: those of the gate.")
    release: Literal["canary", "create", "none"] = Field(
        "canary",
        description="What becomes of versions that passed. canary: users get them, step by step; create: a release "
        "that waits for `bestow release start`; none: they stay in the registry.",
    )
    every_hours: float = Field(168.0, gt=0, description="schedule: shortest time from one turn to the next.")
    min_feedback: int = Field(1000, ge=1, description="schedule: new votes that a turn is worth.")
    retry_hours: float = Field(6.0, gt=0, description="schedule: how long after a failed turn the next is tried.")


def load_settings(path: Path | None) -> CycleSettings:
    """Raises TrainingError, which names the key."""
    if path is None:
        return CycleSettings()
    try:
        return CycleSettings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise TrainingError(f"--settings {path} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        raise TrainingError(f"--settings {path} is no YAML: {' '.join(str(error).split())}.") from None
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise TrainingError(f"--settings {path} is wrong: {said}.") from None
