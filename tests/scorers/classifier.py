"""A reward model or safety classifier as the scorer server runs it, without the server: ids in, logits out."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from scorers.backend import Pooled, Row
from scorers.backends.local import LocalModel
from scorers.backends.weights import load_weights
from scorers.model_files import ModelFiles, load_files
from scorers.scorer_settings import Dtype


@dataclass(frozen=True, slots=True)
class Classifier(ModelFiles):
    """A loaded model with its tokenizer."""

    local: LocalModel

    def forward(self, inputs: Sequence[list[int]]) -> list[Row]:
        """Raw logits in float32, [batch, labels]."""
        return list(self.local.forward(inputs).rows)


def load_classifier(model: str, dtype: Dtype = "float32", max_tokens: int | None = None) -> Classifier:
    """From a local folder. Raises LoadError."""
    files = load_files(model, max_tokens)
    given = {field.name: getattr(files, field.name) for field in fields(files)}
    return Classifier(**given, local=LocalModel(load_weights(files.name, Pooled(), dtype), Pooled()))
