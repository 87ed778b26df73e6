"""What all of our trainers share on top of TRL's: order of rows, sealed checkpoints, progress. Loads torch.

What is TRL's: the loop, mixed precision, gradient accumulation, several processes, checkpoints, and its losses.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import TrainerCallback

from training.errors import TrainingError
from training.jobs.checkpoints import seal
from training.jobs.progress import Progress, Step

LOSSES_KEPT = 50
_SECONDS_BETWEEN_STEPS_TOLD = 1.0


def join_others(processes: int) -> PartialState:
    """Meets the other processes of the job. Raises TrainingError where fewer work together than were started.

    That would be silent: each would train for itself, and write over what the others wrote.
    """
    together = PartialState(cpu=without_gpu())
    if together.num_processes != processes:
        raise TrainingError(
            f"The job has {processes} processes, but {together.num_processes} work together here: start them with "
            "`accelerate launch` and a configuration for this machine's devices."
        )
    return together


def without_gpu() -> bool:
    return not torch.accelerator.is_available()


def rows_at_once(batch: int, micro_batch: int | None) -> tuple[int, int]:
    """Rows that a device holds, and how often it does before a step. Raises TrainingError where they do not fit."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    at_once = micro_batch or max(1, batch // processes)
    if batch % (at_once * processes):
        raise TrainingError(
            f"A batch of {batch} rows cannot be shared by {processes} processes, {at_once} rows at once: "
            f"choose --set batch as a multiple of {at_once * processes}."
        )
    return at_once, batch // (at_once * processes)


class OurTrainer:
    """To be named before one of TRL's trainers as a base class.

    order: places of the rows that are trained on. last_loss: of the step before.
    """

    args: Any
    state: Any
    accelerator: Any

    def __init__(self, *, order: Sequence[int], **named: Any) -> None:
        self._order = order
        self.last_loss = torch.tensor(math.nan)
        super().__init__(**named)

    def _send_telemetry(self) -> None:
        """TRL would tell its makers of each run; what is trained here is nobody else's business."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        """The rows are token ids already."""
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return Ordered(self._order)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        self.accelerator.wait_for_everyone()  # all processes write their random state
        if self.accelerator.is_main_process:
            seal(Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}")


class Telling(TrainerCallback):
    """Tells where the run is: the first and the last step, and about once a second between."""

    def __init__(self, progress: Progress, trainer: OurTrainer, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._trainer = trainer
        self._clock = clock

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._first, self._started = state.global_step, self._clock()
        self._told = -math.inf

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = self._clock()
        waits = now - self._told < _SECONDS_BETWEEN_STEPS_TOLD and state.global_step < state.max_steps
        if waits or not state.is_world_process_zero:
            return
        self._told = now
        seconds, done = now - self._started, state.global_step - self._first
        to_go = seconds / done * (state.max_steps - state.global_step) if done else None
        self._progress(Step(state.global_step, state.max_steps, float(self._trainer.last_loss), seconds, to_go))


class Ordered(Sampler[int]):
    """The given places, in their order."""

    def __init__(self, order: Sequence[int]) -> None:
        self._order = order

    def __iter__(self) -> Iterator[int]:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)
