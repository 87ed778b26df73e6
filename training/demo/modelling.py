"""What the three trainings share: model shapes, rendering to token ids, padded batches, schedule, saving."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
)

from training.demo.conversation import Message, Prompt
from training.demo.tokenizer import CHAT_TEMPLATE, CONTEXT, PAD_ID, SCORER_TEMPLATE, TURN_END

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IGNORED = -100  # the label that torch's cross entropy leaves out


@dataclass(frozen=True)
class TrainingFacts:
    """What a model card says about how its model came to be."""

    seed: int
    steps: int
    examples: int
    seconds: float
    loss: float


def model_config(tokenizer: PreTrainedTokenizerFast, **extra: Any) -> Qwen3Config:
    """The shape of all demo models: about one million parameters."""
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        # The usual 0.02 suits wide models; at this width it doubles the steps that the facts need.
        initializer_range=0.06,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **extra,
    )


def render(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], generation_prompt: bool) -> list[int]:
    """Token ids of a conversation by the chat template."""
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=generation_prompt)
    return cast(list[int], tokenizer.encode(cast(str, text), add_special_tokens=False))


def render_answered(tokenizer: PreTrainedTokenizerFast, prompt: Prompt, answer: str) -> list[int]:
    """Token ids of a conversation with its answer: what a scorer reads."""
    return render(tokenizer, [*prompt.as_messages(), {"role": "assistant", "content": answer}], False)


def supervise(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Token ids and labels of a conversation; only what the assistant says, and the end of its turn, has labels."""
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        head = tokenizer.encode(f"<|im_start|>{message['role']}\n", add_special_tokens=False)
        body = tokenizer.encode(f"{message['content']}{TURN_END}", add_special_tokens=False)
        tail = tokenizer.encode("\n", add_special_tokens=False)
        ids += head + body + tail
        spoken = message["role"] == "assistant"
        labels += [IGNORED] * len(head) + (body if spoken else [IGNORED] * len(body)) + [IGNORED] * len(tail)
    return ids, labels


def pad(rows: Sequence[Sequence[int]], value: int, left: bool = False) -> torch.Tensor:
    """Rows of ids as one (rows, longest) tensor."""
    width = max(len(row) for row in rows)
    padded = [
        [value] * (width - len(row)) + list(row) if left else list(row) + [value] * (width - len(row)) for row in rows
    ]
    return torch.tensor(padded)


def attention_mask(rows: Sequence[Sequence[int]], left: bool = False) -> torch.Tensor:
    """1 where a padded row has a token, 0 where it is padding; (rows, longest)."""
    return pad([[1] * len(row) for row in rows], 0, left)


def pooled_logits(model: Qwen3ForSequenceClassification, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """A classifier's raw logits at the last token of each row; (rows, labels)."""
    # The head is applied to the last token only: Hugging Face's own forward finds it by the padding id.
    hidden = model.model(input_ids=pad(rows, PAD_ID), attention_mask=attention_mask(rows)).last_hidden_state
    last = torch.tensor([len(row) - 1 for row in rows])
    return cast(torch.Tensor, model.score(hidden[torch.arange(len(rows)), last]))


@torch.no_grad()
def classify(model: Qwen3ForSequenceClassification, rows: Sequence[Sequence[int]], batch: int = 128) -> torch.Tensor:
    """Raw logits of many rows in input order, batched by length; (rows, labels)."""
    model.eval()  # type: ignore[no-untyped-call]
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index]), index))
    logits = torch.zeros(len(rows), len(model.config.id2label or {}))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        logits[part] = pooled_logits(model, [rows[index] for index in part]).float()
    return logits


def by_length(lengths: Sequence[int], size: int, budget: int = 8192) -> Iterator[list[int]]:
    """Indices in groups of similar length, so that padding wastes little work.

    Args:
        size: most rows in a group.
        budget: most padded tokens in a group: attention's memory traffic makes wide batches of long rows slow.
    """
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    group: list[int] = []
    for index in order:
        if group and (len(group) == size or (len(group) + 1) * lengths[index] > budget):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def schedule(step: int, steps: int, warm_up: int = 20) -> float:
    """The share of the peak rate at a step: linear warm-up, then cosine decay to a fiftieth."""
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    title: str,
    about: str,
    facts: TrainingFacts,
) -> None:
    """Write a model in Hugging Face layout, bf16, with tokenizer and card."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)  # type: ignore[arg-type]
    tokenizer.chat_template = CHAT_TEMPLATE if isinstance(model, Qwen3ForCausalLM) else SCORER_TEMPLATE
    tokenizer.save_pretrained(folder)
    if isinstance(model, Qwen3ForCausalLM):
        generation = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            eos_token_id=model.config.eos_token_id,
            pad_token_id=model.config.pad_token_id,
        )
        generation.save_pretrained(folder)
    parameters = sum(weights.numel() for weights in model.parameters())
    card = (
        f"# {title}\n\n{about}\n\nSynthetic: trained from scratch on the invented demo world of `training/demo`, for "
        "demonstrations and tests only. It knows nothing of the real world.\n\n"
        f"| fact | value |\n| --- | --- |\n| parameters | {parameters:,} |\n| weights | bf16 |\n"
        f"| seed | {facts.seed} |\n"
        f"| steps | {facts.steps} |\n| examples | {facts.examples:,} |\n| last training loss | {facts.loss:.3f} |\n\n"
        "Made again by `python -m training.demo`.\n"
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def load_policy(folder: Path) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """A saved policy in fp32, and its tokenizer."""
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, cast(PreTrainedTokenizerFast, PreTrainedTokenizerFast.from_pretrained(folder))


def load_classifier(folder: Path) -> tuple[Qwen3ForSequenceClassification, PreTrainedTokenizerFast]:
    """A saved reward model or safety classifier in fp32, and its tokenizer."""
    model = Qwen3ForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    return model, cast(PreTrainedTokenizerFast, PreTrainedTokenizerFast.from_pretrained(folder))


def write_json(path: Path, value: object) -> None:
    """Indented JSON with a final newline."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
