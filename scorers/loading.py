"""From a scorer's settings to a scorer that runs."""

import os

import torch

from scorers.batcher import Batcher, Observe
from scorers.classifier import Classifier, load_classifier
from scorers.contract import ScorerInfo
from scorers.errors import ScorerError
from scorers.model_path import LoadError
from scorers.model_scorer import CannotScore, Encoder, ModelScorer, Reader, Row
from scorers.reward import reward_parts
from scorers.safety import SafetyReader, safety_parts
from scorers.settings import ScorerConfig, ScorerServerConfig


def load_scorer(
    name: str, config: ScorerConfig, server: ScorerServerConfig, observe: Observe | None = None
) -> tuple[ModelScorer, str]:
    """The scorer, and where and how it runs in a few words. Raises LoadError."""
    torch.set_num_threads(server.threads or max(1, (os.cpu_count() or 2) // 2))
    classifier = load_classifier(config.model, config.dtype, config.max_tokens)
    encoder: Encoder
    reader: Reader
    categories: list[str] = []
    if config.kind == "reward":
        encoder, reader = reward_parts(classifier)
    else:
        encoder, reader = safety_parts(classifier, config.safe_labels)
        assert isinstance(reader, SafetyReader)
        categories = reader.names
    _try(name, encoder, reader, classifier)
    batcher: Batcher[Row] = Batcher(
        classifier.forward,
        max_batch_tokens=server.max_batch_tokens,
        max_queue=server.max_queue,
        name=name,
        observe=observe,
    )
    info = ScorerInfo(
        id=name,
        kind=config.kind,
        version=f"{name}@{config.version}",
        prompt_only=config.kind == "safety",
        max_tokens=classifier.max_tokens,
        categories=categories,
    )
    labels = ", ".join(classifier.labels)
    return (
        ModelScorer(info, encoder, reader, batcher, max_candidates=server.max_queue),
        f"{config.model} on {classifier.device}, {classifier.dtype}, labels: {labels}",
    )


def _try(name: str, encoder: Encoder, reader: Reader, classifier: Classifier) -> None:
    """Score one short exchange: the first request is then as fast as the next, and what cannot work fails here."""
    try:
        ids = encoder.encode([{"role": "user", "content": "Hello"}], {"role": "assistant", "content": "Hi"}, [])
        reader.score(classifier.forward(reader.windows(ids)), len(ids))
    except (ScorerError, CannotScore, RuntimeError, ValueError, IndexError) as error:
        raise LoadError(f"The scorer {name} ({classifier.name}) cannot score a short exchange: {error}") from error
