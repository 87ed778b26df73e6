"""Logits to probabilities, without overflow."""

import math
from collections.abc import Sequence


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def softmax(logits: Sequence[float]) -> list[float]:
    """exp(x) over the sum of exp."""
    largest = max(logits)
    weights = [math.exp(x - largest) for x in logits]
    total = sum(weights)
    return [weight / total for weight in weights]
