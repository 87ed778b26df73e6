"""A model run on one packed row: no padding, and what inputs begin with in common only once.

See `scorers.backends.packing`. The base model is given the packed row in place of what its head passes on, and the head
only the hidden states that it wants: those of the last tokens, or of the step tokens. Nothing of either is rewritten.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_layers import GenericForSequenceClassification

from scorers.backend import Head, NextToken, Pooled, Row, Steps
from scorers.backends import attention
from scorers.backends.attention import PackedAttention
from scorers.backends.heads import logits_of, next_token_rows, on, pad_of, padded, steps_of
from scorers.backends.packing import Packing, pack
from scorers.backends.plans import plan_packed, plan_padded
from scorers.backends.prefixes import Prefixes
from scorers.backends.weights import Weights
from scorers.batcher import Ran

_NO_ID = -1
_MOST_ON_CPU = 2048
"""Tokens: a core is busy with fewer, and more leave its caches (4,096 took a fifth longer a token)."""


@dataclass(frozen=True, slots=True)
class _Row:
    """ids and positions, [1, tokens]; wanted: where the row has the hidden states for the head, [n, m]."""

    ids: torch.Tensor
    positions: torch.Tensor
    wanted: torch.Tensor


class PackedModel:
    """share: run common beginnings once, which only causal models without a window can. prefixes: those kept.

    `layers` tells, after a row has run, what the attention was asked for.
    """

    def __init__(self, weights: Weights, head: Head, *, share: bool = False, prefixes: Prefixes | None = None) -> None:
        self._weights = weights
        self._head = head
        self.share = share
        self.prefixes = prefixes
        # These read the last token that is no padding. Other classifiers may read any, and are given all.
        self._few = not isinstance(head, Pooled) or isinstance(weights.model, GenericForSequenceClassification)
        self.layers: PackedAttention | None = None
        self._row: _Row | None = None
        base = getattr(weights.model, weights.model.base_model_prefix)
        self._own_attention = weights.model.config._attn_implementation
        weights.model.set_attn_implementation(attention.NAME)
        self._hooks = (
            base.register_forward_pre_hook(self._before, with_kwargs=True),
            base.register_forward_hook(self._after),
        )

    @property
    def dtype(self) -> str:
        """The number format of its weights."""
        return self._weights.dtype

    def remove(self) -> None:
        """The model as it was."""
        for hook in self._hooks:
            hook.remove()
        self._weights.model.set_attn_implementation(self._own_attention)

    def plan(self, inputs: Sequence[list[int]], max_batch_tokens: int) -> list[int]:
        """Which of the waiting inputs to run now, see `scorers.batcher`."""
        if self._few:
            most = max_batch_tokens if self._weights.device != "cpu" else min(max_batch_tokens, _MOST_ON_CPU)
            return plan_packed(inputs, most, share=self.share)
        return plan_padded(inputs, max_batch_tokens)

    def run(self, inputs: Sequence[list[int]]) -> Ran[Row]:
        """One row an input, in order, in float32."""
        wanted = [self._wanted(ids) for ids in inputs]
        firsts = [min(positions, default=len(ids)) for positions, ids in zip(wanted, inputs, strict=True)]
        find = self.prefixes.find if self.prefixes is not None and self._few else None
        packing = pack(inputs, firsts, share=self.share, find=find)
        if self._few:
            index = [[packing.index(number, at)] for number, positions in enumerate(wanted) for at in positions]
            if not index:
                return Ran([[] for _ in inputs], 0)
            logits = self._logits(packing, index, {"input_ids": on(self._weights, [[0]] * len(index))}, _NO_ID)
        else:
            longest = max(map(len, inputs))
            index = [
                [packing.index(number, min(at, len(ids) - 1)) for at in range(longest)]
                for number, ids in enumerate(inputs)
            ]
            given = padded(self._weights, inputs)
            logits = self._logits(packing, index, given, pad_of(self._weights, inputs))
        return Ran(self._rows(logits, wanted), len(packing.ids))

    def _wanted(self, ids: list[int]) -> list[int]:
        """Positions whose hidden states the head needs."""
        if isinstance(self._head, Steps):
            return steps_of(ids, self._head)
        if isinstance(self._head, NextToken):
            return [len(ids) - 1]
        if not self._few:
            return [0]
        pad = self._weights.model.config.get_text_config().pad_token_id
        return [next((at for at in range(len(ids) - 1, -1, -1) if ids[at] != pad), 0)]

    def _logits(self, packing: Packing, index: list[list[int]], given: dict[str, Any], pad: int) -> torch.Tensor:
        layers = PackedAttention(packing, torch.device(self._weights.device))
        weights = self._weights
        self._row = _Row(on(weights, [packing.ids]), on(weights, [packing.positions]), on(weights, index))
        token = attention.running.set(layers)
        try:
            logits = logits_of(weights, given, pad)
        finally:
            attention.running.reset(token)
            self._row = None
        if self.prefixes is not None:
            for prefix in layers.prefixes():
                self.prefixes.keep(prefix)
        self.layers = layers
        return logits

    def _rows(self, logits: torch.Tensor, wanted: Sequence[Sequence[int]]) -> list[Row]:
        if isinstance(self._head, NextToken):
            return next_token_rows(logits[:, -1], self._head)
        if isinstance(self._head, Pooled):
            rows: list[Row] = logits.tolist()
            return rows
        each = iter(logits[:, 0].tolist())
        return [[value for _ in positions for value in next(each)] for positions in wanted]

    def _before(self, _: torch.nn.Module, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """What the head passes on, exchanged for the row."""
        if self._row is None:
            return args, given
        return (), given | {
            "input_ids": self._row.ids,
            "position_ids": self._row.positions,
            "attention_mask": None,
        }

    def _after(self, _: torch.nn.Module, __: Any, output: Any) -> None:
        """The row's hidden states, exchanged for those that the head needs."""
        if self._row is not None:
            output.last_hidden_state = output.last_hidden_state[0, self._row.wanted]
