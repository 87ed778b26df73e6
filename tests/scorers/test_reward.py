"""Whole reward models of several architectures and labels: their rewards are those of plain transformers."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from scorers.contract import Message, ScoreRequest
from scorers.loading import Loading, load_scorer
from scorers.model_path import LoadError
from scorers.model_scorer import CannotScore
from scorers.reward import RewardReader
from scorers.scorer_settings import RewardConfig
from scorers.settings import ScorerServerConfig
from tests.scorers.models import make_bert_classifier, make_classifier, make_llama_classifier

LOADING = Loading(ScorerServerConfig())
USER: Message = {"role": "user", "content": "What is the capital of France?"}
TEXTS = ("Paris.", "The capital of France is Paris. " * 4, "x", "")
LABELS = ("helpful", "honest", "long")


def load(folder: Path, **settings: Any) -> Any:
    scorer, _ = load_scorer("it", RewardConfig(kind="reward", model=str(folder), **settings), LOADING)
    return scorer


def plain_logits(folder: Path, ids: Sequence[int]) -> list[float]:
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        row: list[float] = model(input_ids=torch.tensor([ids])).logits[0].tolist()
        return row


async def rewards(folder: Path, **settings: Any) -> list[Any]:
    scorer = load(folder, **settings)
    try:
        answers = [{"role": "assistant", "content": text} for text in TEXTS]
        scores: list[Any] = await scorer.score(ScoreRequest("it", [USER], answers))
        return scores
    finally:
        await scorer.close()


@pytest.mark.parametrize("make", [make_classifier, make_llama_classifier])
async def test_a_decoder_gives_the_rewards_of_plain_transformers(make: Any, tmp_path: Path) -> None:
    folder = make(tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    for text, score in zip(TEXTS, await rewards(folder), strict=True):
        turns = [USER, {"role": "assistant", "content": text}]
        ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
        assert score.value == pytest.approx(plain_logits(folder, ids)[0], abs=1e-4)
        assert not score.parts


async def test_an_encoder_gives_the_rewards_of_plain_transformers_for_the_pair(tmp_path: Path) -> None:
    folder = make_bert_classifier(tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    for text, score in zip(TEXTS, await rewards(folder), strict=True):
        [ids] = tokenizer([USER["content"]], [text]).input_ids  # alone, it would take an empty second text for none
        expected = plain_logits(folder, ids)
        assert score.value == pytest.approx(expected[0], abs=1e-4)
    for text, score in zip(TEXTS, await rewards(folder, family="answer"), strict=True):
        assert score.value == pytest.approx(plain_logits(folder, tokenizer(text).input_ids)[0], abs=1e-4)


async def test_several_labels_are_a_weighted_sum_of_raw_logits_which_are_told(tmp_path: Path) -> None:
    folder = make_llama_classifier(tmp_path, labels=LABELS)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    for text, score in zip(TEXTS, await rewards(folder, weights={"long": -0.5, "helpful": 2.0}), strict=True):
        turns = [USER, {"role": "assistant", "content": text}]
        ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
        helpful, honest, long = plain_logits(folder, ids)
        assert score.parts == pytest.approx({"helpful": helpful, "honest": honest, "long": long}, abs=1e-4)
        assert score.value == pytest.approx(2 * helpful - 0.5 * long, abs=1e-4)


async def test_the_only_label_may_be_weighed_too(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, labels=("toxicity",))
    plain = await rewards(folder)
    for score, raw in zip(await rewards(folder, weights={"toxicity": -1.0}), plain, strict=True):
        assert score.value == pytest.approx(-raw.value, abs=1e-4)
        assert score.parts == pytest.approx({"toxicity": raw.value}, abs=1e-4)


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        ({}, r"has 3 labels \(helpful, honest, long\); say with `weights`"),
        ({"helpful": 1.0, "kind": 1.0}, "`weights` names kind, but the labels of .* are helpful, honest, long"),
        ({"helpful": 0.0}, "All `weights` are 0"),
    ],
)
def test_labels_that_are_not_weighed_or_not_there_are_refused(
    weights: dict[str, float], why: str, tmp_path: Path
) -> None:
    folder = make_classifier(tmp_path, labels=LABELS)
    with pytest.raises(LoadError, match=why):
        load(folder, weights=weights)


def test_labels_of_one_name_cannot_be_weighed(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, labels=("same", "same"))
    with pytest.raises(LoadError, match="labels of the same name"):
        load(folder, weights={"same": 1.0})


def test_a_weight_is_a_finite_number() -> None:
    with pytest.raises(ValueError, match="finite"):
        RewardConfig(kind="reward", model="m", weights={"a": math.inf})


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=6))
def test_a_weighted_sum_is_exact_and_linear(pairs: list[tuple[float, float]]) -> None:
    labels = [(str(index), weight) for index, (weight, _) in enumerate(pairs)]
    logits = [logit for _, logit in pairs]
    value = RewardReader(8, labels).score([logits], 1).value
    assert value == math.fsum(weight * logit for weight, logit in pairs)
    doubled = RewardReader(8, [(name, 2 * weight) for name, weight in labels]).score([logits], 1).value
    assert value is not None
    assert doubled == pytest.approx(2 * value)


def test_one_label_that_is_not_finite_fails_the_whole_even_where_it_counts_nothing() -> None:
    with pytest.raises(CannotScore):
        RewardReader(8, [("a", 1.0), ("b", 0.0)]).score([[1.0, math.nan]], 1)


async def test_a_scorer_says_what_it_can_do(tmp_path: Path) -> None:
    scorer, words = load_scorer(
        "it", RewardConfig(kind="reward", model=str(make_llama_classifier(tmp_path)), version=3), LOADING
    )
    info = scorer.info
    assert (info.kind, info.gives, info.version, info.max_tokens) == ("reward", "value", "it@3", 512)
    assert (info.prompt_only, info.partial, info.steps, info.relative) == (False, True, False, False)
    assert "family llama3" in words
    await scorer.close()


async def test_an_unknown_family_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no family 'qwen' of kind reward"):
        load(make_classifier(tmp_path), family="qwen")
