"""Tiny models with random weights, made here: nothing is downloaded."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForSequenceClassification

# Qwen3's own, shortened: it knows tools, tool calls and the reasoning of the last turn alone.
QWEN_TEMPLATE = """\
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n' }}
    {%- for tool in tools %}{{- tool | tojson }}{{- '\\n' }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role in ['system', 'user'] %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.last and message.reasoning_content %}
            {{- '<think>\\n' + message.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {%- if call.function.arguments is string %}{{- call.function.arguments }}
            {%- else %}{{- call.function.arguments | tojson }}{%- endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

# Shows content and nothing else, and refuses what does not alternate.
SMALL_TEMPLATE = """\
{%- for message in messages -%}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('roles must alternate user/assistant') -}}
{%- endif -%}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') + '<|im_end|>' -}}
{%- endfor -%}"""

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
CONTROL = SPECIAL + MARKERS

_CORPUS = [
    "You are a helpful assistant. What is the capital of France? The capital of France is Paris.",
    "system user assistant tool name arguments function weather city",
    "How do I bake bread? Mix flour, water, salt and yeast, and wait an hour. 1 2 3 4 5 6 7 8 9 0",
]


def make_tokenizer(template: str | None = QWEN_TEMPLATE, **kwargs: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE of about 400 tokens, with Qwen's special tokens and its markers that are not special."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(_CORPUS * 4, trainer)
    inner.add_tokens([AddedToken(token, special=False, normalized=False) for token in MARKERS])
    given: dict[str, Any] = {
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": template,
        "model_max_length": 512,
    }
    return PreTrainedTokenizerFast(tokenizer_object=inner, **{**given, **kwargs})  # type: ignore[no-untyped-call]


def make_classifier(
    folder: Path,
    *,
    labels: tuple[str, ...] = ("reward",),
    problem_type: str | None = None,
    template: str | None = QWEN_TEMPLATE,
    pad: str | None = "<|endoftext|>",
    seed: int = 0,
    head_scale: float = 30.0,
    max_tokens: int = 512,
    hidden: int = 32,
) -> Path:
    """Save a random Qwen3 sequence classifier; the head is scaled up so that scores differ visibly."""
    tokenizer = make_tokenizer(template)
    torch.manual_seed(seed)
    options: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
        "max_position_embeddings": max_tokens,
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "problem_type": problem_type,
        "pad_token_id": None if pad is None else tokenizer.convert_tokens_to_ids(pad),
    }
    model = Qwen3ForSequenceClassification(Qwen3Config(**options))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        model.score.weight.mul_(head_scale)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
