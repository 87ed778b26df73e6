"""A safety classifier: the probability of each category of unsafe content.

A model with `problem_type: multi_label_classification` has a sigmoid a label, any other a softmax over its labels.
Labels that mean 'nothing wrong' are no categories.

A guard has to see everything: all the fields of a message (see `scorers.template`), and all of a long text. An input
longer than the model reads is read in windows that overlap by a quarter, and a category's probability is the largest
over the windows. These models read their answer at the last token, so each window ends as the whole input does, with
the tokens that close the judged turn (`<|im_end|>`); the later ones begin in the middle of the conversation, without
its head. More than 64 windows are an error, which the gateway treats as a guard that cannot answer.
"""

import math
from collections.abc import Collection, Sequence

from scorers.assembly import assembled
from scorers.backend import Pooled, Row
from scorers.backends.opening import open_backend
from scorers.contract import Score
from scorers.loading import Loading
from scorers.model_files import ModelFiles, load_files
from scorers.model_path import LoadError
from scorers.model_scorer import CannotScore, Encoder, ModelScorer
from scorers.probability import sigmoid, softmax
from scorers.reading import Sort
from scorers.scorer_settings import SafetyConfig
from scorers.template import ChatTemplate, PlainText

MAX_WINDOWS = 64
# A longer tail behind the last control token is text, not the close of a turn.
MAX_CLOSING = 8


def windows(ids: Sequence[int], size: int) -> list[list[int]]:
    """Pieces of at most `size` ids that cover all of them, neighbours sharing at least a quarter of `size`.

    The last piece ends where the input ends. `size` is at least 1.
    """
    if len(ids) <= size:
        return [list(ids)]
    step = size - math.ceil(size / 4) or 1
    starts = [*range(0, len(ids) - size, step), len(ids) - size]
    return [list(ids[start : start + size]) for start in starts]


def window_count(length: int, size: int) -> int:
    """How many pieces `windows` would make of this many ids."""
    step = size - math.ceil(size / 4) or 1
    return 1 if length <= size else math.ceil((length - size) / step) + 1


class SafetyReader:
    """`categories` holds (index of the label, name) of each label that is a category."""

    def __init__(
        self,
        categories: Sequence[tuple[int, str]],
        *,
        multi_label: bool,
        max_tokens: int,
        prefix: Sequence[int] = (),
        suffix: Sequence[int] = (),
        control_ids: Collection[int] = (),
    ) -> None:
        self._categories = tuple(categories)
        self._multi_label = multi_label
        self._prefix, self._suffix = list(prefix), list(suffix)
        self._control_ids = control_ids
        self._size = max(1, max_tokens - len(prefix) - len(suffix))

    @property
    def names(self) -> list[str]:
        """The categories, in the model's order."""
        return [name for _, name in self._categories]

    def windows(self, ids: list[int]) -> list[list[int]]:
        """All of the input, in windows. Raises CannotScore where it is empty or has more than 64."""
        closing = self._closing(ids) if len(ids) > self._size else []
        body, size = ids[: len(ids) - len(closing)], self._size - len(closing)
        count = window_count(len(body), size)
        if count > MAX_WINDOWS:
            raise CannotScore(
                f"The input has {len(ids)} tokens, {count} windows of {size}; at most {MAX_WINDOWS} are read."
            )
        framed = [self._prefix + piece + closing + self._suffix for piece in windows(body, size)]
        if not framed[0]:
            raise CannotScore("The chat template gave no tokens to score.")
        return framed

    def _closing(self, ids: list[int]) -> list[int]:
        """The ids from the last control token on, where they can be the close of a turn."""
        tail = ids[-min(MAX_CLOSING, self._size // 2) :] if self._size > 1 else []
        starts = [index for index, one in enumerate(tail) if one in self._control_ids]
        return tail[starts[-1] :] if starts else []

    def score(self, rows: Sequence[Row], tokens: int) -> Score:
        """The largest probability of each category over the windows. Raises CannotScore for logits not finite."""
        if not all(math.isfinite(logit) for row in rows for logit in row):
            raise CannotScore("The model answered with a number that is not finite.")
        read = [[*map(sigmoid, row)] if self._multi_label else softmax(row) for row in rows]
        return Score(
            categories={name: max(row[index] for row in read) for index, name in self._categories}, tokens=tokens
        )


def safety_parts(files: ModelFiles, safe_labels: Collection[str]) -> tuple[Encoder, SafetyReader]:
    """How this model reads conversations and what its rows mean. Raises LoadError where it cannot be a guard."""
    if len(files.labels) < 2 and not files.multi_label:
        raise LoadError(
            f"{files.name} has a single label, so its number is no probability; a safety classifier has at least "
            "two. A model with one raw score has kind: reward."
        )
    safe = {label.casefold() for label in safe_labels}
    categories = [(index, label) for index, label in enumerate(files.labels) if label.casefold() not in safe]
    if not categories:
        raise LoadError(
            f"All labels of {files.name} ({', '.join(files.labels)}) are listed in safe_labels, so it could "
            "flag nothing."
        )
    if not files.multi_label and len(categories) == len(files.labels):
        raise LoadError(
            f"None of the labels of {files.name} ({', '.join(files.labels)}) is listed in safe_labels; its "
            "probabilities add up to one, so it would flag everything. Name the label that means 'nothing wrong'."
        )
    if files.tokenizer.chat_template:
        reader = SafetyReader(
            categories,
            multi_label=files.multi_label,
            max_tokens=files.max_tokens,
            control_ids=files.tokens.control_ids,
        )
        return ChatTemplate(files.tokenizer, files.tokens, Sort.ALL), reader
    tokens = files.tokens
    reader = SafetyReader(
        categories,
        multi_label=files.multi_label,
        max_tokens=files.max_tokens,
        prefix=tokens.prefix,
        suffix=tokens.suffix,
    )
    return PlainText(tokens, Sort.ALL), reader


def load(name: str, config: SafetyConfig, loading: Loading) -> tuple[ModelScorer, str]:
    """The scorer, and where and how it runs in a few words. Raises LoadError."""
    files = load_files(config.model, config.max_tokens)
    encoder, reader = safety_parts(files, config.safe_labels)
    backend, about = open_backend(name, files, Pooled(), loading, dtype=config.dtype, vllm=config.vllm)
    scorer = assembled(
        name, config, files, encoder, reader, backend, loading, prompt_only=True, categories=reader.names
    )
    return scorer, f"{config.model} {about}, labels: {', '.join(files.labels)}"
