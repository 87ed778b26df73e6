"""TRL's RewardTrainer on pairs and thumbs in one stream of batches. Loads torch and TRL.

What is TRL's: the loop, mixed precision, gradient accumulation, several processes, checkpoints. What is ours: the loss
(`objective`), the order of rows (`ordering`), a and b beside the model, and nothing logged per step: on a model of a
million weights TRL's own metrics cost as much as the step.
"""

import functools
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, List, Value
from transformers import AutoTokenizer, PrinterCallback
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from training.errors import TrainingError
from training.jobs.checkpoints import complete_checkpoint
from training.jobs.looping import LOSSES_KEPT, OurTrainer, Telling, rows_at_once, without_gpu
from training.jobs.models import is_large, weights_digest
from training.jobs.ordering import training_order
from training.jobs.progress import Progress
from training.reward.base import default_rate, load_model, padding_id, save_model, with_lora
from training.reward.encoding import EncodedRow
from training.reward.objective import LabelHead, loss
from training.reward.settings import RewardSettings
from training.reward.trainer import Facts

_HEAD = "label"


def fit(
    rows: Sequence[EncodedRow],
    base: Path,
    settings: RewardSettings,
    seed: int,
    output: Path,
    *,
    left_out: dict[str, int] | None = None,
    checkpoints: Path | None = None,
    adapter: Path | None = None,
    progress: Progress | None = None,
) -> Facts | None:
    """Trains and writes `output` in one step at the end. None in all processes but the first.

    checkpoints: a folder to save to every `settings.save_every` steps, and to go on from if there is one.
    adapter: where the LoRA is kept too, unmerged. Raises TrainingError.
    """
    if not rows:
        raise TrainingError("There are no rows to train on: the snapshot has no pairs and no thumbs that can be used.")
    started = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(base)
    padding = padding_id(tokenizer, _ends(rows))
    model = _trainable(load_model(base, settings, seed, padding), settings)
    parameters = sum(weights.numel() for weights in model.parameters())
    trained = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
    rate = settings.rate or default_rate(parameters, settings.method)
    scratch = checkpoints or output.parent
    order = training_order(
        [row.weight for row in rows], [row.length for row in rows], settings.batch, settings.epochs, seed
    )
    if not order:
        raise TrainingError("The weights of all rows together are less than one: there is nothing to train on.")
    trainer = PairsAndThumbs(
        model=model,
        args=_arguments(settings, rate, seed, scratch, len(order), parameters, checkpoints is not None),
        train_dataset=_dataset(rows),
        processing_class=tokenizer,
        data_collator=Collator(padding, settings.margins),
        order=order,
        settings=settings,
    )
    trainer.remove_callback(PrinterCallback)
    if progress is not None:
        trainer.add_callback(Telling(progress, trainer))
    found = complete_checkpoint(checkpoints) if checkpoints else None
    trainer.train(resume_from_checkpoint=str(found) if found else None)
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.accelerator.is_main_process:
        return None
    weights = {name: value.detach().cpu() for name, value in state.items()}
    a, b = _write(weights, base, settings, padding, output, adapter)
    used = [rows[index] for index in order]
    learning = [(int(entry["step"]), float(entry["loss"])) for entry in trainer.state.log_history if "loss" in entry]
    return Facts(
        weights=weights_digest(output),
        seed=seed,
        a=a,
        b=b,
        steps=trainer.state.global_step,
        loss=round(learning[-1][1], 6),
        learning=learning,
        seconds=round(time.monotonic() - started, 3),
        rate=rate,
        parameters=parameters - 2,
        trained_parameters=trained,
        used={
            "pairs": sum(row.label is None for row in used),
            "thumbs up": sum(row.label is True for row in used),
            "thumbs down": sum(row.label is False for row in used),
        },
        left_out=left_out or {},
        processes=trainer.accelerator.num_processes,
        threads=torch.get_num_threads(),
    )


def _ends(rows: Sequence[EncodedRow]) -> set[int]:
    return {int(ids[-1]) for row in rows for ids in (row.chosen_ids, row.rejected_ids) if ids is not None}


def _trainable(model: Any, settings: RewardSettings) -> Any:
    """With a and b as a part of it, so that they are saved, shared among processes and sharded with the rest."""
    model.add_module(_HEAD, LabelHead())
    plain = model.forward

    @functools.wraps(plain)
    def forward(*values: Any, **named: Any) -> Any:
        answered = plain(*values, **named)
        rewards = answered.logits[:, 0].float()
        answered.logits = torch.stack([rewards, model.get_submodule(_HEAD)(rewards)], dim=1)
        return answered

    # PEFT calls `forward` itself, past all hooks; and a subclass would be written into config.json as architecture.
    model.forward = forward
    return with_lora(model, settings) if settings.method == "lora" else model


