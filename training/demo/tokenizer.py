"""The demo models' tokenizer: a byte-level BPE trained on the world's own text, with a Qwen-style chat template."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from training.demo import benign, safety
from training.demo.answers import mixed_answer, safe_answer
from training.demo.prompts import CHAT, training_prompt
from training.demo.topics import TOPICS

VOCABULARY = 1536
END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
CONTEXT = 2048
# Special tokens come first in the vocabulary, in the order below.
PAD_ID, TURN_START_ID, TURN_END_ID = 0, 1, 2

CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8").rstrip("\n")
# The scorers read tool calls and results but no descriptions of tools: they were trained on short conversations, and a
# screen of JSON before each would drown what they judge.
SCORER_TEMPLATE = "{%- set tools = none %}\n" + CHAT_TEMPLATE
# Qwen's own split: contractions, words with their leading space, single digits, punctuation, white space.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _corpus(seed: int) -> Iterator[str]:
    """Text to learn merges from: every fact often enough to become whole words, and samples of all the rest."""
    rng = random.Random(f"tokenizer-{seed}")
    for topic in TOPICS:
        for fact in topic.facts:
            yield from (f"You should {fact.clause}. ", f"{fact.clause.capitalize()}.") * 6
        yield f"I want to {topic.task}. About {topic.noun}: " * 20
    for _ in range(4000):
        prompt = training_prompt(rng, inviting=0.15)
        yield " ".join(content for _, content in prompt.messages)
        yield mixed_answer(prompt, rng)
        yield safe_answer(prompt, rng)
        yield safety.harmless_question(rng, "train")
        yield safety.harmless_sentence(rng, "train")
        yield safety.warning(rng, "train")
    for question, answers in CHAT * 20:
        yield from (question, *answers)
    yield from benign.SENTENCES
    # The special tokens stand before the roles, so these must merge without a leading space.
    yield from ["system\n", "user\n", "assistant\n"] * 2000


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer; the same seed gives the same file."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    special = [END_OF_TEXT, TURN_START, TURN_END]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(_corpus(seed), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[TURN_START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
