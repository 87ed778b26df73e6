"""A sequence classifier from Hugging Face: token ids in, raw logits out.

Hugging Face's decoder classifiers read their answer at the last token that is not `config.pad_token_id`. That has two
consequences. A model with a pad id is padded with it, and pools where it pooled in training, even where a conversation
ends in that id. A model without one would refuse batches; it is padded, batch by batch, with an id that no input ends
in, so that each input is read at its true last token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from scorers.errors import ScorerFailed
from scorers.model_path import LoadError, model_path
from scorers.tokens import SafeTokenizer

Dtype = Literal["float32", "bfloat16", "auto"]
_DTYPES: dict[str, Any] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "auto": "auto"}
_NO_LIMIT = 10**9


@dataclass(frozen=True, slots=True)
class Classifier:
    """A loaded model with its tokenizer. `max_tokens` is the longest input it reads."""

    name: str
    model: Any
    tokenizer: PreTrainedTokenizerBase
    tokens: SafeTokenizer
    labels: tuple[str, ...]
    multi_label: bool
    max_tokens: int
    device: str
    dtype: str

    def forward(self, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """Raw logits in float32, [batch, labels], each the same whatever else is in the batch.

        Raises ScorerFailed where an input is empty.
        """
        if not all(inputs):
            raise ScorerFailed("An input has no tokens.")
        config = self.model.config.get_text_config()
        own_pad = config.pad_token_id
        pad = own_pad if own_pad is not None else _unused_last(inputs)
        longest = max(map(len, inputs))
        rows = [[*ids, *[pad] * (longest - len(ids))] for ids in inputs]
        mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids in inputs]
        config.pad_token_id = pad
        try:
            with torch.inference_mode():
                output = self.model(
                    input_ids=torch.tensor(rows, dtype=torch.long, device=self.device),
                    attention_mask=torch.tensor(mask, dtype=torch.long, device=self.device),
                )
                logits: list[list[float]] = output.logits.float().cpu().tolist()
        finally:
            config.pad_token_id = own_pad
        return logits


def _unused_last(inputs: Sequence[Sequence[int]]) -> int:
    """The smallest id that no input ends in: at most as large as the batch."""
    last = {ids[-1] for ids in inputs}
    return next(index for index in range(len(last) + 1) if index not in last)


def load_classifier(model: str, dtype: Dtype = "float32", max_tokens: int | None = None) -> Classifier:
    """Load from a local folder or a Hugging Face id, on a GPU if there is one. Raises LoadError."""
    model = model_path(model)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except Exception as error:
        raise LoadError(f"The tokenizer of {model} cannot be loaded: {_one_line(error)}") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise LoadError(f"{model} has no fast tokenizer (tokenizer.json), which the scorer server needs.")
    try:
        loaded, report = AutoModelForSequenceClassification.from_pretrained(
            model, dtype=_DTYPES[dtype], output_loading_info=True
        )
    except Exception as error:
        raise LoadError(f"The model {model} cannot be loaded: {_one_line(error)}") from error
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise LoadError(
            f"{model} is no trained sequence classifier: it has no weights for {missing}, and random ones would only "
            "look like scores."
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = loaded.to(device).eval()
    labels = tuple(str(loaded.config.id2label[index]) for index in range(loaded.config.num_labels))
    return Classifier(
        name=model,
        model=loaded,
        tokenizer=tokenizer,
        tokens=SafeTokenizer(backend),
        labels=labels,
        multi_label=loaded.config.problem_type == "multi_label_classification",
        max_tokens=_limit(model, loaded.config, tokenizer, max_tokens),
        device=device,
        dtype=str(loaded.dtype).removeprefix("torch."),
    )


def _limit(model: str, config: Any, tokenizer: PreTrainedTokenizerBase, wanted: int | None) -> int:
    """The longest input: what the settings say, else what the model and its tokenizer say."""
    own = getattr(config.get_text_config(), "max_position_embeddings", None) or _NO_LIMIT
    own = min(own, tokenizer.model_max_length or _NO_LIMIT, _NO_LIMIT)
    if wanted is not None and wanted > own:
        raise LoadError(f"max_tokens is {wanted}, but {model} reads at most {own} tokens.")
    return int(wanted or own)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:400]}..."
