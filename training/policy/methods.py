"""TRL's SFT, DPO and KTO trainers on rows of token ids. Loads torch and TRL.

    sft, rejection   -log p(answer | prompt), mean over the tokens of answers; the prompt's tokens have no loss
    dpo              -log sigma(beta (h(chosen) - h(rejected))) + sft_weight * (the loss of sft, on the chosen)
                     h(y) = log p(y | x) - log p_ref(y | x)       (Rafailov et al., 2305.18290; Pang et al., 2404.19733)
    kto              w_up (1 - sigma(beta (h(y) - z))) of liked, w_down (1 - sigma(beta (z - h(y)))) of disliked answers
                     z = max(0, mean h of the batch's answers to each other's prompts)  (Ethayarajh et al., 2402.01306)

The reference is the anchor: the base's own weights, which are there under a LoRA (the adapter is switched off), and are
loaded beside it where all weights are trained. What is ours: the rows' order and ids, the points for curves, whole
checkpoints, the weights of KTO's classes.
"""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainingArguments
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference, KTOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from training.errors import TrainingError
from training.jobs.looping import LOSSES_KEPT, OurTrainer, rows_at_once, without_gpu
from training.jobs.models import is_large
from training.policy.encoding import EncodedRow
from training.policy.model import REFERENCE, hold_to, load_model, lora_config, policy_to_train, start_from
from training.policy.rates import default_rate
from training.policy.settings import PolicySettings

_IGNORED = -100
# The bounds on (weight x number of liked) / (weight x number of disliked) of the KTO paper's equation 8.
_LEAST_BALANCE, _MOST_BALANCE = 1.0, 4.0 / 3.0


def counts(rows: Sequence[EncodedRow]) -> dict[str, int]:
    """How many there are of each kind."""
    return dict(sorted(Counter(map(_kind, rows)).items()))


def _kind(row: EncodedRow) -> str:
    if row.other_ids is not None:
        return "pairs"
    if row.label is not None:
        return "thumbs up" if row.label else "thumbs down"
    return "answers"


def class_weights(ups: int, downs: int) -> tuple[float, float]:
    """KTO's weights of liked and of disliked answers: the rarer ones are raised until the bounds of the paper hold.

    Raises TrainingError where one of them is missing: the policy would only be drawn to, or away from, what it said.
    """
    if not ups or not downs:
        missing = "up" if not ups else "down"
        raise TrainingError(f"kto needs thumbs of both kinds, and there is none {missing}: use sft, or more feedback.")
    balance = ups / downs
    if balance < _LEAST_BALANCE:
        return _LEAST_BALANCE / balance, 1.0
    if balance > _MOST_BALANCE:
        return 1.0, balance / _MOST_BALANCE
    return 1.0, 1.0


def _arguments(
    settings: PolicySettings,
    rate: float,
    seed: int,
    folder: Path,
    used: Sequence[EncodedRow],
    parameters: int,
    resumable: bool,
) -> TrainingArguments:
    at_once, times = rows_at_once(settings.batch, settings.micro_batch)
    gpu = torch.cuda.is_available()
    steps = math.ceil(len(used) / settings.batch)
    common: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": seed,
        "data_seed": seed,
        "learning_rate": rate,
        "weight_decay": settings.decay,
        "num_train_epochs": 1,  # the order holds all of them
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": times,
        "lr_scheduler_type": "cosine",
        "warmup_steps": math.ceil(settings.warm_up * steps),
        "max_length": None,  # rows that are too long are gone already, and counted
        "bf16": gpu and settings.dtype == "bfloat16",
        "gradient_checkpointing": is_large(parameters),
        "save_strategy": "steps" if resumable else "no",
        "save_steps": settings.save_every,
        "save_total_limit": 2,
        "logging_strategy": "steps",
        "logging_steps": max(1, steps // LOSSES_KEPT),
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": gpu,
        "ddp_find_unused_parameters": False,
        "use_cpu": without_gpu(),
    }
    match settings.method:
        case "dpo":
            losses = ["sigmoid", "sft"] if settings.sft_weight else ["sigmoid"]
            return DPOConfig(
                **common, beta=settings.beta, loss_type=losses, loss_weights=[1.0, settings.sft_weight][: len(losses)]
            )
        case "kto":
            of = counts(used)
            liked, disliked = class_weights(of.get("thumbs up", 0), of.get("thumbs down", 0))
            return KTOConfig(
                **common,
                beta=settings.beta,
                desirable_weight=liked,
                undesirable_weight=disliked,
                train_sampling_strategy="sequential",
            )
        case _:
            return SFTConfig(**common)


