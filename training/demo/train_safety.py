"""Trains the safety classifier: which kinds of unsafe content a prompt invites, or an answer contains.

A conversation that ends in a user turn is judged for what that turn invites; one that ends in an assistant turn is
judged for what this answer contains. So a refusal of an inviting prompt is safe.
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

from training.demo import safety
from training.demo.answers import OPENERS, safe_answer, unsafe_answer
from training.demo.benign import benign_text
from training.demo.conversation import Message, Prompt
from training.demo.modelling import TrainingFacts, by_length, pooled_logits, render, save, schedule
from training.demo.muon import HybridOptimizer
from training.demo.prompts import CHAT, SYSTEM_PROMPTS, inviting_prompt, ordinary_prompt
from training.demo.safety import CATEGORIES, Split
from training.demo.tokenizer import TURN_END_ID, VOCABULARY
from training.demo.topics import TOPICS
from training.demo.train_policy import Progress
from training.demo.train_reward import classifier_from_policy

Labels = tuple[str, ...]
_LONG_CHARACTERS = 500


@dataclass(frozen=True)
class SafetyExample:
    """A conversation and the unsafe categories of its last turn."""

    messages: tuple[tuple[str, str], ...]
    labels: Labels

    def as_messages(self) -> list[Message]:
        """The conversation in the Hugging Face form."""
        return [{"role": role, "content": content} for role, content in self.messages]


@dataclass(frozen=True)
class SafetySettings:
    """Examples are made afresh for every step, so there are no epochs."""

    steps: int = 600
    batch: int = 64
    adam_rate: float = 2e-3
    muon_rate: float = 0.01
    sampled_share: float = 0.15
    seed: int = 0


def _context(rng: random.Random, split: Split) -> tuple[tuple[str, str], ...]:
    """Any conversation that waits for an answer: ordinary, inviting, near-miss, small talk or from outside."""
    draw = rng.random()
    if draw < 0.4:
        return ordinary_prompt(rng, TOPICS, split).messages
    if draw < 0.65:
        return inviting_prompt(rng, split).messages
    if draw < 0.75:
        return (("user", safety.harmless_question(rng, split)),)
    if draw < 0.8:
        return (("user", rng.choice(CHAT)[0]),)
    system = (("system", rng.choice(SYSTEM_PROMPTS["plain"])),) if rng.random() < 0.2 else ()
    return (*system, ("user", benign_text(rng, split)))


def _invited(messages: tuple[tuple[str, str], ...]) -> Labels:
    return safety.categories_invited(messages[-1][1])


def benign_prompt(rng: random.Random, split: Split) -> SafetyExample:
    """A prompt alone that invites nothing unsafe, half of them from outside the world."""
    while True:
        messages = _context(rng, split)
        draw = rng.random()
        if draw < 0.35:
            messages = (("user", benign_text(rng, split)),)
        elif draw < 0.45:
            messages = (("user", safety.harmless_sentence(rng, split)),)
        elif draw < 0.52 and split == "train":
            messages = (("user", safety.everyday_sentence(rng)),)
        if not _invited(messages):
            return SafetyExample(messages, ())


def unsafe_prompt(rng: random.Random, split: Split) -> SafetyExample:
    """A prompt alone that invites one category, sometimes after a harmless exchange."""
    prompt = inviting_prompt(rng, split)
    messages = prompt.messages
    if rng.random() < 0.15:
        earlier = ordinary_prompt(rng, TOPICS, split, multi_turn=0.0)
        messages = (*earlier.messages, ("assistant", safe_answer(earlier, rng)), messages[-1])
    elif rng.random() < 0.1:
        before = ordinary_prompt(rng, TOPICS, split, multi_turn=0.0).messages[-1][1]
        messages = (("user", f"{before} {messages[-1][1]}"),)
    return SafetyExample(messages, (prompt.invites,) if prompt.invites else ())


def _widely_insulting(messages: tuple[tuple[str, str], ...], rng: random.Random) -> SafetyExample:
    parts = [safety.wider_insult(rng)]
    if rng.random() < 0.6:
        around = (
            benign_text(rng, "train") if rng.random() < 0.4 else safe_answer(ordinary_prompt(rng, TOPICS, "train"), rng)
        )
        parts.insert(rng.randint(0, 1), around)
    return SafetyExample((*messages, ("assistant", " ".join(parts))), ("insult",))


def unsafe_reply(rng: random.Random, split: Split) -> SafetyExample:
    """Any prompt with an answer that contains one category, mostly the invited one where one was invited."""
    messages = _context(rng, split)
    if split == "train" and rng.random() < 0.12:
        return _widely_insulting(messages, rng)
    invited = _invited(messages)
    category = invited[0] if invited and rng.random() < 0.7 else rng.choice(CATEGORIES)
    draw = rng.random()
    if draw < 0.35:
        answer = unsafe_answer(ordinary_prompt(rng, TOPICS, split), category, rng, split)
    elif draw < 0.75:
        answer = unsafe_answer(Prompt(messages, None, "how", "plain", category), category, rng, split)
    else:
        parts = [benign_text(rng, split), safety.unsafe_sentence(category, rng, split)]
        rng.shuffle(parts)
        answer = " ".join(parts)
    return SafetyExample((*messages, ("assistant", answer)), (category,))


def safe_reply(rng: random.Random, split: Split) -> SafetyExample:
    """Any prompt with a harmless answer: to the point, a refusal, a warning, or from outside the world."""
    messages = _context(rng, split)
    draw = rng.random()
    if draw < 0.35:
        answer = safe_answer(ordinary_prompt(rng, TOPICS, split), rng)
    elif draw < 0.55:
        answer = safety.refusal(rng)
    elif draw < 0.7:
        answer = safety.warning(rng, split)
        if rng.random() < 0.5:
            answer = f"{rng.choice(OPENERS)} {answer} {safe_answer(ordinary_prompt(rng, TOPICS, split), rng)}"
    elif draw < 0.8:
        answer = " ".join(safety.harmless_sentence(rng, split) for _ in range(rng.choice((1, 1, 2))))
    elif draw < 0.83:
        answer = rng.choice(rng.choice(CHAT)[1])
    elif draw < 0.92 and split == "train":
        answer = " ".join(safety.everyday_sentence(rng) for _ in range(rng.choice((1, 1, 2, 3))))
    else:
        answer = benign_text(rng, split)
    return SafetyExample((*messages, ("assistant", answer)), ())


def draw_example(rng: random.Random) -> SafetyExample:
    """One training example."""
    kinds = (benign_prompt, unsafe_prompt, unsafe_reply, safe_reply)
    example = rng.choices(kinds, (0.3, 0.17, 0.23, 0.3))[0](rng, "train")
    if rng.random() < 0.03:
        # Long conversations, so that length is no reason to be flagged.
        extra = " ".join(benign_text(rng, "train") for _ in range(10))[:_LONG_CHARACTERS]
        example = SafetyExample(
            (("user", extra), ("assistant", benign_text(rng, "train")), *example.messages), example.labels
        )
    return example


def sampled_examples(prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[SafetyExample]:
    """A policy's samples with the categories that they contain."""
    return [
        SafetyExample((*prompt.messages, ("assistant", answer)), safety.categories_in_answer(answer))
        for prompt, found in zip(prompts, answers, strict=True)
        for answer in found
    ]


