"""A policy from rows, in this process: what a job does, and what experiments call many times.

    rows = policy_rows(snapshot, "train", "kto", settings)
    facts = train(rows, base, PolicySettings(method="kto"), seed=0, output=folder / "model")

`output` is then a LoRA adapter that vLLM loads as it is, or with `lora=False` a plain Hugging Face folder, written at
once when all is done; beside it points/<step>/ has the same at `settings.checkpoints` points of the training. The same
rows, base, settings and seed give the same weights. Light: torch and TRL load at the first call.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from training.data.rows import Demonstration, Preference, PromptOnly, Unpaired
from training.errors import TrainingError
from training.jobs.progress import Progress
from training.policy.settings import PolicySettings

if TYPE_CHECKING:
    from training.policy.encoding import EncodedRow

# ruff: noqa: PLC0415  # torch and TRL: 7 s

POINTS = "points"
ONLINE = ("rloo", "grpo")


@dataclass(frozen=True)
class PolicyRows:
    """What is learnt from; a method reads one kind of them. The weight of each is its sidecar's.

    demonstrations: sft and rejection. pairs: dpo. thumbs: kto. prompts: rloo and grpo. left_out: rows by reason.
    """

    demonstrations: Sequence[Demonstration] = ()
    pairs: Sequence[Preference] = ()
    thumbs: Sequence[Unpaired] = ()
    prompts: Sequence[PromptOnly] = ()
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> Sequence[Demonstration | Preference | Unpaired | PromptOnly]:
        return [*self.demonstrations, *self.pairs, *self.thumbs, *self.prompts]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a training run says of itself.

    weights: SHA-256 of the safetensors. learning: (step, mean loss since the one before), about 50 of them; loss: the
    mean of the last tenth of these. parameters: of the model; trained_parameters: of the adapter, where there is one.
    points: steps at which the model was saved for curves. used: rows by kind, as often as each was trained on.
    left_out: rows by reason that could not be. threads: of torch; more or fewer round differently. measures: what a
    method says beside that.
    """

    weights: str
    method: str
    seed: int
    steps: int
    loss: float
    learning: list[tuple[int, float]]
    seconds: float
    rate: float
    parameters: int
    trained_parameters: int
    points: list[int]
    used: dict[str, int]
    left_out: dict[str, int]
    processes: int = 1
    threads: int = 1
    measures: dict[str, Any] = {}


def train(
    rows: PolicyRows,
    base: Path,
    settings: PolicySettings,
    seed: int,
    output: Path,
    *,
    start: Path | None = None,
    anchor: Path | None = None,
    reward: Path | None = None,
    progress: Progress | None = None,
    checkpoints: Path | None = None,
) -> Facts:
    """Trains on the rows and writes the folder `output`. base: whole weights, which a LoRA lies on.

    start: another version of the policy to go on from than the base. anchor: another one to be held near than the base;
    dpo and kto alone know it. Both are adapters, or whole weights, as what is trained.
    reward: the reward model's folder, for rloo and grpo. checkpoints: a folder to go on from where a run was killed.
    Raises TrainingError where nothing can be learnt from the rows or the base is no language model.
    """
    from training.policy.encoding import encode_rows

    encoded, left_out = encode_rows(rows, base, settings)
    facts = fit_by_method(
        encoded,
        base,
        settings,
        seed,
        output,
        models={"start": start, "anchor": anchor, "reward": reward},
        left_out=left_out,
        progress=progress,
        checkpoints=checkpoints,
    )
    assert facts is not None  # None is for the other processes of a job
    return facts


def fit_by_method(
    rows: Sequence["EncodedRow"],
    base: Path,
    settings: PolicySettings,
    seed: int,
    output: Path,
    *,
    models: Mapping[str, Path | None],
    left_out: dict[str, int],
    progress: Progress | None,
    checkpoints: Path | None,
) -> Facts | None:
    """Offline or online. models: start, anchor, reward. None in all processes but the first. Raises TrainingError."""
    start, anchor, reward = (models.get(role) for role in ("start", "anchor", "reward"))
    common: dict[str, Any] = {"left_out": left_out, "progress": progress, "checkpoints": checkpoints}
    if settings.method in ONLINE:
        from training.policy.online import fit_online

        if anchor is not None:
            raise TrainingError(
                f"{settings.method} is held near the base alone, and the anchor was moved: use dpo or kto."
            )
        return fit_online(rows, base, settings, seed, output, start=start, reward=reward, **common)
    from training.policy.fitting import fit

    if reward is not None:
        raise TrainingError(f"The method {settings.method} asks no reward model: leave it out.")
    return fit(rows, base, settings, seed, output, start=start, anchor=anchor, **common)


def points_of(steps: int, count: int) -> list[int]:
    """At most `count` steps, evenly spread; the last one is the last of all."""
    return sorted({max(1, round(place * steps / count)) for place in range(1, count + 1)}) if steps else []
