"""What a scorer needs of a model besides its weights: tokenizer, labels, limits. Enough where vLLM runs the weights."""

import hashlib
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from scorers.model_path import LoadError, model_path
from scorers.tokens import SafeTokenizer

_NO_LIMIT = 10**9


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's tokenizer and configuration. `max_tokens` is the longest input it reads; `name` where it lies."""

    name: str
    config: Any
    tokenizer: PreTrainedTokenizerBase
    tokens: SafeTokenizer
    labels: tuple[str, ...]
    multi_label: bool
    max_tokens: int


def load_files(model: str, max_tokens: int | None = None) -> ModelFiles:
    """From a local folder or a Hugging Face id. Raises LoadError."""
    model = model_path(model)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except Exception as error:
        raise LoadError(f"The tokenizer of {model} cannot be loaded: {one_line(error)}") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise LoadError(f"{model} has no fast tokenizer (tokenizer.json), which the scorer server needs.")
    try:
        config = AutoConfig.from_pretrained(model)
    except Exception as error:
        raise LoadError(f"The model {model} cannot be loaded: {one_line(error)}") from error
    return ModelFiles(
        name=model,
        config=config,
        tokenizer=tokenizer,
        tokens=SafeTokenizer(backend),
        labels=tuple(str(config.id2label[index]) for index in range(config.num_labels)),
        multi_label=config.problem_type == "multi_label_classification",
        max_tokens=_limit(model, config, tokenizer, max_tokens),
    )


def vocabulary(files: ModelFiles) -> str:
    """A fingerprint of which token has which id, added tokens included: equal where ids mean the same."""
    by_id = sorted((index, token) for token, index in files.tokenizer.get_vocab().items())
    digest = hashlib.blake2b(digest_size=16)
    for index, token in by_id:
        digest.update(f"{index}:{token}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _limit(model: str, config: Any, tokenizer: PreTrainedTokenizerBase, wanted: int | None) -> int:
    """The longest input: what the settings say, else what the model and its tokenizer say."""
    own = getattr(config.get_text_config(), "max_position_embeddings", None) or _NO_LIMIT
    own = min(own, tokenizer.model_max_length or _NO_LIMIT, _NO_LIMIT)
    if wanted is not None and wanted > own:
        raise LoadError(f"max_tokens is {wanted}, but {model} reads at most {own} tokens.")
    return int(wanted or own)


def one_line(error: Exception) -> str:
    """What an error says, shortened to a line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:400]}..."
