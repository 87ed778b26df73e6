"""Encoders that strangers' text goes through, each as its scorer makes it: `test_injection.py` runs over all of them.

Add a scorer's encoder here: nothing that a stranger writes may become a control token of its model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from transformers import PreTrainedTokenizerBase

from scorers.contract import Message
from scorers.families import FAMILIES, Family
from scorers.model_files import ModelFiles
from scorers.process import process_parts
from scorers.reading import Sort
from scorers.reward import encoder_of
from scorers.scorer_settings import ProcessConfig
from scorers.template import ChatTemplate, PlainText
from scorers.tokens import SafeTokenizer
from tests.scorers.models import (
    MARKERS,
    QWEN3_TEMPLATE,
    QWEN_MATH_TEMPLATE,
    QWEN_TEMPLATE,
    STEP_TOKEN,
    make_bert_tokenizer,
    make_deberta_tokenizer,
    make_gemma_tokenizer,
    make_llama_tokenizer,
    make_mistral_tokenizer,
    make_tokenizer,
)

ROLES_TEMPLATE = "{% for message in messages %}{{ message.role + ': ' + message.content + eos_token }}{% endfor %}"

Encode = Callable[[Sequence[Message], Message | None, Sequence[dict[str, Any]]], list[int]]


@dataclass(frozen=True)
class Case:
    """encode: a conversation with an answer to ids. control: ids that no stranger's text may become; of these,
    `step` is written by us after each step of the answer. system: whether system prompts are read. calls: whether an
    answer with tool calls can be scored.
    """

    name: str
    encode: Encode
    tokenizer: PreTrainedTokenizerBase
    control: frozenset[int]
    step: int | None = None
    system: bool = True
    calls: bool = True


def family(name: str) -> Family:
    """By its name in the table."""
    return next(one for one in FAMILIES if one.name == name)


def files_of(tokenizer: PreTrainedTokenizerBase, labels: Sequence[str] = ("bad", "good"), **config: Any) -> ModelFiles:
    """A model's files without a model: what encoders and readers are made of."""
    tokens = SafeTokenizer(tokenizer.backend_tokenizer)
    return ModelFiles("tiny", SimpleNamespace(**config), tokenizer, tokens, tuple(labels), False, 4096)


def reward_case(name: str, tokenizer: PreTrainedTokenizerBase) -> Case:
    """A reward model of a family."""
    files, one = files_of(tokenizer), family(name)
    return Case(
        f"reward-{name}",
        encoder_of(files, one).encode,
        tokenizer,
        files.tokens.control_ids,
        system=one.prompt.system != "drop" and one.prompt.shape != "answer",
    )


def process_case(name: str, tokenizer: PreTrainedTokenizerBase) -> Case:
    """A process reward model of a family."""
    files = files_of(tokenizer)
    encoder, reader, _ = process_parts(files, family(name), ProcessConfig(kind="process", model="tiny"))
    return Case(
        f"process-{name}",
        encoder.encode,
        tokenizer,
        files.tokens.control_ids | {reader.token_id},
        step=reader.token_id,
        calls=name != "llama3",  # its template shows the call in place of the steps
    )


def guard_case(name: str, tokenizer: PreTrainedTokenizerBase) -> Case:
    """A safety classifier, which sees every field."""
    tokens = SafeTokenizer(tokenizer.backend_tokenizer)
    encoder = ChatTemplate(tokenizer, tokens, Sort.ALL) if tokenizer.chat_template else PlainText(tokens, Sort.ALL)
    return Case(
        f"safety-{name}", encoder.encode, tokenizer, tokens.control_ids, system=tokenizer.chat_template is not None
    )


_STEP_MARKERS = (*MARKERS, STEP_TOKEN)

ENCODERS: list[Case] = [
    reward_case("skywork-v2-qwen3", make_tokenizer(QWEN3_TEMPLATE)),
    reward_case("skywork-v2-llama", make_llama_tokenizer()),
    reward_case("llama3", make_llama_tokenizer()),
    reward_case("gemma", make_gemma_tokenizer()),
    reward_case("chatml", make_tokenizer()),
    reward_case("template", make_mistral_tokenizer(ROLES_TEMPLATE)),
    reward_case("pair", make_bert_tokenizer()),
    reward_case("pair", make_deberta_tokenizer()),
    reward_case("answer", make_bert_tokenizer()),
    process_case("qwen-math-prm", make_tokenizer(QWEN_MATH_TEMPLATE, _STEP_MARKERS)),
    process_case("chatml", make_tokenizer(QWEN_TEMPLATE, _STEP_MARKERS)),
    process_case("template", make_tokenizer(ROLES_TEMPLATE, _STEP_MARKERS)),
    process_case("llama3", make_llama_tokenizer(markers=(STEP_TOKEN,))),
    process_case("math-shepherd", make_mistral_tokenizer()),
    guard_case("qwen3", make_tokenizer(QWEN3_TEMPLATE)),
    guard_case("llama", make_llama_tokenizer()),
    guard_case("bert", make_bert_tokenizer()),
]
