"""Short trainings: losses, masks, and that the same seed gives the same weights."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from training.demo.answers import mixed_answer
from training.demo.conversation import Prompt
from training.demo.modelling import IGNORED, classify, model_config, render, schedule, supervise
from training.demo.muon import orthogonalise
from training.demo.prompts import training_prompt
from training.demo.raters import preference_probability, written_groups
from training.demo.sampling import sample_answers
from training.demo.statistics import best_of_n, best_of_n_weights, mean, share
from training.demo.tokenizer import PAD_ID, TURN_END_ID, TURN_START_ID, build_tokenizer
from training.demo.train_policy import PolicySettings, train_policy
from training.demo.train_reward import RewardSettings, bradley_terry_loss, classifier_from_policy, train_reward
from training.demo.train_safety import SafetySettings, train_safety


def _quiet(step: int, loss: float) -> None: ...


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(0)


def test_the_tokenizer_is_reproducible_and_round_trips(tokenizer: PreTrainedTokenizerFast) -> None:
    assert build_tokenizer(0).get_vocab() == tokenizer.get_vocab()
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [
        PAD_ID,
        TURN_START_ID,
        TURN_END_ID,
    ]
    for text in ("How do I keep a houseplant healthy?", "naïve 你好 🙂 \t x", "  two  spaces\n\nlines"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_only_the_assistant_is_supervised(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello!"}]
    ids, labels = supervise(tokenizer, messages)
    assert ids == render(tokenizer, messages, False)
    spoken = [label for label in labels if label != IGNORED]
    assert tokenizer.decode(spoken) == "Hello!<|im_end|>"


def test_a_few_steps_of_every_training_are_reproducible(tokenizer: PreTrainedTokenizerFast) -> None:
    def run() -> list[torch.Tensor]:
        policy, _ = train_policy(tokenizer, PolicySettings(steps=3, batch=4), _quiet)
        groups = written_groups(6, 3, 0)
        reward, _ = train_reward(policy, tokenizer, groups, RewardSettings(groups_per_step=3), _quiet)
        safety, _ = train_safety(policy, tokenizer, [], SafetySettings(steps=2, batch=4), _quiet)
        prompts = [training_prompt(random.Random(1)) for _ in range(2)]
        sampled = sample_answers(policy, tokenizer, prompts, 2, seed=5, max_tokens=6)
        encoded = torch.tensor([len(text) for row in sampled for text in row])
        return [*policy.parameters(), *reward.parameters(), *safety.parameters(), encoded]

    assert all(torch.equal(first, second) for first, second in zip(run(), run(), strict=True))


def test_the_classifier_pools_like_hugging_face(tokenizer: PreTrainedTokenizerFast) -> None:
    policy, _ = train_policy(tokenizer, PolicySettings(steps=1, batch=2), _quiet)
    model = classifier_from_policy(policy, tokenizer, ["reward"], "regression", 0)
    rows = [render(tokenizer, [{"role": "user", "content": text}], False) for text in ("hi", "How do I tune a guitar?")]
    ours = classify(model, rows)
    for row, expected in zip(rows, ours, strict=True):
        with torch.no_grad():
            assert torch.allclose(model(input_ids=torch.tensor([row])).logits[0], expected, atol=1e-4)
    assert model_config(tokenizer).pad_token_id == PAD_ID


def test_bradley_terry_loss_falls_with_the_margin() -> None:
    better, worse = torch.tensor([0]), torch.tensor([1])
    losses = [bradley_terry_loss(torch.tensor([gap, 0.0]), better, worse).item() for gap in (-2.0, 0.0, 2.0)]
    assert losses == sorted(losses, reverse=True)
    assert losses[1] == pytest.approx(0.6931, abs=1e-3)


def test_raters_are_noisy_but_not_blind() -> None:
    assert preference_probability(1.0, 1.0) == 0.5
    assert preference_probability(2.0, 1.0) == pytest.approx(1 - preference_probability(1.0, 2.0))
    groups = written_groups(20, 4, 0)
    assert all(len(list(group.pairs())) == len(group.prefers_first) == 6 for group in groups)


def test_orthogonalise_evens_out_singular_values() -> None:
    matrices = torch.randn(2, 16, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.3 and values.max() < 1.5


def test_schedule_warms_up_and_decays() -> None:
    rates = [schedule(step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[0] < 0.1 and rates[-1] < 0.05


def test_best_of_n_estimator() -> None:
    assert best_of_n_weights(16, 4).sum() == pytest.approx(1.0)
    assert best_of_n([3.0, 1.0, 2.0], [30.0, 10.0, 20.0], 1) == pytest.approx(20.0)
    assert best_of_n([3.0, 1.0, 2.0], [30.0, 10.0, 20.0], 3) == pytest.approx(30.0)
    # Of the three pairs of (10, 20, 30) the maxima are 20, 30 and 30.
    assert best_of_n([3.0, 1.0, 2.0], [30.0, 10.0, 20.0], 2) == pytest.approx(80 / 3)
    with pytest.raises(ValueError, match="between 1 and"):
        best_of_n_weights(4, 5)


def test_intervals_hold_their_value() -> None:
    half = share(50, 100, "things", 0)
    assert half.low == pytest.approx(0.4038, abs=1e-3)
    assert half.high == pytest.approx(0.5962, abs=1e-3)
    assert share(0, 50, "things", 0).low == 0.0
    figure = mean([1.0, 2.0, 3.0], "things", 0)
    assert figure.low <= figure.value == 2.0 <= figure.high


def test_small_talk_has_no_generated_answer() -> None:
    with pytest.raises(ValueError, match="small talk"):
        mixed_answer(Prompt((("user", "hi"),), None, "how", "plain"), random.Random(0))
