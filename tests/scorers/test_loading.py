"""Whole scorers in this process: their scores are those of plain transformers."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from scorers.contract import Message, Score, ScoreRequest
from scorers.errors import BadScoreRequest
from scorers.loading import Loading, load_scorer
from scorers.model_path import LoadError
from scorers.model_scorer import ModelScorer
from scorers.scorer_settings import RewardConfig, SafetyConfig
from scorers.settings import ScorerServerConfig
from tests.scorers.models import make_classifier

LOADING = Loading(ScorerServerConfig())
CONFIGS: dict[str, Any] = {"reward": RewardConfig, "safety": SafetyConfig}
USER: Message = {"role": "user", "content": "What is the capital of France?"}


def answer(text: str) -> Message:
    return {"role": "assistant", "content": text}


def load(kind: Any, folder: Path, **kwargs: Any) -> ModelScorer:
    scorer, _ = load_scorer("it", CONFIGS[kind](kind=kind, model=str(folder), version=7, **kwargs), LOADING)
    assert isinstance(scorer, ModelScorer)
    return scorer


def plain_logits(folder: Path, messages: list[Message]) -> list[float]:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    with torch.inference_mode():
        logits: list[float] = model(input_ids=torch.tensor([ids])).logits[0].tolist()
        return logits


@pytest.fixture
async def reward(reward_folder: Path) -> AsyncIterator[ModelScorer]:
    scorer = load("reward", reward_folder)
    yield scorer
    await scorer.close()


async def test_rewards_agree_with_plain_transformers_alone_and_in_a_batch(
    reward: ModelScorer, reward_folder: Path
) -> None:
    texts = ["Paris.", "", "The capital of France is Paris. " * 4, "x"]
    expected = [plain_logits(reward_folder, [USER, answer(text)])[0] for text in texts]
    together = await reward.score(ScoreRequest("it", [USER], [answer(text) for text in texts]))
    alone = [(await reward.score(ScoreRequest("it", [USER], [answer(text)])))[0] for text in texts]
    crowd = await asyncio.gather(*(reward.score(ScoreRequest("it", [USER], [answer(text)])) for text in texts * 4))
    assert [score.value for score in together] == pytest.approx(expected, abs=1e-4)
    assert [score.value for score in alone] == pytest.approx(expected, abs=1e-4)
    assert [score.value for [score] in crowd] == pytest.approx(expected * 4, abs=1e-4)
    assert reward.info.version == "it@7"


async def test_a_candidate_that_is_too_long_fails_alone(reward: ModelScorer) -> None:
    good, bad = await reward.score(ScoreRequest("it", [USER], [answer("Paris."), answer("bread " * 600)]))
    assert good.value is not None
    assert bad.error is not None
    assert "the model reads at most 512" in bad.error
    assert bad.value is None


async def test_a_reward_model_is_not_asked_about_a_prompt_alone(reward: ModelScorer) -> None:
    with pytest.raises(BadScoreRequest):
        await reward.score(ScoreRequest("it", [USER]))


async def test_too_many_candidates_are_refused(reward: ModelScorer) -> None:
    with pytest.raises(BadScoreRequest, match="at most 2048"):
        await reward.score(ScoreRequest("it", [USER], [{}] * 2049))


async def test_a_guard_judges_the_prompt_alone_and_each_answer(safety_folder: Path) -> None:
    scorer = load("safety", safety_folder)
    assert scorer.info.categories == ["violence", "self-harm"]
    assert scorer.info.prompt_only
    for candidates in ([], [answer("Paris."), answer("x")]):
        scores = await scorer.score(ScoreRequest("it", [USER], candidates))
        judged = [[USER, candidate] for candidate in candidates] or [[USER]]
        for score, messages in zip(scores, judged, strict=True):
            violence, self_harm, _ = torch.tensor(plain_logits(safety_folder, messages)).sigmoid().tolist()
            assert score.categories == pytest.approx({"violence": violence, "self-harm": self_harm}, abs=1e-5)
    await scorer.close()


async def test_a_guard_reads_all_of_a_long_text(safety_folder: Path) -> None:
    scorer = load("safety", safety_folder, max_tokens=64)
    [long] = await scorer.score(ScoreRequest("it", [USER], [answer("bread and salt " * 60)]))
    assert long.categories is not None
    assert long.tokens > 64
    [endless] = await scorer.score(ScoreRequest("it", [USER], [answer("bread and salt " * 2000)]))
    assert endless == Score(error=endless.error, tokens=endless.tokens)
    assert endless.error is not None
    assert "at most 64 are read" in endless.error
    await scorer.close()


async def test_a_guard_without_a_chat_template_reads_the_text(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, labels=("safe", "toxic"), template=None, head_scale=5.0)
    scorer = load("safety", folder)
    [score] = await scorer.score(ScoreRequest("it", [USER], [answer("Paris.")]))
    assert score.categories is not None
    assert list(score.categories) == ["toxic"]
    assert score.tokens == len(AutoTokenizer.from_pretrained(folder).encode("Paris."))
    await scorer.close()


def test_a_model_that_fits_neither_kind_is_refused(reward_folder: Path, safety_folder: Path) -> None:
    with pytest.raises(LoadError):
        load("safety", reward_folder)
    with pytest.raises(LoadError):
        load("reward", safety_folder)


def test_the_model_runs_on_half_of_the_cores_unless_told(reward_folder: Path) -> None:
    before = torch.get_num_threads()
    try:
        load("reward", reward_folder)
        assert torch.get_num_threads() == max(1, (os.cpu_count() or 2) // 2)
    finally:
        torch.set_num_threads(before)
