"""Two ways of answering the same prompts, compared prompt by prompt."""

from collections.abc import Sequence

import numpy as np

from training.demo.statistics import Figure

RESAMPLES = 1000


def less(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    """The differences."""
    return [one - other for one, other in zip(ones, others, strict=True)]


def median_ratio(ones: Sequence[float], others: Sequence[float], seed: int) -> Figure:
    """Of each prompt's ratio, with a percentile bootstrap over prompts."""
    ratios = np.asarray(ones, dtype=np.float64) / np.asarray(others, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(ratios[picks], axis=1), (0.025, 0.975))
    return Figure(float(np.median(ratios)), float(low), float(high), len(ratios), "prompts", seed)
