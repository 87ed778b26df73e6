"""Logits: those of plain transformers, alone or in any company."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, Qwen3Config, Qwen3ForCausalLM

from scorers.classifier import Classifier, load_classifier
from scorers.errors import ScorerFailed
from scorers.model_path import LoadError
from tests.scorers.models import make_classifier, make_tokenizer

TOLERANCE = 1e-4
inputs = st.lists(st.lists(st.integers(3, 300), min_size=1, max_size=30), min_size=1, max_size=6)


def plain_logits(folder: Path, ids: list[int]) -> list[float]:
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        row: list[float] = model(input_ids=torch.tensor([ids])).logits[0].tolist()
        return row


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(inputs)
def test_logits_do_not_depend_on_the_rest_of_the_batch(reward_classifier: Classifier, batch: list[list[int]]) -> None:
    together = reward_classifier.forward(batch)
    alone = [reward_classifier.forward([ids])[0] for ids in batch]
    assert [row[0] for row in together] == pytest.approx([row[0] for row in alone], abs=TOLERANCE)


def test_logits_are_those_of_plain_transformers(reward_folder: Path, reward_classifier: Classifier) -> None:
    batch = [[5, 6, 7], [8, 9, 10, 11, 12]]
    rows = reward_classifier.forward(batch)
    for ids, row in zip(batch, rows, strict=True):
        assert row == pytest.approx(plain_logits(reward_folder, ids), abs=TOLERANCE)


@pytest.mark.parametrize("pad", ["<|im_end|>", "<|endoftext|>", None])
def test_an_input_that_ends_in_any_control_token_is_pooled_as_alone_in_plain_transformers(
    tmp_path: Path, pad: str | None
) -> None:
    folder = make_classifier(tmp_path, pad=pad)
    classifier = load_classifier(str(folder))
    for last in (0, 1, 2):
        ids = [5, 6, 7, last]
        [row, _, _] = classifier.forward([ids, [8, 9, 10, 11, 12, 0], [1]])
        assert row == pytest.approx(plain_logits(folder, ids), abs=TOLERANCE)
    assert classifier.model.config.pad_token_id == (None if pad is None else 2 if pad == "<|im_end|>" else 0)


def test_an_empty_input_is_an_error(reward_classifier: Classifier) -> None:
    with pytest.raises(ScorerFailed):
        reward_classifier.forward([[1], []])


def test_bfloat16_answers_in_float32_precision_numbers(reward_folder: Path) -> None:
    classifier = load_classifier(str(reward_folder), "bfloat16")
    assert classifier.dtype == "bfloat16"
    [[value]] = classifier.forward([[5, 6, 7]])
    assert value == pytest.approx(plain_logits(reward_folder, [5, 6, 7])[0], abs=0.5)


def test_the_longest_input_is_the_smallest_of_what_model_tokenizer_and_settings_say(reward_folder: Path) -> None:
    assert load_classifier(str(reward_folder)).max_tokens == 512
    assert load_classifier(str(reward_folder), max_tokens=100).max_tokens == 100
    with pytest.raises(LoadError, match=r"max_tokens is 513, but .* reads at most 512"):
        load_classifier(str(reward_folder), max_tokens=513)


def test_a_missing_folder_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"There is no folder .*nowhere with a model in it"):
        load_classifier(str(tmp_path / "nowhere"))


def test_a_folder_without_a_model_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"there is no config\.json in it"):
        load_classifier(str(tmp_path))


def test_a_language_model_is_not_taken_for_a_classifier(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    Qwen3ForCausalLM(config).save_pretrained(tmp_path)  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(LoadError, match="no trained sequence classifier"):
        load_classifier(str(tmp_path))
