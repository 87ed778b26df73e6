"""The attention of a packed row (`scorers.backends.packing`), in place of the one that a Hugging Face model comes with.

Registered with transformers' AttentionInterface, which hands it each layer's queries, keys and values after rotary
positions, [1, heads, tokens, head size]. All else of a model works token by token and needs to know nothing.
"""

from contextvars import ContextVar
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from scorers.backends.packing import Context, Group, Packing
from scorers.backends.prefixes import Prefix

NAME = "bestow_packed"

running: ContextVar["PackedAttention"] = ContextVar("running")
"""The row that runs in this thread."""


class PackedAttention:
    """The attention of one row, called once a layer, in order."""

    def __init__(self, packing: Packing, device: torch.device) -> None:
        self._packing = packing
        self._device = device
        self._groups = [_GroupAttention(group, device) for group in packing.groups]
        self._layer = 0
        self.shareable = True
        """Whether all layers that have run are causal and see all that precedes, so that beginnings can be shared."""
        self._stored: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in packing.stores]

    def layer(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        causal: bool,
        window: int | None,
    ) -> torch.Tensor:
        """One layer: all [tokens, heads, head size]. window: a token sees only those less than so far away."""
        self.shareable = self.shareable and causal and window is None
        out = torch.empty((*query.shape[:2], value.shape[2]), dtype=query.dtype, device=query.device)
        for group in self._groups:
            context = self._context(group.group.context, key, value)
            group.attend(query, key, value, context, out, scale, causal, window)
        for stored, store in zip(self._stored, self._packing.stores, strict=True):
            keys, values = self._context(store.context, key, value)
            stored.append((keys.clone(), values.clone()))
        self._layer += 1
        return out

    def prefixes(self) -> list[Prefix]:
        """What is worth keeping, once all layers have run."""
        return [Prefix(store.ids, layers) for store, layers in zip(self._packing.stores, self._stored, strict=True)]

    def _context(self, context: Context, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        own = key[context.start : context.end], value[context.start : context.end]
        if context.kept is None:
            return own
        prefix, length = context.kept
        keys, values = prefix.layers[self._layer]
        if context.start == context.end:
            return keys[:length], values[:length]
        return torch.cat((keys[:length], own[0])), torch.cat((values[:length], own[1]))


class _GroupAttention:
    """The attention of one group: its segments, padded to the longest, are a batch."""

    def __init__(self, group: Group, device: torch.device) -> None:
        self.group = group
        self._device = device
        self._longest = max(group.lengths)
        self._tokens = slice(group.start, group.start + sum(group.lengths))
        self._even = min(group.lengths) == self._longest
        self._masks: dict[tuple[bool, int | None, torch.dtype], torch.Tensor | None] = {}
        if not self._even:
            lengths = torch.tensor(group.lengths)
            columns = torch.arange(self._longest)
            real = columns < lengths[:, None]
            begins = torch.nn.functional.pad(lengths.cumsum(0)[:-1], (1, 0))
            # Where there is nothing, the segment's last token stands, which nobody looks at.
            self._from = (begins[:, None] + torch.minimum(columns, lengths[:, None] - 1)).flatten().to(device)
            self._to = real.flatten().nonzero().squeeze(1).to(device)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        context: tuple[torch.Tensor, torch.Tensor],
        out: torch.Tensor,
        scale: float,
        causal: bool,
        window: int | None,
    ) -> None:
        """Write the group's part of `out`."""
        before = self.group.context.length
        mask = self._mask(causal, window if window is not None and before + self._longest > window else None, query)
        keys, values = self._batch(key), self._batch(value)
        if before:
            keys, values = (
                torch.cat((one.expand(len(self.group.lengths), *one.shape), own), 1)
                for one, own in zip(context, (keys, values), strict=True)
            )
        queries, keys, values = (one.transpose(1, 2) for one in (self._batch(query), keys, values))
        grouped = queries.shape[1] != keys.shape[1]
        if grouped and mask is not None and queries.is_cuda:
            # CUDA's fast kernels take a mask or fewer heads of keys, not both.
            each = queries.shape[1] // keys.shape[1]
            keys, values = keys.repeat_interleave(each, 1), values.repeat_interleave(each, 1)
            grouped = False
        attended = scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=causal and mask is None, scale=scale, enable_gqa=grouped
        )
        flat = attended.transpose(1, 2).flatten(0, 1)
        out[self._tokens] = flat if self._even else flat[self._to]

    def _batch(self, tokens: torch.Tensor) -> torch.Tensor:
        """[segments, longest, heads, head size]"""
        own = tokens[self._tokens]
        if not self._even:
            own = own[self._from]
        return own.view(len(self.group.lengths), self._longest, *own.shape[1:])

    def _mask(self, causal: bool, window: int | None, query: torch.Tensor) -> torch.Tensor | None:
        """What is added to the scores, [segments or 1, 1, longest, context + longest]; None where SDPA needs none."""
        which = (causal, window, query.dtype)
        if which not in self._masks:
            self._masks[which] = self._new_mask(causal, window, query.dtype)
        return self._masks[which]

    def _new_mask(self, causal: bool, window: int | None, dtype: torch.dtype) -> torch.Tensor | None:
        before = self.group.context.length
        if window is None and (not before if causal else self._even):
            return None
        rows = torch.arange(before, before + self._longest, device=self._device)[:, None]
        columns = torch.arange(before + self._longest, device=self._device)
        if causal:  # what stands behind a segment's end is out of sight anyway
            seen = columns <= rows
        else:
            lengths = torch.tensor(self.group.lengths, device=self._device)
            seen = columns < before + lengths[:, None, None]
        if window is not None:
            seen = seen & ((rows - columns).abs() < window)
        seen = seen.expand(-1, self._longest, -1)[:, None] if seen.ndim == 3 else seen[None, None]
        return torch.zeros(seen.shape, dtype=dtype, device=self._device).masked_fill_(~seen, -torch.inf)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    unknown = [name for name in ("softcap", "s_aux", "position_bias", "cache") if others.get(name) is not None]
    if unknown or attention_mask is not None:
        raise ValueError(f"this attention cannot be packed: it has {', '.join(unknown) or 'a mask of its own'}")
    causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    queries, keys, values = (one[0].transpose(0, 1) for one in (query, key, value))
    return running.get().layer(queries, keys, values, scale, causal, sliding_window)[None], None


AttentionInterface.register(NAME, _attention)
