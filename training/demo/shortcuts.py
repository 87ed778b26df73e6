"""How far a selector gets that knows only length, or only one word: evidence that the world has no shortcut."""

from __future__ import annotations

import random
import re

from training.demo.statistics import best_of_n


def _recovered(pool_golds: list[list[float]], proxy: list[list[float]], n: int = 8) -> float:
    """The share of the oracle's best-of-n gain that a selector gets."""
    base = sum(sum(g) / len(g) for g in pool_golds)
    got = sum(best_of_n(p, g, n) for p, g in zip(proxy, pool_golds, strict=True))
    oracle = sum(best_of_n(g, g, n) for g in pool_golds)
    return (got - base) / (oracle - base)


def shortcut_shares(answers: list[list[str]], golds: list[list[float]], n: int = 8) -> dict[str, float]:
    """The share of the oracle's gain that length alone, and the best single word alone, recover.

    Words are tried both ways, present is good and absent is good, on the data that they are measured on, so the share
    of the best word is an upper bound.
    """
    # A tiny noise breaks ties between equal proxies, in place of always the last sample.
    rng = random.Random(0)
    jitter = [[rng.random() * 1e-6 for _ in row] for row in answers]
    words = [[set(re.findall(r"[a-z]+", answer.lower())) for answer in row] for row in answers]
    counts: dict[str, int] = {}
    for row in words:
        for found in row:
            for word in found:
                counts[word] = counts.get(word, 0) + 1
    common = sorted(word for word, count in counts.items() if count >= 0.01 * sum(map(len, answers)))
    best_word = 0.0
    for word in common:
        for sign in (1.0, -1.0):
            proxy = [
                [sign * (word in found) + noise for found, noise in zip(row, extra, strict=True)]
                for row, extra in zip(words, jitter, strict=True)
            ]
            best_word = max(best_word, _recovered(golds, proxy, n))
    lengths = [[float(len(answer)) for answer in row] for row in answers]
    negative = [[-length for length in row] for row in lengths]
    return {"length": max(_recovered(golds, lengths, n), _recovered(golds, negative, n)), "one_word": best_word}
