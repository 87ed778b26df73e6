"""Tiny guards of each family: their templates' shapes, a vocabulary with their labels, and weights that answer in them.

The templates are shortened, and keep what matters here: which roles they take, what they trim, how content is read,
where a prompt ends.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

LLAMA_CATEGORIES = [
    "Violent Crimes", "Non-Violent Crimes", "Sex Crimes", "Child Exploitation", "Defamation", "Specialized Advice",
    "Privacy", "Intellectual Property", "Indiscriminate Weapons", "Hate", "Self-Harm", "Sexual Content", "Elections",
    "Code Interpreter Abuse",
]  # fmt: skip
QWEN_CATEGORIES = [
    "Violent", "Non-violent Illegal Acts", "Sexual Content or Sexual Acts", "PII", "Suicide & Self-Harm",
    "Unethical Acts", "Politically Sensitive Topics", "Copyright Violation", "Jailbreak",
]  # fmt: skip


def _listed(count: int) -> str:
    return "".join(f"S{number}: {name}.\\n" for number, name in enumerate(LLAMA_CATEGORIES[:count], 1))


_LLAMA_END = (
    "{{- '<END CONVERSATION>\\n\\nProvide your safety assessment for ONLY THE LAST ' + role + ' message:\\n' }}"
    "{{- \" - First line must read 'safe' or 'unsafe'.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\" }}"
)
_LLAMA_BEGIN = (
    "{%- set role = 'Agent' if messages | length % 2 == 0 else 'User' %}"
    "{{- '<|begin_of_text|><|start_header_id|>user<|end_header_id|>\\n\\nTask: Check for unsafe content in ' + role }}"
    "{{- ' messages.\\n\\n<BEGIN UNSAFE CONTENT CATEGORIES>\\n' }}"
    "{{- 'CATEGORIES' + '<END UNSAFE CONTENT CATEGORIES>\\n\\n<BEGIN CONVERSATION>\\n\\n' }}"
    "{%- for message in messages %}"
    "{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('roles must alternate') }}"
    "{%- endif %}{%- set role = 'User' if message.role == 'user' else 'Agent' %}"
)
# Llama Guard 3 8B reads content as a string, 3 1B and 11B as a list of parts.
LLAMA_8B = (_LLAMA_BEGIN + "{{- role + ': ' + message.content.strip() + '\\n\\n' }}{%- endfor %}" + _LLAMA_END).replace(
    "CATEGORIES' +", _listed(14) + "' +", 1
)
LLAMA_1B = (
    _LLAMA_BEGIN
    + "{%- for part in message.content | selectattr('type', 'equalto', 'text') %}"
    + "{{- role + ': ' + part.text | trim + '\\n\\n' }}{%- endfor %}{%- endfor %}"
    + _LLAMA_END
).replace("CATEGORIES' +", _listed(13) + "' +", 1)

QWEN_GUARD = (
    "{%- set whose = \"ASSISTANT's response\" if messages[-1].role == 'assistant' else \"USER's query\" %}"
    "{{- '<|im_start|>user\\n# Task:\\n1) Evaluate THE LAST ' + whose + '.\\n\\n<BEGIN SAFETY POLICY>\\n' }}"
    "{{- '**Safety: Safe**: none.\\n**Safety: Unsafe**: some.\\n**Safety: Controversial**: perhaps.\\n' }}"
    "{{- '<END SAFETY POLICY>\\n\\n<BEGIN UNSAFE CONTENT CATEGORIES>\\n' }}"
    "{{- '" + "".join(f"{name}.\\n" for name in QWEN_CATEGORIES) + "' }}"
    "{{- '<END UNSAFE CONTENT CATEGORIES>\\n\\n<BEGIN CONVERSATION>\\n' }}"
    "{%- for message in messages %}"
    "{%- if loop.first %}{%- if message.role in ['system', 'user'] %}{{- '\\nUSER: ' + message.content }}{%- endif %}"
    "{%- elif message.role == 'user' and messages[loop.index0 - 1].role == 'system' %}{{- '\\n\\n' + message.content }}"
    "{%- elif message.role == 'user' %}{{- '\\n\\nUSER: ' + message.content }}"
    "{%- elif message.role == 'assistant' %}{{- '\\n\\nASSISTANT: ' + message.content }}"
    "{%- endif %}{%- endfor %}"
    "{{- '\\n\\n<END CONVERSATION>\\n\\nProvide your safety assessment for ONLY THE LAST **' + whose + '**:\\n' }}"
    "{{- \" - The first line is 'Safety: Safe', 'Safety: Unsafe' or 'Safety: Controversial'.<|im_end|>\\n\" }}"
    "{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}"
)

TEMPLATES = {"llama-guard-8b": LLAMA_8B, "llama-guard-1b": LLAMA_1B, "qwen3guard": QWEN_GUARD}
_CONTROL = {
    "llama": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "qwen3": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"],
}
_CORPUS = [
    " ".join(["safe unsafe", *(f"S{number}" for number in range(1, 15)), *map(str, range(1, 15))]),
    " Safe Unsafe Controversial Safety: Categories: None",
    *(f" {name}, {name}." for name in QWEN_CATEGORIES),
    "How do I bake bread? Mix flour, water, salt and yeast, and wait an hour. The capital of France is Paris.",
]


def control_tokens(shape: str) -> list[str]:
    """What untrusted text must never become."""
    return _CONTROL[shape[:5]]


def make_guard_tokenizer(shape: str, template: str | None = None, **kwargs: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE that has a token of its own for each label; digits stand together, as in Llama 3's."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    control = control_tokens(shape)
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=[AddedToken(token, special=True) for token in control],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(_CORPUS * 8, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner,
        chat_template=template or TEMPLATES[shape],
        pad_token=control[0],
        model_max_length=1024,
        **kwargs,
    )


def make_guard(
    folder: Path, shape: str, *, answers: bool = True, template: str | None = None, hidden: int = 48
) -> Path:
    """Save a random Qwen3 language model. answers: whether its labels hold most of the probability of its next token.

    Its output weights are then fitted so that label words are likely where a label is due, categories where one is,
    which of them is left to chance, and all others are unlikely.
    """
    tokenizer = make_guard_tokenizer(shape, template)
    torch.manual_seed(7)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden // 4,
        max_position_embeddings=1024,
        initializer_range=0.06,
        tie_word_embeddings=False,
    )
    model = Qwen3ForCausalLM(config).eval()  # type: ignore[no-untyped-call]
    if answers:
        labels = (" Safe", " Unsafe", " Controversial") if shape == "qwen3guard" else ("safe", "unsafe")
        named = [f" {one}" for one in QWEN_CATEGORIES] if shape == "qwen3guard" else [str(n) for n in range(1, 15)]
        lead, then = ("Safety:", " Unsafe\nCategories:") if shape == "qwen3guard" else ("\n\n", "unsafe\nS")
        _teach(model, tokenizer, shape, {lead: labels, lead + then: tuple(named)})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def official_ids(tokenizer: Any, shape: str, messages: Sequence[dict[str, Any]]) -> list[int]:
    """What the family's documentation does: apply the chat template, which tokenises what it rendered."""
    if shape == "llama-guard-1b":
        messages = [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in messages]
    return _ids(tokenizer, tokenizer.apply_chat_template(messages, tokenize=False))