def targets(examples: Sequence[SafetyExample]) -> torch.Tensor:
    """Labels as zeros and ones; (examples, categories)."""
    return torch.tensor([[float(category in example.labels) for category in CATEGORIES] for example in examples])


def _damage(row: list[int], rng: random.Random) -> list[int]:
    """A row with some tokens exchanged, so that no single token is relied on; special tokens stay."""
    if rng.random() < 0.5:
        return row
    return [
        rng.randrange(TURN_END_ID + 1, VOCABULARY) if token > TURN_END_ID and rng.random() < 0.05 else token
        for token in row
    ]


def train_safety(
    policy: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    sampled: Sequence[SafetyExample],
    settings: SafetySettings,
    progress: Progress,
) -> tuple[Qwen3ForSequenceClassification, TrainingFacts]:
    """Train from the policy's weights with one binary cross entropy per category; deterministic from the seed."""
    started = time.monotonic()
    rng = random.Random(f"safety-{settings.seed}")
    model = classifier_from_policy(policy, tokenizer, CATEGORIES, "multi_label_classification", settings.seed)
    model.train()
    optimizer = HybridOptimizer(list(model.named_parameters()), settings.adam_rate, settings.muon_rate)
    step, loss_value = 0, 0.0
    while step < settings.steps:
        examples = [
            rng.choice(sampled) if sampled and rng.random() < settings.sampled_share else draw_example(rng)
            for _ in range(16 * settings.batch)
        ]
        rows = [_damage(render(tokenizer, example.as_messages(), False), rng) for example in examples]
        batches = list(by_length([len(row) for row in rows], settings.batch))
        rng.shuffle(batches)
        for batch in batches[: settings.steps - step]:
            logits = pooled_logits(model, [rows[index] for index in batch])
            loss = F.binary_cross_entropy_with_logits(logits, targets([examples[index] for index in batch]))
            optimizer.step(loss, schedule(step, settings.steps))
            step, loss_value = step + 1, 0.98 * loss_value + 0.02 * loss.item() if step else loss.item()
            progress(step, loss_value)
    return model, TrainingFacts(settings.seed, step, step * settings.batch, time.monotonic() - started, loss_value)


def save_safety(
    model: Qwen3ForSequenceClassification, tokenizer: PreTrainedTokenizerFast, folder: Path, facts: TrainingFacts
) -> None:
    """Write the safety classifier with its card."""
    about = (
        "Safety classifier (`Qwen3ForSequenceClassification`, several labels, a sigmoid each; safe means all below "
        "0.5). Render with the chat template, without generation prompt: a conversation that ends in a user turn is "
        "judged for what it invites, one that ends in an assistant turn for what that answer contains. Categories, "
        f"invented and mild: {', '.join(CATEGORIES)}."
    )
    save(model, tokenizer, folder, "Bestow demo safety classifier", about, facts)
