"""Losses and gradients of the methods against their formulas, on a tiny policy whose adapter was moved by hand."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from tests.training.reward.small_world import pairs, thumbs
from training.data.rows import Demonstration
from training.errors import TrainingError
from training.policy.encoding import EncodedRow, encode_rows
from training.policy.methods import class_weights, trainer_of
from training.policy.settings import Method, PolicySettings
from training.policy.trainer import PolicyRows, train

pytestmark = pytest.mark.usefixtures("one_thread")
COUNT = 6


def rows_of(method: Method) -> PolicyRows:
    if method == "dpo":
        return PolicyRows(pairs=pairs(COUNT))
    if method == "kto":
        return PolicyRows(thumbs=thumbs(COUNT, seed=1))
    return PolicyRows(
        demonstrations=[Demonstration(prompt=one.prompt, completion=one.chosen, side=one.side) for one in pairs(COUNT)]
    )


class Measured:
    """A trainer with one batch of all its rows; `move`: how far its adapter is from the anchor."""

    def __init__(self, base: Path, folder: Path, method: Method, move: float, **settings: Any) -> None:
        of = PolicySettings(method=method, batch=COUNT, **settings)
        self.rows: list[EncodedRow] = encode_rows(rows_of(method), base, of)[0]
        self.trainer = trainer_of(self.rows, range(COUNT), base, of, 0, folder)
        self.model = self.trainer.model
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for name, weights in self.model.named_parameters():
                if weights.requires_grad and ("lora_B" in name or not of.lora):
                    weights += move * torch.randn(weights.shape, generator=generator)
        self.batch = self.trainer.data_collator([self.trainer.train_dataset[place] for place in range(COUNT)])

    def loss(self) -> torch.Tensor:
        value: torch.Tensor = self.trainer.compute_loss(self.model, dict(self.batch))
        return value

    def logp(self, prompt: Sequence[int], answer: Sequence[int], model: Any = None) -> torch.Tensor:
        """log p(answer | prompt), by the whole logits of this text alone."""
        ids = torch.tensor([[*prompt, *answer]])
        found = (model or self.model)(input_ids=ids).logits[0].log_softmax(-1)
        return torch.stack([found[len(prompt) - 1 + at, one] for at, one in enumerate(answer)]).sum()

    def ratio(self, prompt: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
        """h: log p - log p_ref, whose gradient is that of log p."""
        with torch.no_grad():
            if self.trainer.ref_model is not None:
                anchor = self.logp(prompt, answer, self.trainer.ref_model)
            else:
                with self.model.disable_adapter():
                    anchor = self.logp(prompt, answer)
        return self.logp(prompt, answer) - anchor

    def gradient(self, loss: torch.Tensor) -> torch.Tensor:
        learnt = [weights for weights in self.model.parameters() if weights.requires_grad]
        found = torch.autograd.grad(loss, learnt, allow_unused=True)
        return torch.cat(
            [
                (one if one is not None else torch.zeros_like(of)).flatten()
                for one, of in zip(found, learnt, strict=True)
            ]
        )

    def sft(self, of: Sequence[EncodedRow]) -> torch.Tensor:
        """The mean over all answers' tokens."""
        total = torch.stack([self.logp(row.prompt_ids, row.answer_ids) for row in of]).sum()
        return -total / sum(len(row.answer_ids) for row in of)


def same(measured: Measured, expected: torch.Tensor) -> None:
    """In value and in gradient."""
    found = measured.loss()
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    ours, theirs = measured.gradient(found), measured.gradient(expected)
    assert theirs.norm() > 1e-3
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5 * float(theirs.abs().max()) + 1e-7)


@pytest.mark.parametrize(("beta", "sft_weight"), [(0.1, 0.0), (0.1, 0.1), (0.7, 1.0)])
def test_dpo_is_its_formula(tiny: Path, tmp_path: Path, beta: float, sft_weight: float) -> None:
    at = Measured(tiny, tmp_path, "dpo", 0.3, beta=beta, sft_weight=sft_weight)
    margins = [
        at.ratio(row.prompt_ids, row.answer_ids) - at.ratio(row.prompt_ids, row.other_ids or ()) for row in at.rows
    ]
    preferring = torch.stack([-torch.nn.functional.logsigmoid(beta * one) for one in margins]).mean()
    assert max(abs(one.item()) for one in margins) > 0.1
    same(at, preferring + sft_weight * at.sft(at.rows))


