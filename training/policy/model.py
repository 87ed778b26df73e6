"""The model that a policy starts from, with a LoRA or without, and the folder that comes of it. Loads torch, PEFT."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from training.data.places import sync_file, sync_folder
from training.errors import TrainingError
from training.jobs.models import copy_tokenizer
from training.policy.settings import PolicySettings

ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
REFERENCE = "ref"
# What PEFT writes of the machine that trained, or of a state in which nobody loads it.
_OF_THIS_RUN = {"base_model_name_or_path": "", "revision": None, "inference_mode": True, "auto_mapping": None}


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file()


def load_model(folder: Path, dtype: str) -> Any:
    """A causal language model. Raises TrainingError where the folder holds none."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(f"{folder} is no language model ({reason}): name another with --base.") from error
    return model


def policy_to_train(base: Path, start: Path | None, settings: PolicySettings) -> Any:
    """The base in `settings.dtype` for a LoRA; all weights in float32, of `start` where there is one, to train them.

    Raises TrainingError where `start` is of the other kind.
    """
    if start is not None and is_adapter(start) != settings.lora:
        kind, fix = ("an adapter", "leave out --full") if is_adapter(start) else ("whole weights", "say --full")
        raise TrainingError(f"{start}, which training shall go on from, is {kind}: {fix}.")
    if settings.lora:
        return load_model(base, settings.dtype)
    return load_model(start or base, "float32")


def lora_config(settings: PolicySettings, start: Path | None) -> LoraConfig | None:
    """Of a LoRA on all linear layers but the output; None without one. Raises TrainingError where `start` differs."""
    if not settings.lora:
        return None
    if start is not None:
        known = json.loads((start / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        if (known["r"], known["lora_alpha"]) != (settings.lora_rank, settings.lora_alpha):
            raise TrainingError(
                f"{start} has rank {known['r']} and alpha {known['lora_alpha']}: "
                f"say --set lora_rank={known['r']} --set lora_alpha={known['lora_alpha']} to go on from it."
            )
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules="all-linear",
        lora_dropout=0.0,
        bias="none",
    )


def hold_to(model: Any, anchor: Path) -> None:
    """Makes another adapter the reference, in place of the base: TRL's trainers look for one of the name "ref".

    Raises TrainingError where it does not fit.
    """
    if not is_adapter(anchor):
        raise TrainingError(f"The anchor {anchor} is whole weights, and this training is of a LoRA: say --full.")
    model.add_adapter(REFERENCE, model.peft_config["default"])
    start_from(model, anchor, REFERENCE)
    for name, weights in model.named_parameters():
        if f".{REFERENCE}." in name:
            weights.requires_grad_(False)


def start_from(model: Any, start: Path, name: str = "default") -> None:
    """Gives a fresh LoRA of a model the weights of another one. Raises TrainingError where they do not fit."""
    try:
        report: Any = set_peft_model_state_dict(model, load_file(start / ADAPTER), adapter_name=name)
    except (RuntimeError, OSError) as error:
        raise TrainingError(f"{start} does not fit this base: {' '.join(str(error).split())[:300]}") from error
    if report.unexpected_keys or any(f".{name}." in key for key in report.missing_keys):
        raise TrainingError(f"{start} adapts other layers than those of this base: it is of another model.")


def write_policy(model: Any, state: dict[str, torch.Tensor], base: Path, settings: PolicySettings, folder: Path) -> int:
    """The folder of a trained model, made beside it and renamed. state: all its weights, whole. Returns its bytes."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    dtype = getattr(torch, settings.dtype)
    if settings.lora:
        _write_adapter(model, state, dtype, partial)
    else:
        # A model of its own: what was trained may lie in pieces on several devices.
        whole = load_model(base, "float32")
        whole.load_state_dict({name: value.detach().cpu() for name, value in state.items()})
        whole.to(dtype).save_pretrained(partial)
        copy_tokenizer(base, partial, generation=True)
    for file in partial.iterdir():
        sync_file(file)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    sync_folder(folder.parent)
    return sum(file.stat().st_size for file in folder.iterdir())


def _write_adapter(model: Any, state: dict[str, torch.Tensor], dtype: torch.dtype, folder: Path) -> None:
    """As vLLM and PEFT load it: the same bytes for the same weights, and no path of this machine."""
    weights = get_peft_model_state_dict(model, state_dict=state, save_embedding_layers=False)
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in sorted(weights.items())}
    save_file(tensors, folder / ADAPTER, metadata={"format": "pt"})
    config = {**model.peft_config["default"].to_dict(), **_OF_THIS_RUN}
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
    text = json.dumps(plain, indent=2, sort_keys=True, default=str) + "\n"
    (folder / ADAPTER_CONFIG).write_text(text, encoding="utf-8")
