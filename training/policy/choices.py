"""What `bestow train policy` was told, as settings and folders of models."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gateway.config import Config
from gateway.shared.command_line import read_changes
from training.data.places import home_of
from training.errors import TrainingError
from training.policy.settings import Method, PolicySettings
from training.policy.trainer import ONLINE
from training.registry.registry import Registry

# ruff: noqa: PLC0415  # huggingface_hub and what reward models bring: a second

ANCHOR = "anchor"


@dataclass(frozen=True)
class Models:
    """Folders. named: the base as it was named. parents: refs of what is learnt from or gone on from."""

    base: Path
    named: str
    start: Path | None
    anchor: Path | None
    reward: Path | None
    holdout: Path | None
    reward_named: str | None
    parents: list[str]
    learns_from_reward: bool

    @property
    def of_job(self) -> dict[str, Path]:
        given = {"start": self.start, "anchor": self.anchor, "reward": self.reward if self.learns_from_reward else None}
        return {role: path for role, path in given.items() if path is not None}


def settings_of(changes: list[str], method: Method, full: bool) -> PolicySettings:
    given = {"method": method, "lora": not full, **read_changes(changes)}
    try:
        return PolicySettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        known = ", ".join(PolicySettings.model_fields)
        raise TrainingError(f"--set {key}: {first['msg']}. The settings are {known}.") from error


def policy_name(here: Config, model: str | None) -> str:
    from training.gates.serving import public_model

    if model is not None:
        return public_model(here, model)[1].policy
    if len(here.policies) != 1:
        raise TrainingError(f"There is {', '.join(here.policies) or 'no policy'}: name one with --name.")
    return next(iter(here.policies))


def models_of(
    here: Config,
    kept: Registry,
    name: str,
    base: str | None,
    start: str,
    reward_model: str | None,
    holdout: str | None,
    settings: PolicySettings,
) -> Models:
    from training.jobs.models import base_folder
    from training.policy.anchors import anchor_folder, anchor_of
    from training.policy.publishing import own_number, version_folder

    home = home_of(here)
    configured_policy = here.policies.get(name)
    if base is None and configured_policy is None:
        raise TrainingError(f"There is no policy {name} in the configuration: name its weights with --base.")
    named = base or (configured_policy.model if configured_policy else "")
    parents = []
    anchor: Path | None = None
    if configured_policy is not None:
        holds = anchor_of(home, here, name).version
        if holds != f"{name}@{own_number(here, name)}":
            anchor = anchor_folder(home, here, name, kept)
            parents.append(f"policy:{holds}")
    begin = anchor
    if start != ANCHOR:
        begin, ref = version_folder(kept, start)
        parents.append(ref)
    if settings.method in ("rloo",) and reward_model is None and not settings.graders:
        raise TrainingError("rloo needs something to learn from: --reward-model, or graders (--set graders=[...]).")
    reward, reward_ref = _reward(reward_model, kept, home)
    second, _ = _reward(holdout, kept, home, second=True)
    learns = settings.method in ONLINE and reward is not None
    if reward_ref is not None and (learns or settings.method == "rejection"):
        parents.append(reward_ref)
    return Models(
        base=base_folder(named, "the policy that shall learn"),
        named=named,
        start=begin,
        anchor=anchor,
        reward=reward,
        holdout=second,
        reward_named=reward_model,
        parents=sorted(set(parents)),
        learns_from_reward=learns,
    )


def _reward(named: str | None, kept: Registry, home: Path, *, second: bool = False) -> tuple[Path | None, str | None]:
    """A reward model's folder, and its ref. Raises TrainingError for a holdout, unless it is a `second` opinion."""
    from training.gates.options import known_folder
    from training.reward.versions import CARD, read_card

    if named is None:
        return None, None
    folder, ref = known_folder(named, kept, home)
    if not second and (folder / CARD).is_file() and read_card(folder).split == "holdout":
        raise TrainingError(
            f"{named} is a holdout reward model: no policy may be trained or selected by it. Name one of the split "
            "train with --reward-model."
        )
    return folder, ref