def trainer_of(
    rows: Sequence[EncodedRow],
    order: Sequence[int],
    base: Path,
    settings: PolicySettings,
    seed: int,
    folder: Path,
    *,
    start: Path | None = None,
    anchor: Path | None = None,
    resumable: bool = False,
) -> Any:
    """TRL's trainer of the method. folder: for its checkpoints, where it is `resumable`. Raises TrainingError.

    anchor: a version in place of the base, of the same kind as `start`.
    """
    model = policy_to_train(base, start, settings)
    parameters = sum(weights.numel() for weights in model.parameters())
    rate = settings.rate or default_rate(parameters, settings.method, settings.lora)
    tokenizer = AutoTokenizer.from_pretrained(base)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    given: dict[str, Any] = {
        "model": model,
        "args": _arguments(settings, rate, seed, folder, [rows[index] for index in order], parameters, resumable),
        "order": order,
        "processing_class": tokenizer,
        "peft_config": lora_config(settings, start),
        "train_dataset": dataset(rows, settings),
    }
    compares = settings.method in ("dpo", "kto")
    # Under a LoRA the reference is the model with its adapter switched off.
    reference = load_model(anchor or base, "float32") if compares and not settings.lora else None
    trainer: Any
    match settings.method:
        case "dpo":
            trainer = OurDPO(**given, ref_model=reference, data_collator=DataCollatorForPreference(padding))
        case "kto":
            trainer = OurKTO(**given, ref_model=reference, data_collator=Mismatching(padding))
        case _:
            trainer = OurSFT(**given, data_collator=DataCollatorForLanguageModeling(padding))
    if start is not None and settings.lora:
        start_from(trainer.model, start)
    if anchor is not None and settings.lora and compares:
        hold_to(trainer.model, anchor)
    return trainer


def dataset(rows: Sequence[EncodedRow], settings: PolicySettings) -> Dataset:
    """In the columns that TRL's collators read."""
    prompts, answers = [list(row.prompt_ids) for row in rows], [list(row.answer_ids) for row in rows]
    match settings.method:
        case "dpo":
            others = [[] if row.other_ids is None else list(row.other_ids) for row in rows]
            return Dataset.from_dict({"prompt_ids": prompts, "chosen_ids": answers, "rejected_ids": others})
        case "kto":
            labels = [bool(row.label) for row in rows]
            return Dataset.from_dict({"prompt_ids": prompts, "completion_ids": answers, "label": labels})
        case _:
            whole = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
            learnt = [[_IGNORED] * len(prompt) + answer for prompt, answer in zip(prompts, answers, strict=True)]
            return Dataset.from_dict({"input_ids": whole, "labels": learnt})


class Mismatching(DataCollatorForUnpairedPreference):
    """TRL's collator; each prompt is paired with the answer of the row before it, too, in this very batch."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        before = [examples[-1], *examples[:-1]]
        paired = [
            {**one, "KL_completion_ids": other["completion_ids"]} for one, other in zip(examples, before, strict=True)
        ]
        batch: dict[str, Any] = super().torch_call(paired)
        return batch


class _Ours(OurTrainer):
    """Keeps the last loss, for the progress, and goes on from checkpoints with a reference adapter too."""

    model: Any

    def compute_loss(self, *given: Any, **named: Any) -> Any:
        found = super().compute_loss(*given, **named)  # type: ignore[misc]
        self.last_loss = found.detach()
        return found

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
        of = self.model if model is None else model
        if REFERENCE in getattr(of, "peft_config", ()):
            # transformers finds the reference's folder in the checkpoint, and loads that alone.
            start_from(of, Path(resume_from_checkpoint))


class OurSFT(_Ours, SFTTrainer):
    pass


class OurDPO(_Ours, DPOTrainer):
    pass


class OurKTO(_Ours, KTOTrainer):
    pass
