"""A scorer that runs a model, put together from its parts and tried once."""

from collections.abc import Sequence

from scorers.backend import Backend
from scorers.loading import Loading, declared
from scorers.model_files import ModelFiles, vocabulary
from scorers.model_scorer import Encoder, ModelScorer, Reader
from scorers.scorer_settings import ScorerConfig
from scorers.trial import try_scorer


def assembled(
    name: str,
    config: ScorerConfig,
    files: ModelFiles,
    encoder: Encoder,
    reader: Reader,
    backend: Backend,
    loading: Loading,
    *,
    prompt_only: bool = False,
    categories: Sequence[str] = (),
    steps: bool = False,
) -> ModelScorer:
    """See `ScorerInfo` for the last three. Raises LoadError where it cannot score a short exchange."""
    try_scorer(name, files.name, encoder, reader, backend)
    info = declared(
        name,
        config,
        prompt_only=prompt_only,
        max_tokens=files.max_tokens,
        categories=categories,
        steps=steps,
        vocabulary=vocabulary(files),
    )
    return ModelScorer(info, encoder, reader, backend, max_candidates=loading.server.max_queue)
