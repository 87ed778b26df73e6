"""A model's weights from Hugging Face, with the head that a scorer asks for, on the device that there is."""

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTokenClassification

from scorers.backend import Head, NextToken, Pooled, Steps
from scorers.model_files import one_line
from scorers.model_path import LoadError
from scorers.scorer_settings import Dtype

_DTYPES: dict[str, Any] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "auto": "auto"}
_HEADS: dict[type[Head], tuple[Any, str]] = {
    Pooled: (AutoModelForSequenceClassification, "sequence classifier"),
    Steps: (AutoModelForTokenClassification, "token classifier"),
    NextToken: (AutoModelForCausalLM, "language model"),
}
# Numbers of mallopt's parameters, in malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True, slots=True)
class Weights:
    """A model ready to run; dtype as PyTorch calls it."""

    model: Any
    device: str
    dtype: str


def load_weights(name: str, head: Head, dtype: Dtype) -> Weights:
    """From a local folder or a Hugging Face id, on a GPU if there is one. Raises LoadError, as for a random head."""
    factory, kind = _HEADS[type(head)]
    try:
        model, report = factory.from_pretrained(name, dtype=_DTYPES[dtype], output_loading_info=True)
    except Exception as error:
        raise LoadError(f"The model {name} cannot be loaded: {one_line(error)}") from error
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise LoadError(
            f"{name} is no trained {kind}: it has no weights for {missing}, and random ones would only look like "
            "scores."
        )
    # A classifier whose embeddings are tied has all that a language model needs, and is none.
    if isinstance(head, NextToken) and (heads := [key for key in report["unexpected_keys"] if _is_classifier(key)]):
        raise LoadError(f"{name} is a classifier (it has {heads[0]}), and a language model is needed here.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and sys.platform == "linux":
        _keep_freed_memory()
    model.config.get_text_config().use_cache = False
    return Weights(model.to(device).eval(), device, str(model.dtype).removeprefix("torch."))


def _is_classifier(key: str) -> bool:
    return key.split(".")[0] in ("score", "classifier")


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of activations that were freed, up to 1 GiB, for the next layer's.

    It gives large blocks back to the kernel, which fills them with zeros again: a fifth of a forward pass. Other C
    libraries know no `mallopt`, or ignore it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 * 2**20)  # the most that it takes
        mallopt(_TRIM_THRESHOLD, 2**30)