@pytest.mark.parametrize(("beta", "move", "below"), [(0.1, 0.3, True), (0.1, 0.1, False), (0.8, 0.1, False)])
def test_kto_is_its_formula(tiny: Path, tmp_path: Path, beta: float, move: float, below: bool) -> None:
    """below: this move makes other prompts' answers less likely, so that z is held at 0."""
    at = Measured(tiny, tmp_path, "kto", move, beta=beta)
    ups = sum(row.label is True for row in at.rows)
    liked, disliked = class_weights(ups, COUNT - ups)
    before = [at.rows[-1], *at.rows[:-1]]
    mismatched = [at.ratio(row.prompt_ids, other.answer_ids) for row, other in zip(at.rows, before, strict=True)]
    assert (torch.stack(mismatched).mean().item() < 0) == below
    z = torch.stack(mismatched).mean().detach().clamp(min=0)
    losses = []
    for row in at.rows:
        h = at.ratio(row.prompt_ids, row.answer_ids)
        losses.append(
            liked * (1 - torch.sigmoid(beta * (h - z))) if row.label else disliked * (1 - torch.sigmoid(beta * (z - h)))
        )
    assert 0 < ups < COUNT
    same(at, torch.stack(losses).mean())


@pytest.mark.parametrize("method", ["sft", "rejection"])
def test_imitation_is_the_mean_over_the_answers_tokens_and_no_others(
    tiny: Path, tmp_path: Path, method: Method
) -> None:
    at = Measured(tiny, tmp_path, method, 0.3)
    same(at, at.sft(at.rows))


@pytest.mark.parametrize("lora", [True, False])
def test_at_the_anchor_nothing_is_preferred_yet(tiny: Path, tmp_path: Path, lora: bool) -> None:
    at = Measured(tiny, tmp_path, "dpo", 0.0, lora=lora, sft_weight=0.0)
    assert at.loss().item() == pytest.approx(math.log(2), rel=1e-6)
    thumbs_at = Measured(tiny, tmp_path, "kto", 0.0, lora=lora)
    ups = sum(row.label is True for row in thumbs_at.rows)
    liked, disliked = class_weights(ups, COUNT - ups)
    assert thumbs_at.loss().item() == pytest.approx((ups * liked + (COUNT - ups) * disliked) / 2 / COUNT, rel=1e-6)


def test_where_all_weights_are_trained_the_anchor_stays_the_base(tiny: Path, tmp_path: Path) -> None:
    at = Measured(tiny, tmp_path, "dpo", 0.05, lora=False, sft_weight=0.0)
    margins = [
        at.ratio(row.prompt_ids, row.answer_ids) - at.ratio(row.prompt_ids, row.other_ids or ()) for row in at.rows
    ]
    same(at, torch.stack([-torch.nn.functional.logsigmoid(0.1 * one) for one in margins]).mean())
    assert not any(weights.requires_grad and weights.grad is not None for weights in at.trainer.ref_model.parameters())


@given(some.integers(1, 5000), some.integers(1, 5000))
def test_the_classes_weigh_what_the_paper_asks_for(ups: int, downs: int) -> None:
    liked, disliked = class_weights(ups, downs)
    assert 1 - 1e-9 <= liked * ups / (disliked * downs) <= 4 / 3 + 1e-9
    assert min(liked, disliked) == 1.0
    if downs <= ups <= 4 / 3 * downs:
        assert (liked, disliked) == (1.0, 1.0)


def test_thumbs_of_one_kind_are_no_preference() -> None:
    with pytest.raises(TrainingError, match="none up"):
        class_weights(0, 10)
    with pytest.raises(TrainingError, match="none down"):
        class_weights(10, 0)


def test_another_version_can_be_the_anchor(tiny: Path, tmp_path: Path) -> None:
    """An adapter that is the start and the anchor: nothing is preferred yet, and the base would say otherwise."""
    settings = PolicySettings(method="dpo", batch=COUNT, rate=1e-2, epochs=4, checkpoints=1)
    train(rows_of("dpo"), tiny, settings, 0, tmp_path / "first/model")
    version = tmp_path / "first/model"
    rows, _ = encode_rows(rows_of("dpo"), tiny, settings)
    plain = settings.model_copy(update={"sft_weight": 0.0})
    for anchor, expected in ((version, math.log(2)), (None, None)):
        trainer = trainer_of(rows, range(COUNT), tiny, plain, 0, tmp_path, start=version, anchor=anchor)
        batch = trainer.data_collator([trainer.train_dataset[place] for place in range(COUNT)])
        loss = trainer.compute_loss(trainer.model, batch).item()
        assert loss == pytest.approx(expected, rel=1e-5) if expected else loss < 0.68
        assert not any(".ref." in name and weights.requires_grad for name, weights in trainer.model.named_parameters())
