"""A model run as transformers has it: a batch padded to its longest input, with a mask."""

import inspect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from scorers.backend import Head, NextToken, Pooled, Row
from scorers.backends.heads import logits_of, next_token_rows, on, pad_of, padded, steps_of
from scorers.backends.plans import plan_padded
from scorers.backends.weights import Weights
from scorers.batcher import Ran

_STRETCHED = frozenset({"dynamic", "longrope"})


class PaddedModel:
    """Any model. One whose positions stretch with the longest input of a batch (dynamic, long RoPE) runs them alone."""

    def __init__(self, weights: Weights, head: Head) -> None:
        self._weights = weights
        self._head = head
        self._alone = stretches(weights)
        takes_keep = "logits_to_keep" in inspect.signature(weights.model.forward).parameters
        self._options = {"logits_to_keep": 1} if isinstance(head, NextToken) and takes_keep else {}

    def plan(self, inputs: Sequence[list[int]], max_batch_tokens: int) -> list[int]:
        """Which of the waiting inputs to run now, see `scorers.batcher`."""
        return [0] if self._alone else plan_padded(inputs, max_batch_tokens)

    def run(self, inputs: Sequence[list[int]]) -> Ran[Row]:
        """One row an input, in order, in float32."""
        rows: list[Row] = [[]] * len(inputs)
        tokens = 0
        for indices in self._batches(inputs):
            batch = [inputs[index] for index in indices]
            tokens += max(map(len, batch)) * len(batch)
            for index, row in zip(indices, self._rows(batch), strict=True):
                rows[index] = row
        return Ran(rows, tokens)

    def _batches(self, inputs: Sequence[list[int]]) -> Iterator[list[int]]:
        if self._alone:
            yield from ([index] for index in range(len(inputs)))
        elif isinstance(self._head, NextToken):  # of one length: the logits of all positions would be many
            by_length: defaultdict[int, list[int]] = defaultdict(list)
            for index, ids in enumerate(inputs):
                by_length[len(ids)].append(index)
            yield from by_length.values()
        else:
            yield list(range(len(inputs)))

    def _rows(self, batch: Sequence[list[int]]) -> list[Row]:
        if self._alone:
            # Dynamic RoPE stays stretched after a long input, and goes back after a short one.
            self._weights.model(input_ids=on(self._weights, [batch[0][:1]]))
        given = padded(self._weights, batch) | self._options
        logits = logits_of(self._weights, given, pad_of(self._weights, batch))
        if isinstance(self._head, NextToken):
            return next_token_rows(logits[:, -1], self._head)
        if isinstance(self._head, Pooled):
            rows: list[Row] = logits.tolist()
            return rows
        host = logits.cpu()
        return [host[index, steps_of(ids, self._head)].flatten().tolist() for index, ids in enumerate(batch)]


def stretches(weights: Weights) -> bool:
    """Whether a token's position means something else in a batch with a longer input."""
    return not _STRETCHED.isdisjoint(_rope_types(weights.model.config.get_text_config().to_dict()))


def _rope_types(value: Any) -> Iterator[str]:
    """Of all the model's layers: configurations have them in several places."""
    if isinstance(value, dict):
        if isinstance(value.get("rope_type"), str):
            yield value["rope_type"]
        for inner in value.values():
            yield from _rope_types(inner)
