"""Simulated raters: who prefers which answer, with human-like noise, and the data sets they make.

A rater compares two answers by their gold scores plus logistic noise, so that P(first preferred) =
sigmoid((gold_first - gold_second) / RATER_NOISE). The noise sets a ceiling that no reward model can pass on such
labels.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from training.demo.answers import contrasted_answers, mixed_answer
from training.demo.conversation import Prompt
from training.demo.gold import facts_stated, judge
from training.demo.prompts import training_prompt
from training.demo.topics import LABELLED_TOPICS, UNLABELLED_TOPICS

RATER_NOISE = 0.6
_UNLABELLED_NAMES = frozenset(topic.name for topic in UNLABELLED_TOPICS)


@dataclass(frozen=True)
class RatedGroup:
    """Answers to one prompt, and for every pair (i < j) whether a rater preferred i."""

    prompt: Prompt
    answers: tuple[str, ...]
    prefers_first: tuple[bool, ...]
    source: str

    def pairs(self) -> Iterator[tuple[int, int]]:
        """(preferred, other) as places in `answers`."""
        for (i, j), first in zip(itertools.combinations(range(len(self.answers)), 2), self.prefers_first, strict=True):
            yield (i, j) if first else (j, i)


def preference_probability(gold_first: float, gold_second: float) -> float:
    """Chance that a rater prefers the first of two answers with these gold scores."""
    return 1.0 / (1.0 + math.exp(-(gold_first - gold_second) / RATER_NOISE))


def rate(prompt: Prompt, answers: Sequence[str], source: str, rng: random.Random) -> RatedGroup:
    """Let a rater compare every pair of answers once."""
    golds = [judge(prompt.as_messages(), answer).total for answer in answers]
    votes = tuple(rng.random() < preference_probability(a, b) for a, b in itertools.combinations(golds, 2))
    return RatedGroup(prompt, tuple(answers), votes, source)


def may_be_labelled(answer: str) -> bool:
    """Whether an answer states no fact of an unlabelled topic: those must never be seen in labels, right or wrong."""
    sentences = answer.replace("!", ".").replace("?", ".").split(".")
    return not any(fact.topic in _UNLABELLED_NAMES for sentence in sentences for fact in facts_stated(sentence))


def label_prompts(count: int, seed: int) -> list[Prompt]:
    """Prompts that get labels: training wordings, labelled topics."""
    rng = random.Random(f"label-prompts-{seed}")
    return [training_prompt(rng, LABELLED_TOPICS, inviting=0.06) for _ in range(count)]


def written_groups(count: int, size: int, seed: int) -> list[RatedGroup]:
    """Rated groups whose answers the world's generator wrote."""
    rng = random.Random(f"written-{seed}")
    groups = []
    for prompt in label_prompts(count, seed + 1):
        # Half the groups contrast right with wrong facts: the many facts need most of the labels.
        contrast = rng.random() < 0.5
        written = (
            contrasted_answers(prompt, size, rng) if contrast else [mixed_answer(prompt, rng) for _ in range(size)]
        )
        answers = [answer for answer in written if may_be_labelled(answer)]
        groups.append(rate(prompt, answers, "written", rng))
    return groups


def sampled_groups(prompts: Sequence[Prompt], answers: Sequence[Sequence[str]], seed: int) -> list[RatedGroup]:
    """Rated groups of a policy's samples; a sample with a fact of an unlabelled topic is left out."""
    rng = random.Random(f"sampled-{seed}")
    groups = []
    for prompt, found in zip(prompts, answers, strict=True):
        kept = [answer for answer in found if may_be_labelled(answer)]
        if len(kept) >= 2:
            groups.append(rate(prompt, kept, "sampled", rng))
    return groups
