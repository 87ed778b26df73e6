"""The backend that a scorer's settings ask for."""

import os

import torch

from scorers.backend import Backend, Head, Pooled, Row
from scorers.batcher import Batcher
from scorers.classifier import load_classifier
from scorers.loading import Loading
from scorers.model_files import ModelFiles
from scorers.model_path import LoadError
from scorers.scorer_settings import Dtype, VllmConfig


def open_backend(
    name: str, files: ModelFiles, head: Head, loading: Loading, *, dtype: Dtype, vllm: VllmConfig | None
) -> tuple[Backend, str]:
    """The backend, and where it runs in a few words. Blocks while weights are loaded. Raises LoadError."""
    if vllm is not None or not isinstance(head, Pooled):
        raise LoadError("not built yet")
    torch.set_num_threads(loading.server.threads or max(1, (os.cpu_count() or 2) // 2))
    classifier = load_classifier(files.name, dtype, files.max_tokens)
    batcher: Batcher[Row] = Batcher(
        classifier.forward,
        max_batch_tokens=loading.server.max_batch_tokens,
        max_queue=loading.server.max_queue,
        name=name,
        observe=loading.observe,
    )
    return batcher, f"on {classifier.device}, {classifier.dtype}"
