"""A judge that rates each answer by itself: the expected rating, after G-Eval (Liu et al. 2023, eq. 1).

value = sum of r * P(r) over the ratings 1 to 9, P the probability of the digit as the next token, renormalised over the
nine. The mean tells apart what the likeliest digit alone would call equal.
"""

import math
from collections.abc import Sequence
from typing import Any

from scorers.backend import Row
from scorers.contract import Message, Score
from scorers.judge.prompt import RATINGS, read_answer, read_material
from scorers.judge.verdict import VerdictPrompt, read_labels
from scorers.model_scorer import CannotScore


class RatingPrompt:
    """A conversation with an answer to token ids."""

    def __init__(self, prompt: VerdictPrompt, told: tuple[str, str]) -> None:
        self._prompt = prompt
        self._told = told

    def encode(
        self, messages: Sequence[Message], candidate: Message | None, tools: Sequence[dict[str, Any]]
    ) -> list[int]:
        """Raises BadScoreRequest for what cannot be read."""
        answer = read_answer(candidate or {}, "candidates[]")
        material = read_material(messages, tools, [answer])
        return self._prompt.encode(material.ask(self._told, [("the answer", answer)]))


class RatingReader:
    """Reads a whole input or says that it is too long."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens

    def windows(self, ids: list[int]) -> list[list[int]]:
        """The input itself. Raises CannotScore where it is too long."""
        if len(ids) > self._max_tokens:
            raise CannotScore(f"The input has {len(ids)} tokens, the judge reads at most {self._max_tokens}.")
        return [ids]

    def score(self, rows: Sequence[Row], tokens: int) -> Score:
        """The expected rating; parts: the probability of each, and the mass that all hold. Raises CannotScore."""
        [row] = rows
        shares = [math.exp(log) for log in read_labels(row, RATINGS)]
        value = sum(int(rating) * share for rating, share in zip(RATINGS, shares, strict=True))
        parts = dict(zip(RATINGS, shares, strict=True)) | {"mass": sum(map(math.exp, row))}
        return Score(value=value, parts=parts, tokens=tokens)
