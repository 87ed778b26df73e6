"""Runs a model in this process: token ids in, one row of numbers an input, the same whatever else is run with it.

All inputs of a batch lie in one row without padding, and what they begin with in common runs once; beginnings are kept
for what comes later (`scorers.backends.packed`). Not every architecture can run so: one may mix tokens elsewhere than
in its attention, or count positions in its own way. No list says which. Each model, when it is loaded, runs a few
inputs alone as transformers has it, then packed, and is packed only if the rows agree; others run padded.

Tolerance: an input gives the same row within 1e-4 in float32 (for logits of up to 30), and within 5% of the spread of
the scores in bfloat16, alone or in any batch, with and without beginnings that are shared or kept.
"""

import logging
from collections.abc import Sequence

import torch

from scorers.backend import Head, Row, Steps
from scorers.backends.packed import PackedModel
from scorers.backends.padded import PaddedModel, stretches
from scorers.backends.prefixes import LEAST_KEPT, Prefixes
from scorers.backends.weights import Weights
from scorers.batcher import Ran
from scorers.errors import ScorerFailed
from scorers.model_files import one_line

logger = logging.getLogger(__name__)

_LONGEST_WINDOW = 512
_NEAR = {"float32": 1e-3}
_NEAR_ELSE = 0.1
"""Of the spread of the rows: what may differ by rounding. A model that packs wrongly differs by about the spread."""


class LocalModel:
    """`forward` is called by one thread at a time. prefix_bytes: memory for beginnings that are kept; 0 keeps none."""

    def __init__(self, weights: Weights, head: Head, prefix_bytes: int = 0) -> None:
        self.weights = weights
        plain = PaddedModel(weights, head)
        with torch.inference_mode():
            packed = None if stretches(weights) else _packed(weights, head, plain, prefix_bytes)
        self._runner = packed or plain
        self.plan = self._runner.plan
        self.about = "padded" if packed is None else "packed" if not packed.share else "packed, beginnings shared"

    def forward(self, inputs: Sequence[list[int]]) -> Ran[Row]:
        """One row an input, in order, in float32. Raises ScorerFailed where an input is empty."""
        if not all(inputs):
            raise ScorerFailed("An input has no tokens.")
        with torch.inference_mode():
            return self._runner.run(inputs)


def _packed(weights: Weights, head: Head, plain: PaddedModel, prefix_bytes: int) -> PackedModel | None:
    """The model packed, as far as its rows are those of the plain one; None where they are not."""
    probes = _probes(weights, head)
    expected = [plain.run([ids]).rows[0] for ids in probes]
    try:
        packed = PackedModel(weights, head)
    except Exception as error:  # whatever a model of an unknown sort does here, it still runs padded
        logger.info("runs padded: %s", one_line(error))
        return None
    together = [probes]
    one_by_one = [[ids] for ids in probes]
    if not _agrees(packed, together, expected):
        packed.remove()
        return None
    if packed.layers is not None and packed.layers.shareable:
        packed.share = True
        packed.share = _agrees(packed, together, expected)
    if packed.share and prefix_bytes:
        packed.prefixes = Prefixes(prefix_bytes)
        packed.prefixes = Prefixes(prefix_bytes) if _agrees(packed, one_by_one, expected) else None
    return packed


def _probes(weights: Weights, head: Head) -> list[list[int]]:
    """Inputs of several lengths that begin alike, some for longer than a prefix must be to be kept."""
    config = weights.model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or 0
    longest = getattr(config, "max_position_embeddings", None) or _LONGEST_WINDOW
    lengths = [LEAST_KEPT + 8, LEAST_KEPT + 15, 3, 17]
    if window <= _LONGEST_WINDOW:
        lengths.append(2 * window + 9)
    probes = []
    for number, length in enumerate(lengths):
        ids = [(31 * at * at + 7 * at + 5) % config.vocab_size for at in range(min(length, longest))]
        ids[-1] = (ids[-1] + number) % config.vocab_size
        if isinstance(head, Steps):
            ids[-1] = head.token_id
            ids[LEAST_KEPT + 2 :: 4] = [head.token_id] * len(ids[LEAST_KEPT + 2 :: 4])
        probes.append(ids)
    return probes


def _agrees(packed: PackedModel, batches: Sequence[Sequence[list[int]]], expected: Sequence[Row]) -> bool:
    """Whether batch after batch gives these rows but for rounding."""
    try:
        rows = [row for batch in batches for row in packed.run(batch).rows]
    except Exception as error:  # whatever a model of an unknown sort does here, it still runs padded
        logger.info("cannot run packed: %s", one_line(error))
        return False
    if list(map(len, rows)) != list(map(len, expected)):
        return False
    got, wanted = ([value for row in some for value in row] for some in (rows, expected))
    near = _NEAR.get(packed.dtype, _NEAR_ELSE) * (max(wanted) - min(wanted)) + 1e-6 * max(map(abs, wanted))
    return all(abs(one - other) <= near for one, other in zip(got, wanted, strict=True))
