"""Temperature scaling: one number that makes probabilities mean what they say (Guo et al. 2017, arXiv:1706.04599).

p becomes sigmoid(logit(p) / T), with the T that makes labelled data likeliest. It keeps the order of all texts, so it
changes no ranking and no curve of precision and recall: only what a threshold of .5 means.
"""

import math
from collections.abc import Sequence

from scorers.probability import sigmoid

# Probabilities nearer to 0 or 1 than this have lost their logit to rounding.
_EDGE = 1e-12
# Of 1/T. Perfectly separated data would have it grow for ever.
_LEAST, _MOST = 1 / 20, 20.0


def scaled(probability: float, temperature: float) -> float:
    """sigmoid(logit(p) / T); 0 and 1 stay what they are."""
    if temperature == 1.0 or not 0.0 < probability < 1.0:
        return probability
    return sigmoid(_logit(probability) / temperature)


def fit_temperature(probabilities: Sequence[float], labels: Sequence[bool]) -> float:
    """The T of least mean log-loss, between 1/20 and 20. Raises ValueError where a class is missing.

    The log-loss is convex in 1/T, and its slope is the mean of (p - label) * logit: bisected here.
    """
    if len(set(labels)) < 2:
        raise ValueError("texts that belong to the category and texts that do not are both needed")
    pairs = [(_logit(probability), label) for probability, label in zip(probabilities, labels, strict=True)]

    def slope(inverse: float) -> float:
        return math.fsum((sigmoid(logit * inverse) - label) * logit for logit, label in pairs)

    low, high = _LEAST, _MOST
    if slope(low) >= 0:
        return 1 / low
    if slope(high) <= 0:
        return 1 / high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)


def _logit(probability: float) -> float:
    held = min(max(probability, _EDGE), 1 - _EDGE)
    return math.log(held) - math.log1p(-held)
