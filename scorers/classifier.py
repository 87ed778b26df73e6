"""A sequence classifier from Hugging Face: token ids in, raw logits out.

Hugging Face's decoder classifiers read their answer at the last token that is not `config.pad_token_id`. That has two
consequences. A model with a pad id is padded with it, and pools where it pooled in training, even where a conversation
ends in that id. A model without one would refuse batches; it is padded, batch by batch, with an id that no input ends
in, so that each input is read at its true last token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from transformers import AutoModelForSequenceClassification

from scorers.errors import ScorerFailed
from scorers.model_files import ModelFiles, load_files, one_line
from scorers.model_path import LoadError

Dtype = Literal["float32", "bfloat16", "auto"]
_DTYPES: dict[str, Any] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "auto": "auto"}


@dataclass(frozen=True, slots=True)
class Classifier(ModelFiles):
    """A loaded model with its tokenizer."""

    model: Any
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
    files = load_files(model, max_tokens)
    try:
        loaded, report = AutoModelForSequenceClassification.from_pretrained(
            files.name, dtype=_DTYPES[dtype], output_loading_info=True
        )
    except Exception as error:
        raise LoadError(f"The model {files.name} cannot be loaded: {one_line(error)}") from error
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise LoadError(
            f"{files.name} is no trained sequence classifier: it has no weights for {missing}, and random ones would "
            "only look like scores."
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Classifier(
        **{field.name: getattr(files, field.name) for field in fields(files)},
        model=loaded.to(device).eval(),
        device=device,
        dtype=str(loaded.dtype).removeprefix("torch."),
    )
