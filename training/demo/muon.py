"""The optimiser of all demo trainings: Muon for the hidden matrices, AdamW for embeddings, heads and norms.

Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/) replaces a matrix's momentum by the nearest
orthogonal matrix, found by five Newton-Schulz steps. On these models it halves the steps to the same loss. torch's own
version computes in bf16, which is slow on CPUs without bf16 instructions; this one keeps fp32 and stacks equal shapes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

_MOMENTUM = 0.95
_DECAY = 0.02


def orthogonalise(gradients: torch.Tensor) -> torch.Tensor:
    """Nearly orthogonal matrices in the directions of `gradients`; (count, rows, columns)."""
    tall = gradients.shape[-2] > gradients.shape[-1]
    x = gradients.mT if tall else gradients
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (2.0315 * a @ a - 4.7750 * a) @ x
    result: torch.Tensor = x.mT if tall else x
    return result


class HybridOptimizer:
    """Muon on every 2-d weight outside embeddings and heads, AdamW on the rest.

    Args:
        named: the model's named parameters.
        adam_rate: peak rate of AdamW.
        muon_rate: peak rate of Muon.
    """

    def __init__(self, named: Sequence[tuple[str, torch.nn.Parameter]], adam_rate: float, muon_rate: float) -> None:
        self._groups: dict[tuple[int, ...], list[torch.nn.Parameter]] = {}
        rest = []
        for name, weights in named:
            if weights.dim() == 2 and "embed" not in name and "score" not in name and "lm_head" not in name:
                self._groups.setdefault(tuple(weights.shape), []).append(weights)
            else:
                rest.append(weights)
        self._momenta = {shape: torch.zeros(len(group), *shape) for shape, group in self._groups.items()}
        self._adam = torch.optim.AdamW(rest, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.01)
        self._all = [weights for _, weights in named]
        self._adam_rate, self._muon_rate = adam_rate, muon_rate

    def step(self, loss: torch.Tensor, scale: float) -> None:
        """One step on `loss` with clipped gradients, at `scale` times the peak rates."""
        for weights in self._all:
            weights.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._all, 1.0)
        for group in self._adam.param_groups:
            group["lr"] = self._adam_rate * scale
        self._adam.step()
        self._muon_step(self._muon_rate * scale)

    @torch.no_grad()
    def _muon_step(self, rate: float) -> None:
        for shape, group in self._groups.items():
            gradients = torch.stack([torch.zeros_like(w) if w.grad is None else w.grad for w in group])
            momentum = self._momenta[shape].mul_(_MOMENTUM).add_(gradients)
            updates = orthogonalise(gradients.add(momentum, alpha=_MOMENTUM)) * max(1.0, shape[0] / shape[1]) ** 0.5
            for weights, update in zip(group, updates, strict=True):
                weights.mul_(1 - rate * _DECAY).add_(update, alpha=-rate)