def _write(
    weights: dict[str, torch.Tensor],
    base: Path,
    settings: RewardSettings,
    padding: int,
    output: Path,
    adapter: Path | None,
) -> tuple[float, float]:
    """The folder of the trained model, made beside it and renamed; a and b. Only plain weights: LoRA is merged."""
    # A model of its own: what was trained may lie in pieces on several devices.
    model = _trainable(load_model(base, settings, 0, padding), settings)
    model.load_state_dict(weights)
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if settings.method == "lora":
        if adapter is not None:
            model.save_pretrained(adapter)
        model = model.merge_and_unload()
    head = model.get_submodule(_HEAD)
    a, b = head.log_a.exp().item(), head.b.item()
    del model._modules[_HEAD]
    save_model(model, base, settings, partial)
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
    return a, b


def _dataset(rows: Sequence[EncodedRow]) -> Dataset:
    ids = List(Value("int32"))
    features = Features({"chosen_ids": ids, "rejected_ids": ids, "margin": Value("float32"), "label": Value("bool")})
    columns = {name: [getattr(row, name) for row in rows] for name in features}
    return Dataset.from_dict(columns, features=features)


def _arguments(
    settings: RewardSettings, rate: float, seed: int, folder: Path, rows: int, parameters: int, resumable: bool
) -> RewardConfig:
    at_once, times = rows_at_once(settings.batch, settings.micro_batch)
    gpu = torch.cuda.is_available()
    steps = math.ceil(rows / settings.batch)
    return RewardConfig(
        output_dir=str(folder),
        seed=seed,
        data_seed=seed,
        learning_rate=rate,
        weight_decay=settings.decay,
        num_train_epochs=1,  # the order holds all of them
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=times,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(settings.warm_up * steps),
        max_length=None,  # rows that are too long are gone already, and counted
        bf16=gpu and settings.dtype == "bfloat16",
        gradient_checkpointing=is_large(parameters),
        save_strategy="steps" if resumable else "no",
        save_steps=settings.save_every,
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=max(1, steps // LOSSES_KEPT),
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=gpu,
        ddp_find_unused_parameters=False,
        use_cpu=without_gpu(),
    )


class Collator:
    """Rows to one padded batch: better answers, then the others, then answers with thumbs."""

    def __init__(self, padding: int, margins: bool) -> None:
        self._padding = padding
        self._margins = margins

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        pairs = [row for row in rows if row["label"] is None]
        thumbs = [row for row in rows if row["label"] is not None]
        texts = [
            torch.tensor(ids)
            for ids in (
                *(row["chosen_ids"] for row in pairs),
                *(row["rejected_ids"] for row in pairs),
                *(row["chosen_ids"] for row in thumbs),
            )
        ]
        lengths = torch.tensor([len(ids) for ids in texts])
        ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=self._padding)
        return {
            "input_ids": ids,
            "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long(),
            "margins": torch.tensor([row["margin"] if self._margins else 0.0 for row in pairs], dtype=torch.float32),
            "labels": torch.tensor([row["label"] for row in thumbs], dtype=torch.float32),
        }


class PairsAndThumbs(OurTrainer, RewardTrainer):
    """TRL's trainer with our loss and our order of rows."""

    def __init__(self, *, settings: RewardSettings, **named: Any) -> None:
        self._settings = settings
        super().__init__(**named)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW; a and b have a rate of their own: that of a large model's weights would leave them at 1 and 0."""
        if self.optimizer is None:
            of: Any = self.model if model is None else model
            decayed = set(self.get_decay_parameter_names(of))
            groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
            for name, weights in of.named_parameters():
                if weights.requires_grad:
                    of_labels = f"{_HEAD}." in name
                    rate = self._settings.label_rate if of_labels else self.args.learning_rate
                    decay = self.args.weight_decay if name in decayed and not of_labels else 0.0
                    groups.setdefault((rate, decay), []).append(weights)
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, of)
            self.optimizer = kind(
                [{"params": some, "lr": rate, "weight_decay": decay} for (rate, decay), some in groups.items()],
                **options,
            )
        return self.optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        answered = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        rewards, label_logits = answered.logits.float().unbind(dim=1)
        found = loss(
            rewards,
            label_logits,
            inputs["margins"],
            inputs["labels"],
            centring=self._settings.centring,
            label_weight=self._settings.label_weight,
        )
        self.last_loss = found.detach()
        return found
