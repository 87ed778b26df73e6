"""A reward model: one label, whose raw logit is the reward, or several, of which it is a weighted sum.

Never squashed: a sigmoid is 1.0 for all logits over 17. How a conversation becomes ids is the model's family's.
"""

import math
from collections.abc import Mapping, Sequence

from scorers.assembly import assembled
from scorers.backend import Pooled, Row
from scorers.backends.opening import open_backend
from scorers.contract import Score
from scorers.families import Family
from scorers.loading import Loading
from scorers.model_family import check_template, family_of, within_recommended
from scorers.model_files import ModelFiles, load_files
from scorers.model_path import LoadError
from scorers.model_scorer import CannotScore, Encoder, ModelScorer
from scorers.reading import Sort
from scorers.scorer_settings import RewardConfig
from scorers.template import ChatTemplate, FramedText


class RewardReader:
    """Reads a whole input or says that it is too long: a reward for the first part of an answer is another number.

    labels: names and weights of a model with several, in its order; empty: it has one, whose logit is the reward.
    """

    def __init__(self, max_tokens: int, labels: Sequence[tuple[str, float]] = ()) -> None:
        self._max_tokens = max_tokens
        self._labels = tuple(labels)

    def windows(self, ids: list[int]) -> list[list[int]]:
        """The input itself. Raises CannotScore where it is empty or too long."""
        if not ids:
            raise CannotScore("The chat template gave no tokens to score.")
        if len(ids) > self._max_tokens:
            raise CannotScore(f"The input has {len(ids)} tokens, the model reads at most {self._max_tokens}.")
        return [ids]

    def score(self, rows: Sequence[Row], tokens: int) -> Score:
        """The logit, or the sum with each label's raw logit in `parts`. Raises CannotScore where one is not finite."""
        [logits] = rows
        for logit in logits:
            if not math.isfinite(logit):
                raise CannotScore(f"The model answered {logit}, which is no finite number.")
        if not self._labels:
            [value] = logits
            return Score(value=value, tokens=tokens)
        value = math.fsum(weight * logit for (_, weight), logit in zip(self._labels, logits, strict=True))
        parts = {label: logit for (label, _), logit in zip(self._labels, logits, strict=True)}
        return Score(value=value, parts=parts, tokens=tokens)


def weighed_labels(files: ModelFiles, weights: Mapping[str, float]) -> list[tuple[str, float]]:
    """Each label with its weight, in the model's order; empty where the only label's logit is the reward.

    A label that is not named counts nothing. Raises LoadError.
    """
    labels = files.labels
    listed = ", ".join(labels)
    if not weights:
        if len(labels) == 1:
            return []
        raise LoadError(
            f"{files.name} has {len(labels)} labels ({listed}); say with `weights` what each counts in the reward. "
            "A classifier of unsafe content has kind: safety."
        )
    if len(set(labels)) < len(labels):
        raise LoadError(f"{files.name} has labels of the same name ({listed}), so weights cannot tell them apart.")
    if unknown := [label for label in weights if label not in labels]:
        raise LoadError(f"`weights` names {', '.join(unknown)}, but the labels of {files.name} are {listed}.")
    if not any(weights.values()):
        raise LoadError(f"All `weights` are 0, so every reward would be; the labels of {files.name} are {listed}.")
    return [(label, weights.get(label, 0.0)) for label in labels]


def encoder_of(files: ModelFiles, family: Family) -> Encoder:
    """How this model reads conversations. Raises LoadError where its files do not fit the family.

    It reads what its own template shows, as in training, and besides refusals and tool calls, without which an answer
    that has nothing else would be scored as the empty one.
    """
    prompt = family.prompt
    if prompt.shape == "template":
        check_template(files, family)
        return ChatTemplate(files.tokenizer, files.tokens, Sort.ACTION, prompt)
    if prompt.shape == "pair" and (getattr(files.config, "type_vocab_size", None) or 0) > 1:
        raise LoadError(
            f"{files.name} tells the two texts of a pair apart by token types, which are not sent to it here. If it "
            "was trained on answers alone, set `family: answer`."
        )
    return FramedText(files.tokens, prompt, alone=prompt.shape == "answer")


def reward_parts(
    files: ModelFiles, weights: Mapping[str, float] | None = None, family: Family | None = None
) -> tuple[Encoder, RewardReader]:
    """How this model reads conversations and what its rows mean. Raises LoadError where it is no reward model."""
    labels = weighed_labels(files, weights or {})
    return encoder_of(files, family or family_of(files, "reward", None)), RewardReader(files.max_tokens, labels)


def load(name: str, config: RewardConfig, loading: Loading) -> tuple[ModelScorer, str]:
    """The scorer, and where and how it runs in a few words. Raises LoadError."""
    files = load_files(config.model, config.max_tokens)
    family = family_of(files, config.kind, config.family)
    files = within_recommended(files, family, config.max_tokens)
    encoder, reader = reward_parts(files, config.weights, family)
    backend, about = open_backend(name, files, Pooled(), loading, dtype=config.dtype, vllm=config.vllm)
    scorer = assembled(name, config, files, encoder, reader, backend, loading)
    return scorer, f"{config.model} {about}, family {family.name}, labels: {', '.join(files.labels)}"
