"""The model that a reward model starts from, with a head of one label; and the plain folder that comes of it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from training.errors import TrainingError
from training.jobs.models import copy_tokenizer
from training.reward.settings import RewardSettings

# ruff: noqa: PLC0415  # torch and PEFT: 5 s

_RATE_OF_A_BILLION = 1e-5
_LORA_FASTER = 10.0
_FASTEST = 3e-3


def default_rate(parameters: int, method: str) -> float:
    """AdamW's peak rate by size: 1e-5 from a billion weights on, and with the size to the power of -2/3 below.

    That is 1e-3 for the demo's million, where half and twice as much do as well (docs/training.md); between is a guess.
    """
    rate = _RATE_OF_A_BILLION * max(1.0, 1e9 / parameters) ** (2 / 3)
    return float(min(rate * (_LORA_FASTER if method == "lora" else 1.0), _FASTEST))


def load_model(base: Path, settings: RewardSettings, seed: int, padding: int) -> Any:
    """The base in float32 (under a LoRA in `settings.dtype`) with one label, a head drawn by `seed` where it has none.

    padding: see `padding_id`. Raises TrainingError where the base has another head.
    """
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(seed)
    frozen = settings.method == "lora"
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=1, dtype=getattr(torch, settings.dtype) if frozen else torch.float32
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(
            f"{base} cannot become a reward model ({reason}): give --base a language model, or a reward model of one "
            "label."
        ) from error
    config = model.config
    config.id2label, config.label2id, config.problem_type = {0: "reward"}, {"reward": 0}, "regression"
    config.use_cache = False
    config.get_text_config().pad_token_id = padding
    return model


def padding_id(tokenizer: Any, ends: Iterable[int]) -> int:
    """The tokenizer's own, unless an input ends with it: transformers reads the last token that is not this one.

    ends: ids that inputs end with.
    """
    last = set(ends)
    wanted = [one for one in (tokenizer.pad_token_id, tokenizer.eos_token_id) if one is not None]
    return int(next(one for one in (*wanted, *range(len(last) + 1)) if one not in last))


def with_lora(model: Any, settings: RewardSettings) -> Any:
    """The model with a LoRA on its linear layers, and its heads trained in full."""
    from peft import LoraConfig, get_peft_model

    heads = [name for name in ("score", "classifier", "label") if hasattr(model, name)]
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules="all-linear",
        modules_to_save=heads,
        bias="none",
    )
    return get_peft_model(model, config)


def save_model(model: Any, base: Path, settings: RewardSettings, folder: Path) -> None:
    """Weights and config of a plain model, with the base's tokenizer. `folder` is new."""
    import torch

    model.config.use_cache = True
    model.to(getattr(torch, settings.dtype)).save_pretrained(folder)
    copy_tokenizer(base, folder)
