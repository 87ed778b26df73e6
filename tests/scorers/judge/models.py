"""Tiny judges, and the parts of one without a model."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from scorers.backend import Row
from scorers.contract import Message, ScorerInfo
from scorers.errors import ScorerError
from scorers.judge.constitution import read_constitution
from scorers.judge.pairwise import PairPrompt, PairwiseJudge
from scorers.judge.prompt import PAIR_QUESTION, told
from scorers.judge.verdict import VerdictPrompt
from scorers.tokens import SafeTokenizer
from tests.scorers.backends_fake import FakeBackend
from tests.scorers.models import make_causal, make_tokenizer

USER: Message = {"role": "user", "content": "What is the capital of France?"}
TOLD = told(read_constitution(None), PAIR_QUESTION)
MAX_TOKENS = 16_384


def say(text: str) -> Message:
    return {"role": "assistant", "content": text}


def verdict_prompt(tokenizer: PreTrainedTokenizerFast) -> VerdictPrompt:
    return VerdictPrompt("tiny", tokenizer, SafeTokenizer(tokenizer.backend_tokenizer))


def shown(text: str, name: str) -> str:
    """What a prompt shows between the lines of this name."""
    mark = re.findall(r"The mark is (\w+)\.", text)[0]
    end = f"=== {mark} end of {name.partition(',')[0]} ==="
    [found] = re.findall(rf"=== {mark} {name} ===\n(.*?)\n{end}", text, re.DOTALL)
    assert isinstance(found, str)
    return found


def law_backend(
    tokenizer: PreTrainedTokenizerFast, logit: Callable[[str, str], float | ScorerError], mass: float = 0.9
) -> FakeBackend:
    """A judge whose log-odds for answer A are what `logit` says of both texts; A and B hold `mass`."""

    def answer(ids: list[int]) -> Row | ScorerError:
        text = str(tokenizer.decode(ids))
        odds = logit(shown(text, "answer A"), shown(text, "answer B"))
        if isinstance(odds, ScorerError):
            return odds
        return [math.log(mass) + _log_sigmoid(odds), math.log(mass) + _log_sigmoid(-odds)]

    return FakeBackend(answer)


def _log_sigmoid(x: float) -> float:
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


def pairwise_judge(
    logit: Callable[[str, str], float | ScorerError],
    *,
    mass: float = 0.9,
    opponents: int = 8,
    max_candidates: int = 64,
    max_tokens: int = MAX_TOKENS,
) -> tuple[PairwiseJudge, FakeBackend]:
    tokenizer = make_tokenizer()
    backend = law_backend(tokenizer, logit, mass)
    info = ScorerInfo("judge", "judge", "value", "judge@1", False, max_tokens, relative=True)
    prompt = PairPrompt(verdict_prompt(tokenizer), TOLD, max_tokens)
    return PairwiseJudge(info, prompt, backend, opponents=opponents, max_candidates=max_candidates), backend


def make_roomy_causal(folder: Path) -> Path:
    """A random language model that reads as much as a constitution takes."""
    make_causal(folder, tied=False, max_tokens=MAX_TOKENS)
    make_tokenizer(model_max_length=MAX_TOKENS).save_pretrained(folder)
    return folder


def make_judge(folder: Path, labels: tuple[str, ...]) -> Path:
    """One that answers with one of the labels most of the time; with which, depends on the input."""
    make_roomy_causal(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = verdict_prompt(tokenizer)
    with torch.no_grad():  # the last token of each prompt leads, so that all end in about the same state
        model.model.embed_tokens.weight[prompt.encode("a")[-1]] *= 5
        ends = [
            model.model(input_ids=torch.tensor([prompt.encode(text)])).last_hidden_state[0, -1] for text in ("a", "bcd")
        ]
    common = torch.stack(ends).mean(0)
    torch.manual_seed(1)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        for label in prompt.label_ids(labels):
            model.lm_head.weight[label] = 20 * common / common.norm() ** 2 + torch.randn(len(common))
    model.save_pretrained(folder)
    return folder