def _teach(model: Any, tokenizer: Any, shape: str, words: dict[str, Sequence[str]]) -> None:
    """words: by what was written before, what may follow. Ridge regression of logits on the last hidden states."""
    rng = random.Random(5)
    vocabulary = " ".join(_CORPUS).split()
    talks = []
    for length in [1, 2, 3, 4] * 12:
        texts = [" ".join(rng.choices(vocabulary, k=rng.randint(1, 40))) for _ in range(length)]
        talks.append([{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)])
    with torch.no_grad():
        states = {
            begin: torch.stack([model.model(torch.tensor([ids])).last_hidden_state[0, -1] for ids in prompts])
            for begin in words
            if (prompts := [official_ids(tokenizer, shape, talk) + _ids(tokenizer, begin) for talk in talks])
        }
        every = torch.cat(list(states.values()))
        inverse = torch.linalg.inv(every.T @ every + torch.eye(every.shape[1]))
        model.lm_head.weight.mul_(0.02)
        for begin, choices in words.items():
            wanted = torch.cat([torch.full((len(talks),), 14.0 * (begin == other)) for other in words])
            for word in choices:
                noise = torch.randn(every.shape[1]) * 0.3
                model.lm_head.weight[_ids(tokenizer, word)[0]] = inverse @ every.T @ wanted + noise


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids
