"""In which order rows are trained on. A pure function of the rows, the settings and the seed, so that a run that was
killed goes on as if nothing had been.

Weights become a resampling, since TRL's loss has no weights of rows: each epoch draws every row of weight w (0 to 1)
once with probability w, and not at all otherwise. The draws are systematic (Madow, 1949): the rows, in random order,
are laid end to end, each as long as its weight, and those are taken on which a grid of step 1 with a random start
falls. So each row's expected number of draws is its weight, and there are as many draws as the weights add up to.
"""

import random
from collections.abc import Sequence

_UNITS = 1 << 20
STEPS_SORTED_TOGETHER = 32


def drawn(weights: Sequence[float], rng: random.Random) -> list[int]:
    """Places of the rows that an epoch draws, in random order. Rows of weight 1 are all drawn."""
    order = list(range(len(weights)))
    rng.shuffle(order)
    # In whole units: a sum of floats would now and then lose a row of weight 1.
    position = rng.randrange(_UNITS)
    found = []
    for index in order:
        before, position = position, position + round(weights[index] * _UNITS)
        if position // _UNITS > before // _UNITS:
            found.append(index)
    return found


def training_order(
    weights: Sequence[float],
    lengths: Sequence[int],
    batch: int,
    epochs: int,
    seed: int,
    of: str = "reward",
    together: int = STEPS_SORTED_TOGETHER,
) -> list[int]:
    """Places of the rows that are trained on, in order, over all epochs. of: what is trained; others draw otherwise.

    Each `batch` of them are about as long as one another, and batches are mixed. An incomplete batch comes last.
    together: steps whose rows are sorted by length together; with 1 each batch is drawn at random.
    """
    rng = random.Random(f"{of}-{seed}")
    stream = [index for _ in range(epochs) for index in drawn(weights, rng)]
    batches: list[list[int]] = []
    window = batch * together
    for start in range(0, len(stream), window):
        part = sorted(stream[start : start + window], key=lambda index: lengths[index])
        batches += [part[place : place + batch] for place in range(0, len(part), batch)]
    incomplete = batches.pop() if batches and len(batches[-1]) < batch else []
    # Within an epoch's worth of batches, so that no row comes twice before others came once.
    share = max(1, -(-len(batches) // epochs))
    mixed: list[int] = []
    for start in range(0, len(batches), share):
        some = batches[start : start + share]
        rng.shuffle(some)
        mixed += [index for rows in some for index in rows]
    return mixed + incomplete
