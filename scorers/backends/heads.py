"""What all ways to run a model share: which tokens a head reads, how it is called, and rows from its logits."""

from collections.abc import Sequence
from typing import Any

import torch

from scorers.backend import NextToken, Row, Steps
from scorers.backends.weights import Weights


def steps_of(ids: Sequence[int], head: Steps) -> list[int]:
    """The positions of the step tokens."""
    return [position for position, one in enumerate(ids) if one == head.token_id]


def next_token_rows(logits: torch.Tensor, head: NextToken) -> list[Row]:
    """Log-probabilities over the whole vocabulary of the head's ids, from float32 logits [inputs, vocabulary]."""
    wanted = logits[:, torch.tensor(head.ids, device=logits.device)] - logits.logsumexp(-1, keepdim=True)
    rows: list[Row] = wanted.tolist()
    return rows


def logits_of(weights: Weights, given: dict[str, Any], pad: int) -> torch.Tensor:
    """The model's logits in float32. pad: what a classifier takes for padding, without which it refuses batches."""
    config = weights.model.config.get_text_config()
    own = config.pad_token_id
    config.pad_token_id = pad
    try:
        logits: torch.Tensor = weights.model(**given).logits
    finally:
        config.pad_token_id = own
    return logits.float()


def pad_of(weights: Weights, inputs: Sequence[Sequence[int]]) -> int:
    """The model's own pad id, at which it pools as in training even where an input ends in it. For a model that has
    none: an id that no input ends in, so that each is read at its last token."""
    own: int | None = weights.model.config.get_text_config().pad_token_id
    if own is not None:
        return own
    last = {ids[-1] for ids in inputs}
    return next(index for index in range(len(last) + 1) if index not in last)


def padded(weights: Weights, inputs: Sequence[list[int]]) -> dict[str, Any]:
    """Ids, [inputs, longest], as the model takes them, with a mask where something is padded."""
    longest = max(map(len, inputs))
    pad = pad_of(weights, inputs)
    given = {"input_ids": on(weights, [[*ids, *[pad] * (longest - len(ids))] for ids in inputs])}
    if min(map(len, inputs)) < longest:
        given["attention_mask"] = on(weights, [[1] * len(ids) + [0] * (longest - len(ids)) for ids in inputs])
    return given


def on(weights: Weights, values: Sequence[Any]) -> torch.Tensor:
    """Whole numbers on the model's device, without waiting for it."""
    made = torch.tensor(values, dtype=torch.long)
    return made.pin_memory().to(weights.device, non_blocking=True) if weights.device != "cpu" else made
