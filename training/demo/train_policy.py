"""Trains the chat policy on dialogues of mixed quality, the way an un-aligned base model talks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from training.demo.answers import mixed_answer
from training.demo.modelling import (
    IGNORED,
    TrainingFacts,
    attention_mask,
    by_length,
    model_config,
    pad,
    save,
    schedule,
    supervise,
)
from training.demo.muon import HybridOptimizer
from training.demo.prompts import chat_prompt, training_prompt
from training.demo.tokenizer import PAD_ID

Progress = Callable[[int, float], None]  # called with (steps done, loss)


@dataclass(frozen=True)
class PolicySettings:
    """Found by trial on two cores: fewer steps leave the facts unlearnt."""

    steps: int = 1300
    batch: int = 32
    adam_rate: float = 4e-3
    muon_rate: float = 0.02
    small_talk: float = 0.04
    inviting: float = 0.06
    seed: int = 0


def dialogue(rng: random.Random, settings: PolicySettings) -> list[dict[str, str]]:
    """One training conversation, ending in an assistant's answer."""
    if rng.random() < settings.small_talk:
        prompt, answer = chat_prompt(rng)
    else:
        prompt = training_prompt(rng, inviting=settings.inviting)
        answer = mixed_answer(prompt, rng)
    return [*prompt.as_messages(), {"role": "assistant", "content": answer}]


def language_loss(model: Qwen3ForCausalLM, rows: list[tuple[list[int], list[int]]]) -> torch.Tensor:
    """Mean cross entropy per labelled token."""
    ids = [row[0] for row in rows]
    hidden = model.model(input_ids=pad(ids, PAD_ID), attention_mask=attention_mask(ids)).last_hidden_state
    labels = pad([row[1] for row in rows], IGNORED)[:, 1:]
    wanted = labels != IGNORED
    # Logits only where there is a label: the vocabulary is the largest matrix product of the model.
    return F.cross_entropy(model.lm_head(hidden[:, :-1][wanted]), labels[wanted])


def train_policy(
    tokenizer: PreTrainedTokenizerFast, settings: PolicySettings, progress: Progress
) -> tuple[Qwen3ForCausalLM, TrainingFacts]:
    """Train from scratch; deterministic from the seed on one machine and thread count."""
    started = time.monotonic()
    rng = random.Random(f"policy-{settings.seed}")
    torch.manual_seed(settings.seed)
    # Eager attention has the faster backward pass at this size.
    model = Qwen3ForCausalLM(model_config(tokenizer, attn_implementation="eager"))  # type: ignore[no-untyped-call]
    model.train()
    optimizer = HybridOptimizer(list(model.named_parameters()), settings.adam_rate, settings.muon_rate)
    step, loss_value, ahead = 0, 0.0, 16
    while step < settings.steps:
        rows = [supervise(tokenizer, dialogue(rng, settings)) for _ in range(ahead * settings.batch)]
        groups = list(by_length([len(row[0]) for row in rows], settings.batch))
        rng.shuffle(groups)
        for group in groups[: settings.steps - step]:
            loss = language_loss(model, [rows[index] for index in group])
            optimizer.step(loss, schedule(step, settings.steps))
            step, loss_value = step + 1, 0.98 * loss_value + 0.02 * loss.item() if step else loss.item()
            progress(step, loss_value)
    facts = TrainingFacts(
        settings.seed, settings.steps, settings.steps * settings.batch, time.monotonic() - started, loss_value
    )
    return model, facts


def save_policy(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, facts: TrainingFacts
) -> None:
    """Write the policy with its card."""
    about = "Chat policy (Qwen3, byte-level BPE, chat template) that answers everyday questions, well or badly."
    save(model, tokenizer, folder, "Bestow demo policy", about, facts)
