"""Trains the reward model from the policy's weights on rated groups with the Bradley-Terry loss.

Each group of k answers gives k(k-1)/2 comparisons for k forward passes (Ouyang et al., 2022, section 3.5).
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM, Qwen3ForSequenceClassification

from training.demo.modelling import (
    TrainingFacts,
    by_length,
    model_config,
    pooled_logits,
    render_answered,
    save,
    schedule,
)
from training.demo.muon import HybridOptimizer
from training.demo.raters import RatedGroup
from training.demo.train_policy import Progress


@dataclass(frozen=True)
class RewardSettings:
    """Rates are a fraction of the policy's: the facts are in its weights already."""

    groups_per_step: int = 12
    epochs: int = 1
    adam_rate: float = 2e-3
    muon_rate: float = 0.01
    seed: int = 0


def classifier_from_policy(
    policy: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, labels: Sequence[str], problem: str, seed: int
) -> Qwen3ForSequenceClassification:
    """A classifier with the policy's body and a new head."""
    config = model_config(
        tokenizer,
        attn_implementation="eager",
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type=problem,
    )
    torch.manual_seed(seed)
    model = Qwen3ForSequenceClassification(config)  # type: ignore[no-untyped-call]
    model.model.load_state_dict(policy.model.state_dict())
    return model


def bradley_terry_loss(rewards: torch.Tensor, better: torch.Tensor, worse: torch.Tensor) -> torch.Tensor:
    """Mean -log sigmoid(reward of the preferred - reward of the other), plus a weak pull of rewards to zero.

    Args:
        rewards: (answers,) raw rewards.
        better: (comparisons,) places of the preferred answers.
        worse: (comparisons,) places of the others.
    """
    # The loss does not see a shift of all rewards, so without the pull their level would drift.
    return -F.logsigmoid(rewards[better] - rewards[worse]).mean() + 1e-3 * rewards.square().mean()


def _batches(lengths: Sequence[int], settings: RewardSettings, rng: random.Random) -> list[list[int]]:
    batches: list[list[int]] = []
    for _ in range(settings.epochs):
        order = list(range(len(lengths)))
        rng.shuffle(order)
        chunk = settings.groups_per_step * 24
        for start in range(0, len(order), chunk):
            part = order[start : start + chunk]
            batches += [
                [part[place] for place in group]
                for group in by_length([lengths[index] for index in part], settings.groups_per_step)
            ]
    # Only within an epoch are batches of all lengths spread evenly, so mix them over the whole run.
    rng.shuffle(batches)
    return batches


def train_reward(
    policy: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    groups: Sequence[RatedGroup],
    settings: RewardSettings,
    progress: Progress,
) -> tuple[Qwen3ForSequenceClassification, TrainingFacts]:
    """Train on every comparison of the groups; deterministic from the seed."""
    started = time.monotonic()
    rng = random.Random(f"reward-{settings.seed}")
    model = classifier_from_policy(policy, tokenizer, ["reward"], "regression", settings.seed)
    model.train()
    rows = [[render_answered(tokenizer, group.prompt, answer) for answer in group.answers] for group in groups]
    optimizer = HybridOptimizer(list(model.named_parameters()), settings.adam_rate, settings.muon_rate)
    batches = _batches([max(len(row) for row in group) for group in rows], settings, rng)
    loss_value = 0.0
    for step, batch in enumerate(batches):
        better: list[int] = []
        worse: list[int] = []
        flat: list[list[int]] = []
        for index in batch:
            for first, second in groups[index].pairs():
                better.append(len(flat) + first)
                worse.append(len(flat) + second)
            flat += rows[index]
        rewards = pooled_logits(model, flat)[:, 0]
        loss = bradley_terry_loss(rewards, torch.tensor(better), torch.tensor(worse))
        optimizer.step(loss, schedule(step, len(batches)))
        loss_value = 0.98 * loss_value + 0.02 * loss.item() if step else loss.item()
        progress(step + 1, loss_value)
    comparisons = sum(len(group.prefers_first) for group in groups) * settings.epochs
    return model, TrainingFacts(settings.seed, len(batches), comparisons, time.monotonic() - started, loss_value)


def save_reward(
    model: Qwen3ForSequenceClassification, tokenizer: PreTrainedTokenizerFast, folder: Path, facts: TrainingFacts
) -> None:
    """Write the reward model with its card."""
    about = (
        "Reward model (`Qwen3ForSequenceClassification`, one label, from the policy's weights), trained with the "
        "Bradley-Terry loss on simulated raters' preferences. Render prompt and answer with the chat template, without "
        "generation prompt; the raw logit is the reward. Examples are comparisons."
    )
    save(model, tokenizer, folder, "Bestow demo reward model", about, facts)
