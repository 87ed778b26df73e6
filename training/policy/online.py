"""TRL's RLOO and GRPO trainers: sample, reward, reinforce. Loads torch and TRL.

Of each prompt G = `settings.samples` answers are sampled by the policy as it is, and rewarded; r_i is a weighted sum of
what the reward model and the graders say.

    rloo   r_i' = r_i - beta sum_t log pi(y_t)/pi_0(y_t),   A_i = r_i' - mean of the others' r_j'
           loss = -mean_i A_i rho_i,  rho_i the clipped ratio of the whole answer       (Ahmadian et al., 2402.14740)
    grpo   A_i = (r_i - mean r) / (std r + 1e-4)
           loss = -sum over tokens of A_i rho_i,t - beta (exp(d) - d - 1) / tokens,  d = log pi_0(y_t)/pi(y_t)
           (Shao et al., 2402.03300; per token of the batch as DAPO, 2503.14476: TRL's default)

pi_0 is the anchor: the base's own weights, which are there under a LoRA (the adapter is switched off), and are loaded
beside it where all weights are trained. Answers are sampled by transformers in this process. On GPUs TRL can sample by
vLLM instead (`use_vllm` with `vllm_mode` colocate or server); that is not offered here, since nobody has tried it.

A batch is of prompts: a step sees `batch` x `samples` answers. An incomplete batch at the end is left out.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer

from training.errors import TrainingError
from training.jobs.looping import LOSSES_KEPT, OurTrainer, rows_at_once, without_gpu
from training.jobs.models import is_large
from training.jobs.ordering import training_order
from training.jobs.progress import Progress
from training.policy.encoding import EncodedRow, PolicyTemplate
from training.policy.fitting import facts_of, run_trainer
from training.policy.model import load_model, lora_config, policy_to_train, start_from
from training.policy.rates import default_rate
from training.policy.rewards import RewardFunction, reward_functions
from training.policy.settings import PolicySettings
from training.policy.trainer import Facts

# TRL's names of what it measures at each step, and ours.
_CURVES = {
    "kl": "kl_per_token",
    "completions/mean_length": "tokens",
    "completions/clipped_ratio": "cut",
    "reward": "reward",
}


def fit_online(
    rows: Sequence[EncodedRow],
    base: Path,
    settings: PolicySettings,
    seed: int,
    output: Path,
    *,
    start: Path | None = None,
    reward: Path | None = None,
    left_out: dict[str, int] | None = None,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> Facts | None:
    """Trains and writes `output` in one step at the end. None in all processes but the first. See `trainer.train`.

    rows: prompts. A run that was killed goes on from the last whole checkpoint in `checkpoints`, with the same random
    numbers as if it had not been. Raises TrainingError.
    """
    started = time.monotonic()
    order = prompt_order(rows, settings, seed)
    used = [rows[place] for place in order]
    functions, weights = reward_functions(used, PolicyTemplate(base), settings, reward)
    folder = checkpoints or output.parent
    trainer = online_trainer(
        used, base, settings, seed, folder, functions, weights, start=start, resumable=checkpoints is not None
    )
    run_trainer(trainer, base, settings, output, len(used) // settings.batch, checkpoints, progress)
    if not trainer.accelerator.is_main_process:
        return None
    counted = {"answers": len(used) * settings.samples, "prompts": len(used)}
    facts = facts_of(trainer, settings, seed, output, used=counted, left_out=left_out, started=started)
    history = trainer.state.log_history
    measured: dict[str, Any] = {ours: found for theirs, ours in _CURVES.items() if (found := _curve(history, theirs))}
    rewards = {name: _curve(history, f"rewards/{name}/mean") for name in functions}
    return msgspec.structs.replace(facts, measures={**measured, "rewards": rewards})


def online_trainer(
    used: Sequence[EncodedRow],
    base: Path,
    settings: PolicySettings,
    seed: int,
    folder: Path,
    functions: Mapping[str, RewardFunction],
    weights: Sequence[float],
    *,
    start: Path | None = None,
    resumable: bool = False,
) -> Any:
    """TRL's trainer on these prompts, in their order. folder: for checkpoints. Raises TrainingError."""
    model = policy_to_train(base, start, settings)
    parameters = sum(one.numel() for one in model.parameters())
    kind = OurRLOO if settings.method == "rloo" else OurGRPO
    trainer: Any = kind(
        model=model,
        reward_funcs=list(functions.values()),
        args=_arguments(settings, seed, len(used) // settings.batch, weights, folder, resumable, parameters),
        # Places, not texts: their ids are made already, as workers make them.
        train_dataset=Dataset.from_dict({"prompt": [str(place) for place in range(len(used))]}),
        processing_class=AutoTokenizer.from_pretrained(base, padding_side="left"),
        peft_config=lora_config(settings, start),
        order=range(len(used)),
        prompt_ids=[list(row.prompt_ids) for row in used],
    )
    if start is not None:
        _hold_to_base(trainer, base, start, settings)
    return trainer


def prompt_order(rows: Sequence[EncodedRow], settings: PolicySettings, seed: int) -> list[int]:
    """Places of the prompts, in whole batches. Raises TrainingError where there are fewer than one batch."""
    if not rows:
        raise TrainingError(f"There are no prompts that {settings.method} could learn from.")
    weights, lengths = [row.weight for row in rows], [len(row.prompt_ids) for row in rows]
    epochs = settings.epochs
    if settings.max_steps:
        epochs = math.ceil(settings.max_steps * settings.batch / max(sum(weights) - 1, 1)) + 1
    order = training_order(weights, lengths, settings.batch, epochs, seed, "policy")
    whole = len(order) // settings.batch * settings.batch
    if settings.max_steps:
        whole = min(whole, settings.max_steps * settings.batch)
    if not whole:
        raise TrainingError(
            f"{len(order)} prompts are less than a batch of {settings.batch}: give more, or say "
            f"--set batch={len(order)}."
        )
    return order[:whole]


def _arguments(
    settings: PolicySettings,
    seed: int,
    steps: int,
    weights: Sequence[float],
    folder: Path,
    resumable: bool,
    parameters: int,
) -> RLOOConfig | GRPOConfig:
    at_once, times = rows_at_once(settings.batch, settings.micro_batch)
    gpu = torch.cuda.is_available()
    kind = RLOOConfig if settings.method == "rloo" else GRPOConfig
    return kind(
        output_dir=str(folder),
        seed=seed,
        data_seed=seed,
        learning_rate=settings.rate or default_rate(parameters, settings.method, settings.lora),
        weight_decay=settings.decay,
        max_steps=steps,
        per_device_train_batch_size=at_once * settings.samples,
        gradient_accumulation_steps=times,
        num_generations=settings.samples,
        max_completion_length=settings.max_new_tokens,
        temperature=settings.temperature,
        beta=settings.beta,
        reward_weights=list(weights),
        shuffle_dataset=False,  # the order is ours
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(settings.warm_up * steps),
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


def _hold_to_base(trainer: Any, base: Path, start: Path, settings: PolicySettings) -> None:
    """Training goes on from `start`; what it is held near stays the base, where TRL would take `start` itself."""
    if settings.lora:
        start_from(trainer.model, start)
    elif trainer.ref_model is not None:
        reference = trainer.accelerator.unwrap_model(trainer.ref_model)
        reference.load_state_dict(load_model(base, "float32").state_dict())


def _curve(history: Sequence[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(int(entry["step"]), float(entry[name])) for entry in history if entry.get(name) is not None]


class _Online(OurTrainer):
    """prompt_ids: by place, which is what the prompts are."""

    processing_class: Any

    def __init__(self, *, prompt_ids: Sequence[list[int]], **named: Any) -> None:
        self._prompt_ids = prompt_ids
        super().__init__(**named)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """TRL's: each prompt as often as answers are sampled to it."""
        return super(OurTrainer, self)._get_train_sampler(train_dataset)  # type: ignore[misc]

    def _tokenize_prompts(self, prompts: Sequence[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [list(self._prompt_ids[int(place)]) for place in prompts], None, {}

    def compute_loss(self, *given: Any, **named: Any) -> Any:
        found = super().compute_loss(*given, **named)  # type: ignore[misc]
        self.last_loss = found.detach()
        return found

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """TRL would put one into every checkpoint."""


class OurRLOO(_Online, RLOOTrainer):
    pass


class OurGRPO(_Online, GRPOTrainer):
    pass
