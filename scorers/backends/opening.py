"""The backend that a scorer's settings ask for."""

import os

import torch

from scorers.backend import Backend, Head, Row
from scorers.backends.cache import CachedBackend
from scorers.backends.local import LocalModel
from scorers.backends.vllm_opening import open_vllm
from scorers.backends.weights import load_weights
from scorers.batcher import Batcher
from scorers.loading import Loading
from scorers.model_files import ModelFiles
from scorers.scorer_settings import Dtype, VllmConfig


def open_backend(
    name: str, files: ModelFiles, head: Head, loading: Loading, *, dtype: Dtype, vllm: VllmConfig | None
) -> tuple[Backend, str]:
    """The backend, and where it runs in a few words. Blocks while weights are loaded. Raises LoadError."""
    if vllm is not None:
        backend, about = open_vllm(name, files, head, vllm, loading)
    else:
        backend, about = _open_here(name, files, head, loading, dtype)
    entries = loading.server.cache_entries
    return (CachedBackend(backend, entries, loading.cached) if entries else backend), about


def _open_here(name: str, files: ModelFiles, head: Head, loading: Loading, dtype: Dtype) -> tuple[Backend, str]:
    server = loading.server
    torch.set_num_threads(server.threads or max(1, (os.cpu_count() or 2) // 2))
    weights = load_weights(files.name, head, dtype)
    model = LocalModel(weights, head, server.prefix_cache_mb * 2**20)
    batcher: Batcher[Row] = Batcher(
        model.forward,
        plan=model.plan,
        max_batch_tokens=server.max_batch_tokens,
        max_queue=server.max_queue,
        wait_s=server.batch_wait_ms / 1000,
        name=name,
        observe=loading.observe,
    )
    return batcher, f"on {weights.device}, {weights.dtype}, {model.about}"
