"""Trains a policy with one of TRL's trainers, from the last checkpoint, with points for curves. Loads torch and TRL."""

import math
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from training.errors import TrainingError
from training.jobs.checkpoints import complete_checkpoint
from training.jobs.looping import Telling, rows_at_once
from training.jobs.models import weights_digest
from training.jobs.ordering import STEPS_SORTED_TOGETHER, training_order
from training.jobs.progress import Progress
from training.policy.encoding import EncodedRow
from training.policy.methods import counts, trainer_of
from training.policy.model import write_policy
from training.policy.settings import PolicySettings
from training.policy.trainer import POINTS, Facts, points_of


def fit(
    rows: Sequence[EncodedRow],
    base: Path,
    settings: PolicySettings,
    seed: int,
    output: Path,
    *,
    start: Path | None = None,
    anchor: Path | None = None,
    left_out: dict[str, int] | None = None,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> Facts | None:
    """Trains and writes `output` in one step at the end. None in all processes but the first. See `trainer.train`.

    checkpoints: a folder to save to every `settings.save_every` steps, and to go on from if there is one.
    Raises TrainingError.
    """
    if not rows:
        raise TrainingError(f"There are no rows that {settings.method} could learn from.")
    started = time.monotonic()
    order = order_of(rows, settings, seed)
    folder, resumable = checkpoints or output.parent, checkpoints is not None
    trainer = trainer_of(rows, order, base, settings, seed, folder, start=start, anchor=anchor, resumable=resumable)
    steps = math.ceil(len(order) / settings.batch)
    run_trainer(trainer, base, settings, output, steps, checkpoints, progress)
    if not trainer.accelerator.is_main_process:
        return None
    used = counts([rows[index] for index in order])
    return facts_of(trainer, settings, seed, output, used=used, left_out=left_out, started=started)


def run_trainer(
    trainer: Any,
    base: Path,
    settings: PolicySettings,
    output: Path,
    steps: int,
    checkpoints: Path | None,
    progress: Progress | None,
) -> None:
    """Goes on from the last whole checkpoint, saves the points of the curves, and writes `output` at the end."""
    points = output.parent / POINTS
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(
        Points(
            points_of(steps, settings.checkpoints),
            lambda step: write(trainer, base, settings, points / str(step)),
        )
    )
    if progress is not None:
        trainer.add_callback(Telling(progress, trainer))
    found = complete_checkpoint(checkpoints) if checkpoints else None
    if found is None and trainer.accelerator.is_main_process:
        shutil.rmtree(points, ignore_errors=True)
    trainer.train(resume_from_checkpoint=str(found) if found else None)
    write(trainer, base, settings, output)


def facts_of(
    trainer: Any,
    settings: PolicySettings,
    seed: int,
    output: Path,
    *,
    used: dict[str, int],
    left_out: dict[str, int] | None,
    started: float,
) -> Facts:
    """started: on the monotonic clock."""
    learning = [(int(entry["step"]), float(entry["loss"])) for entry in trainer.state.log_history if "loss" in entry]
    weights = [(one.numel(), one.requires_grad) for one in trainer.accelerator.unwrap_model(trainer.model).parameters()]
    adapter = sum(count for count, learns in weights if learns) if settings.lora else 0
    return Facts(
        weights=weights_digest(output),
        method=settings.method,
        seed=seed,
        steps=trainer.state.global_step,
        loss=round(statistics.fmean(loss for _, loss in learning[-max(1, len(learning) // 10) :]), 6),
        learning=learning,
        seconds=round(time.monotonic() - started, 3),
        rate=trainer.args.learning_rate,
        parameters=sum(count for count, _ in weights) - adapter,
        trained_parameters=sum(count for count, learns in weights if learns),
        points=sorted(int(path.name) for path in (output.parent / POINTS).iterdir() if path.name.isdigit()),
        used=used,
        left_out=left_out or {},
        processes=trainer.accelerator.num_processes,
        threads=torch.get_num_threads(),
    )


def order_of(rows: Sequence[EncodedRow], settings: PolicySettings, seed: int) -> list[int]:
    """Places of the rows that are trained on, in order. Raises TrainingError where there are none."""
    weights = [row.weight for row in rows]
    epochs = settings.epochs
    if settings.max_steps:
        epochs = math.ceil(settings.max_steps * settings.batch / max(sum(weights) - 1, 1)) + 1
    # Short answers have other labels than long ones: sorted, a batch of kto would have those of one kind.
    together = 1 if settings.method == "kto" else STEPS_SORTED_TOGETHER
    order = training_order(weights, [row.length for row in rows], settings.batch, epochs, seed, "policy", together)
    if settings.max_steps:
        order = order[: settings.max_steps * settings.batch]
    at_once, _ = rows_at_once(settings.batch, settings.micro_batch)
    if settings.method == "kto" and len(order) % at_once == 1:
        # Alone in its batch, an answer would be compared with itself.
        order = order[:-1]
    if not order:
        raise TrainingError("The weights of all rows together are less than one: there is nothing to train on.")
    return order


class Points(TrainerCallback):
    """Saves the model at points of its training."""

    def __init__(self, steps: Sequence[int], write: Callable[[int], None]) -> None:
        self._steps = frozenset(steps)
        self._write = write

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step in self._steps:
            self._write(state.global_step)


def write(trainer: Any, base: Path, settings: PolicySettings, folder: Path) -> None:
    """By the first process; the others only give what they hold."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.accelerator.is_main_process:
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_policy(trainer.accelerator.unwrap_model(trainer.model_wrapped), state, base, settings, folder)
