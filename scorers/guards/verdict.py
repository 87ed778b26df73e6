"""What a generative guard's next-token probabilities mean.

The verdict is one token, so one prefill of the prompt gives the probability of each label. They are normalised over
the labels, as a softmax over them alone would be; labels that hold less than half of the mass are no answer. P(unsafe)
is their sum, each with its weight: a label between safe and unsafe counts in part.

A second prefill, of the same ids with the unsafe label and what follows it put behind them, gives the category that
would be named first. A category reports

    P(category) = P(unsafe) * (p + rest)

where p is the probability of its first token and rest what no category's first token holds: the most that the category
can have, so that a threshold is never passed by words that we did not foresee. It is at most P(unsafe). A text of two
categories divides its P(unsafe) between them, for only the first named is read; a threshold on the whole is safer then.

Both prefills are always run: whether the second can matter depends on thresholds, which are the gateway's. It shares
all but a few ids with the first, so a backend that keeps prefixes (vLLM) computes little more; others pay it in full.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scorers.backend import Row
from scorers.contract import Score
from scorers.guards.guard_format import GuardFormat
from scorers.model_path import LoadError
from scorers.model_scorer import CannotScore
from scorers.tokens import Hidden, SafeTokenizer

MIN_MASS = 0.5


@dataclass(frozen=True, slots=True)
class VerdictTokens:
    """labels, categories: the first token of each, in the format's order. naming: ids that make it name a category."""

    labels: tuple[int, ...]
    naming: tuple[int, ...]
    categories: tuple[int, ...]


def find_tokens(tokens: SafeTokenizer, prompt: str, found: GuardFormat) -> VerdictTokens:
    """For a prompt as text, what the guard writes before a label included. Raises LoadError where two share a token."""

    def ids_of(text: str) -> list[int]:
        return tokens.encode(text, Hidden(text))

    def following(begin: str, text: str) -> list[int]:
        ids, longer = ids_of(begin), ids_of(begin + text)
        if longer[: len(ids)] != ids or len(longer) == len(ids):
            raise LoadError(f"The tokenizer joins {text!r} with what the guard format puts before it: move it there.")
        return longer[len(ids) :]

    def told_apart(begin: str, texts: Sequence[str], what: str) -> tuple[int, ...]:
        by_token: dict[int, str] = {}
        for text in texts:
            other = by_token.setdefault(following(begin, text)[0], text)
            if other != text:
                raise LoadError(
                    f"The {what} {other!r} and {text!r} begin with the same token of this tokenizer, so they cannot be "
                    "told apart."
                )
        return tuple(by_token)

    labels = told_apart(prompt, [label.text for label in found.labels], "labels")
    if not found.categories:
        return VerdictTokens(labels, (), ())
    until_category = found.unsafe_label + found.then
    naming = following(prompt, until_category)
    categories = told_apart(prompt + until_category, [one.text for one in found.categories], "categories")
    return VerdictTokens(labels, tuple(naming), categories)


class VerdictReader:
    """Reads a whole prompt or says that it is too long: judged in pieces, an answer would be in another's light."""

    def __init__(self, guard_format: GuardFormat, found: VerdictTokens, max_tokens: int) -> None:
        self._format = guard_format
        self._naming = list(found.naming)
        self._max_tokens = max_tokens
        self.ids = tuple(dict.fromkeys((*found.labels, *found.categories)))
        """Tokens whose log-probabilities a row holds, in this order."""
        place = {token: index for index, token in enumerate(self.ids)}
        self._labels = [place[token] for token in found.labels]
        self._categories = [place[token] for token in found.categories]

    def windows(self, ids: list[int]) -> list[list[int]]:
        """The prompt, and the prompt with an unsafe verdict. Raises CannotScore where it is too long."""
        length = len(ids) + len(self._naming)
        if length > self._max_tokens:
            raise CannotScore(
                f"The guard's prompt has {length} tokens, its model reads at most {self._max_tokens}; a guard does not "
                "judge a part."
            )
        return [ids, ids + self._naming] if self._naming else [ids]

    def score(self, rows: Sequence[Row], tokens: int) -> Score:
        """Probabilities by category. Raises CannotScore where the labels hold too little, or for what is no number."""
        if any(len(row) != len(self.ids) for row in rows):
            raise CannotScore("The guard's model did not answer for each of its labels.")
        if not all(math.isfinite(one) for row in rows for one in row):
            raise CannotScore("The guard's model answered with a number that is not finite.")
        labels = [math.exp(rows[0][index]) for index in self._labels]
        mass = math.fsum(labels)
        if mass < MIN_MASS:
            raise CannotScore(
                f"The guard did not answer with one of its labels: they hold {mass:.2g} of the probability."
            )
        shares = [one / mass for one in labels]
        pairs = list(zip(self._format.labels, shares, strict=True))
        unsafe = min(1.0, math.fsum(label.unsafe * share for label, share in pairs))
        found = {self._format.category: unsafe}
        found |= {label.name: share for label, share in pairs if label.name}
        if self._naming:
            named = [math.exp(rows[1][index]) for index in self._categories]
            rest = max(0.0, 1.0 - math.fsum(named))
            for category, one in zip(self._format.categories, named, strict=True):
                found[category.name] = unsafe * min(1.0, one + rest)
        return Score(categories=found, tokens=tokens)
