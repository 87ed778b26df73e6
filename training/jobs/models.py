"""The folders of models that jobs start from: where one is, which weights are in it, what is copied as it is."""

import hashlib
import shutil
from pathlib import Path

from training.errors import TrainingError

# ruff: noqa: PLC0415  # huggingface_hub: 0.5 s

_WEIGHTS = ("*.safetensors",)
# What makes ids of text; copied byte by byte, so that a saved tokenizer is the one that was trained with.
_TOKENIZER = (
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template.*",
)
_GENERATION = "generation_config.json"
_LARGE = 500_000_000


def base_folder(base: str, what: str = "the policy that it shall judge") -> Path:
    """The folder of a model given by folder or Hugging Face id (from the cache, or fetched). Raises TrainingError.

    what: it is, in the sentence that says what to do.
    """
    from scorers.model_path import LoadError, model_path

    try:
        found = model_path(base)
    except LoadError as error:
        raise TrainingError(f"{error} Name {what} with --base.") from error
    if Path(found).is_dir():
        return Path(found)
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                found, allow_patterns=["config.json", *_WEIGHTS, *_TOKENIZER, _GENERATION, "*.index.json"]
            )
        )
    except Exception as error:
        raise TrainingError(
            f"The model {found} cannot be had from Hugging Face ({type(error).__name__}): give --base a folder."
        ) from error


def weights_digest(folder: Path) -> str:
    """SHA-256 over a folder's weights, in hex. Raises TrainingError where it has none as safetensors."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise TrainingError(f"{folder} has no safetensors: training cannot start from it.")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def copy_tokenizer(base: Path, folder: Path, *, generation: bool = False) -> None:
    """The base's tokenizer and chat template; generation: and how it is sampled by default."""
    for pattern in (*_TOKENIZER, *((_GENERATION,) if generation else ())):
        for file in base.glob(pattern):
            shutil.copyfile(file, folder / file.name)


def is_large(parameters: int) -> bool:
    """Whether activations are computed twice rather than kept."""
    return parameters >= _LARGE
