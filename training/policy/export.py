"""Whole weights from a LoRA and its base: for workers that take no adapters, and as a base for others. Loads torch.

W' = W + (alpha / r) B A, summed in float32 and then rounded to the base's own type, so that a worker computes with what
it would have had from the base.
"""

import json
import shutil
from pathlib import Path

from training.errors import TrainingError
from training.jobs.models import copy_tokenizer

# ruff: noqa: PLC0415  # torch and PEFT: 5 s


def merge(adapter: Path, base: Path, output: Path, dtype: str | None = None) -> None:
    """Writes `output` in one step: weights, config, tokenizer, chat template, generation_config.json.

    dtype: "float32" or "bfloat16"; None: as the base is kept. Raises TrainingError where the adapter is no LoRA of it.
    """
    import torch

    from training.policy.generating import load_policy
    from training.policy.model import is_adapter

    if not is_adapter(adapter):
        raise TrainingError(f"{adapter} is no adapter: it has no adapter_config.json.")
    merged = load_policy(adapter, base).merge_and_unload(safe_merge=True)
    kept = dtype or json.loads((base / "config.json").read_text(encoding="utf-8")).get("dtype") or "float32"
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    merged.to(getattr(torch, kept)).save_pretrained(partial)
    copy_tokenizer(base, partial, generation=True)
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
