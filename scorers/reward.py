"""A reward model: one label, whose raw logit is the reward. Never squashed: a sigmoid is 1.0 for all logits over 17."""

import math
from collections.abc import Sequence

from scorers.backend import Pooled, Row
from scorers.backends.opening import open_backend
from scorers.contract import Score, ScorerInfo
from scorers.loading import Loading
from scorers.model_files import ModelFiles, load_files
from scorers.model_path import LoadError
from scorers.model_scorer import CannotScore, ModelScorer
from scorers.reading import Sort
from scorers.scorer_settings import RewardConfig
from scorers.template import ChatTemplate
from scorers.trial import try_scorer


class RewardReader:
    """Reads a whole input or says that it is too long: a reward for the first part of an answer is another number."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens

    def windows(self, ids: list[int]) -> list[list[int]]:
        """The input itself. Raises CannotScore where it is empty or too long."""
        if not ids:
            raise CannotScore("The chat template gave no tokens to score.")
        if len(ids) > self._max_tokens:
            raise CannotScore(f"The input has {len(ids)} tokens, the model reads at most {self._max_tokens}.")
        return [ids]

    def score(self, rows: Sequence[Row], tokens: int) -> Score:
        """The logit. Raises CannotScore where it is no finite number."""
        [[value]] = rows
        if not math.isfinite(value):
            raise CannotScore(f"The model answered {value}, which is no finite number.")
        return Score(value=value, tokens=tokens)


def reward_parts(files: ModelFiles) -> tuple[ChatTemplate, RewardReader]:
    """How this model reads conversations and what its rows mean. Raises LoadError where it is no reward model.

    It reads what its own template shows, as in training, and besides refusals and tool calls, without which an answer
    that has nothing else would be scored as the empty one.
    """
    if len(files.labels) != 1:
        raise LoadError(
            f"{files.name} has {len(files.labels)} labels; a reward model served here has exactly one. "
            "A classifier of unsafe content has kind: safety."
        )
    if not files.tokenizer.chat_template:
        raise LoadError(
            f"The tokenizer of {files.name} has no chat template, which a reward model needs to read a "
            "conversation as it did in training."
        )
    template = ChatTemplate(files.tokenizer, files.tokens, Sort.ACTION)
    return template, RewardReader(files.max_tokens)


def load(name: str, config: RewardConfig, loading: Loading) -> tuple[ModelScorer, str]:
    """The scorer, and where and how it runs in a few words. Raises LoadError."""
    files = load_files(config.model, config.max_tokens)
    encoder, reader = reward_parts(files)
    backend, about = open_backend(name, files, Pooled(), loading, dtype=config.dtype, vllm=config.vllm)
    try_scorer(name, files.name, encoder, reader, backend)
    info = ScorerInfo(
        id=name,
        kind=config.kind,
        gives=config.gives,
        version=f"{name}@{config.version}",
        prompt_only=False,
        max_tokens=files.max_tokens,
    )
    scorer = ModelScorer(info, encoder, reader, backend, max_candidates=loading.server.max_queue)
    return scorer, f"{config.model} {about}, labels: {', '.join(files.labels)}"
