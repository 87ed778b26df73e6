"""Which of the inputs that wait run together. Pure: token ids in, indices out."""

from collections.abc import Sequence

LEAST_SHARED = 16
"""Tokens in common that are run once. Sharing fewer costs as much as it saves: one more call in each layer."""

_MAX_PADDING = 0.5


def plan_padded(inputs: Sequence[Sequence[int]], max_batch_tokens: int) -> list[int]:
    """Indices of the inputs to run now, the oldest (index 0) always among them; for models that pad.

    `inputs` are oldest first, not empty. Grows from the oldest to its nearest in length, while the padded size
    (longest times count) is at most `max_batch_tokens` and padding is at most half of what is run. One input beyond
    `max_batch_tokens` runs alone.
    """
    lengths = [len(ids) for ids in inputs]
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    low = high = order.index(0)
    total = lengths[0]
    while True:
        below = lengths[order[low - 1]] if low > 0 else None
        above = lengths[order[high + 1]] if high + 1 < len(order) else None
        longest, shortest, count = lengths[order[high]], lengths[order[low]], high - low + 2
        take_above = above is not None and (below is None or above - longest < shortest - below)
        nearest = above if take_above else below
        if nearest is None:
            break
        padded = max(longest, nearest) * count
        if padded > max_batch_tokens or padded - (total + nearest) > _MAX_PADDING * padded:
            break
        total += nearest
        low, high = (low, high + 1) if take_above else (low - 1, high)
    return sorted(order[low : high + 1])


def plan_packed(inputs: Sequence[Sequence[int]], max_batch_tokens: int, *, share: bool) -> list[int]:
    """As `plan_padded`, for models that neither pad nor mind lengths: the oldest inputs, in order.

    With `share`, what an input has in common with the one before it, as the candidates of a request have, counts once.
    """
    total = 0
    for index, ids in enumerate(inputs):
        shared = common_length(inputs[index - 1], ids) if share and index else 0
        total += len(ids) - (shared if shared >= LEAST_SHARED else 0)
        if index and total > max_batch_tokens:
            return list(range(index))
    return list(range(len(inputs)))


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    low, high = 0, min(len(first), len(second)) + 1
    while high - low > 1:  # halving, since slices are compared in C
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low
