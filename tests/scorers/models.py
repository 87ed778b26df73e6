"""Tiny models with random weights, made here: nothing is downloaded."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
    Qwen3ForTokenClassification,
)

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

# As Qwen3's own, which writes an empty thought before an answer that has none.
QWEN3_TEMPLATE = QWEN_TEMPLATE.replace("loop.last and message.reasoning_content", "loop.last").replace(
    "message.reasoning_content.strip", "(message.reasoning_content or '').strip"
)

# As Qwen2.5-Math's own: a system prompt where the conversation has none.
QWEN_MATH_TEMPLATE = """\
{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\\nPlease reason step by step.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

# Gemma 2's own, shortened: it writes <bos>, calls the assistant model, trims, and knows neither system nor tools.
GEMMA_TEMPLATE = """\
{{- bos_token }}
{%- if messages[0].role == 'system' %}{{- raise_exception('System role not supported') }}{%- endif %}
{%- for message in messages %}
    {%- set role = 'model' if message.role == 'assistant' else message.role %}
    {{- '<start_of_turn>' + role + '\\n' + message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}"""

# Shows content and nothing else, and refuses what does not alternate.
SMALL_TEMPLATE = """\
{%- for message in messages -%}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('roles must alternate user/assistant') -}}
{%- endif -%}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') + '<|im_end|>' -}}
{%- endfor -%}"""

# Llama 3.1's own, shortened: it writes <|begin_of_text|> itself, a system turn with a date always, and trims.
LLAMA_TEMPLATE = """\
{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = '26 Jul 2024' %}{%- endif %}
{%- set system = '' %}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{{- 'Cutting Knowledge Date: December 2023\\nToday Date: ' + date_string + '\\n\\n' }}
{%- if tools %}
    {{- 'You have access to the following functions.\\n\\n' }}
    {%- for tool in tools %}{{- tool | tojson(indent=4) }}{{- '\\n\\n' }}{%- endfor %}
{%- endif %}
{{- system + '<|eot_id|>' }}
{%- for message in messages %}
    {%- if message.tool_calls %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception('This model only supports single tool-calls at once!') }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
        {{- '{"name": "' + call.name + '", "parameters": ' }}{{- call.arguments | tojson }}{{- '}' + '<|eot_id|>' }}
    {%- elif message.role in ['tool', 'ipython'] %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + message.content | tojson + '<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
        {{- message.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
CONTROL = SPECIAL + MARKERS
STEP_TOKEN = "<extra_0>"
LLAMA_SPECIAL = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<|eom_id|>", "<|python_tag|>", "<|finetune_right_pad_id|>",
)  # fmt: skip
GEMMA_SPECIAL = ("<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>")
BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_CORPUS = [
    "You are a helpful assistant. What is the capital of France? The capital of France is Paris.",
    "system user assistant tool name arguments function weather city",
    "How do I bake bread? Mix flour, water, salt and yeast, and wait an hour. 1 2 3 4 5 6 7 8 9 0",
]


def make_tokenizer(
    template: str | None = QWEN_TEMPLATE, markers: tuple[str, ...] = MARKERS, **kwargs: Any
) -> PreTrainedTokenizerFast:
    """A byte-level BPE of about 400 tokens, with Qwen's special tokens and its markers that are not special."""
    inner = _byte_level(SPECIAL)
    inner.add_tokens([AddedToken(token, special=False, normalized=False) for token in markers])
    given = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    return _fast(inner, template, **{**given, **kwargs})


def make_llama_tokenizer(
    template: str | None = LLAMA_TEMPLATE, markers: tuple[str, ...] = (), **kwargs: Any
) -> PreTrainedTokenizerFast:
    """The same with Llama 3's special tokens; it puts <|begin_of_text|> before each text, as the template does too."""
    inner = _byte_level(LLAMA_SPECIAL)
    inner.add_tokens([AddedToken(token, special=False, normalized=False) for token in markers])
    given = {"bos_token": LLAMA_SPECIAL[0], "eos_token": "<|eot_id|>", "pad_token": "<|finetune_right_pad_id|>"}
    return _fast(_with_bos(inner, LLAMA_SPECIAL[0]), template, **{**given, **kwargs})


def make_gemma_tokenizer(template: str | None = GEMMA_TEMPLATE, **kwargs: Any) -> PreTrainedTokenizerFast:
    """The same with Gemma's special tokens and <bos>."""
    given = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    return _fast(_with_bos(_byte_level(GEMMA_SPECIAL), "<bos>"), template, **{**given, **kwargs})


def make_mistral_tokenizer(template: str | None = None, **kwargs: Any) -> PreTrainedTokenizerFast:
    """As Mistral's: a BPE of characters and bytes, where a space is \u2581 and \u2581ки is an ordinary token."""
    letters = [chr(code) for code in range(33, 127)]
    words = ["ки", "\u2581ки", "\u2581+", "\u2581-"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *letters, "к", "и", *words]
    merges = [("к", "и"), ("\u2581", "ки"), ("\u2581", "+"), ("\u2581", "-")]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    inner = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<s>", "</s>")])
    given = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return _fast(_with_bos(inner, "<s>"), template, **{**given, **kwargs})


def make_deberta_tokenizer(**kwargs: Any) -> PreTrainedTokenizerFast:
    """As DeBERTa's: a Unigram whose control tokens are pieces too, [CLS] and [SEP] around and between texts."""
    special = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
    known = ["\n", "\u200b", "к", "и", *(chr(code) for code in range(33, 127))]
    letters = [("\u2581", -2.0), *((letter, -5.0) for letter in known)]
    words = [("\u2581the", -3.0), ("\u2581Paris", -3.0), ("is", -4.0)]
    inner = Tokenizer(models.Unigram([*((token, 0.0) for token in special), *letters, *words], unk_id=3))
    inner.normalizer = normalizers.NFKC()
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    inner.add_special_tokens([AddedToken(token, special=True) for token in (*special, "[MASK]")])
    given = {f"{name.strip('[]').lower()}_token": name for name in BERT_SPECIAL}
    return _fast(_with_cls(inner), None, **{**given, **kwargs})


def make_bert_tokenizer(**kwargs: Any) -> PreTrainedTokenizerFast:
    """The same as ModernBERT has it: [CLS] and [SEP] around a text and between two, and no chat template."""
    given = {f"{name.strip('[]').lower()}_token": name for name in BERT_SPECIAL}
    return _fast(_with_cls(_byte_level(BERT_SPECIAL)), None, **{**given, **kwargs})


def _with_bos(inner: Tokenizer, begin: str) -> Tokenizer:
    inner.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1", special_tokens=[(begin, inner.token_to_id(begin))]
    )
    return inner


def _with_cls(inner: Tokenizer) -> Tokenizer:
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, inner.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return inner


def _byte_level(special: tuple[str, ...]) -> Tokenizer:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=[AddedToken(token, special=True) for token in special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(_CORPUS * 4, trainer)
    return inner


def _fast(inner: Tokenizer, template: str | None, **kwargs: Any) -> PreTrainedTokenizerFast:
    given: dict[str, Any] = {"chat_template": template, "model_max_length": 512, **kwargs}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **given)  # type: ignore[no-untyped-call]


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
    pad_id = None if pad is None else tokenizer.convert_tokens_to_ids(pad)
    options = _decoder(tokenizer, hidden, max_tokens, head_dim=hidden // 4, pad_token_id=pad_id)
    config = Qwen3Config(**options, **_labels(labels, problem_type))
    model = Qwen3ForSequenceClassification(config)  # type: ignore[no-untyped-call]
    return _save(folder, model, tokenizer, head_scale)


def make_llama_classifier(
    folder: Path,
    *,
    labels: tuple[str, ...] = ("reward",),
    problem_type: str | None = None,
    template: str | None = LLAMA_TEMPLATE,
    seed: int = 0,
    head_scale: float = 30.0,
    max_tokens: int = 512,
    hidden: int = 32,
) -> Path:
    """Save a random Llama sequence classifier, with a tokenizer and a chat template that both know a BOS."""
    tokenizer = make_llama_tokenizer(template)
    torch.manual_seed(seed)
    options = _decoder(tokenizer, hidden, max_tokens, bos_token_id=tokenizer.bos_token_id)
    config = LlamaConfig(**options, **_labels(labels, problem_type))
    model = LlamaForSequenceClassification(config)  # type: ignore[no-untyped-call]
    return _save(folder, model, tokenizer, head_scale)


def make_bert_classifier(
    folder: Path,
    *,
    labels: tuple[str, ...] = ("reward",),
    problem_type: str | None = None,
    seed: int = 0,
    head_scale: float = 30.0,
    max_tokens: int = 512,
    hidden: int = 32,
) -> Path:
    """Save a random ModernBERT sequence classifier: read at [CLS], attention both ways, no chat template."""
    tokenizer = make_bert_tokenizer(model_max_length=max_tokens)
    torch.manual_seed(seed)
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=max_tokens,
        local_attention=16,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        **_labels(labels, problem_type),
    )
    return _save(folder, ModernBertForSequenceClassification(config), tokenizer, head_scale)


def make_step_model(
    folder: Path,
    *,
    labels: tuple[str, ...] = ("bad", "good"),
    template: str | None = QWEN_TEMPLATE,
    step_token: str = STEP_TOKEN,
    seed: int = 0,
    head_scale: float = 10.0,
    max_tokens: int = 512,
    hidden: int = 32,
) -> Path:
    """Save a random Qwen3 token classifier whose tokenizer knows `step_token` (an added token, not special)."""
    tokenizer = make_tokenizer(template, (*MARKERS, step_token))
    torch.manual_seed(seed)
    options = _decoder(tokenizer, hidden, max_tokens, head_dim=hidden // 4)
    model = Qwen3ForTokenClassification(Qwen3Config(**options, **_labels(labels, None)))  # type: ignore[no-untyped-call]
    return _save(folder, model, tokenizer, head_scale)


def make_causal(
    folder: Path,
    *,
    template: str | None = QWEN_TEMPLATE,
    tied: bool = True,
    seed: int = 0,
    max_tokens: int = 512,
    hidden: int = 32,
) -> Path:
    """Save a random Qwen3 language model. tied: whether its embeddings are its output weights too."""
    tokenizer = make_tokenizer(template)
    torch.manual_seed(seed)
    # A larger deviation than Qwen3's own, so that the probabilities of tokens differ visibly.
    options = _decoder(tokenizer, hidden, max_tokens, head_dim=hidden // 4, initializer_range=0.3)
    config = Qwen3Config(**options, tie_word_embeddings=tied)
    return _save(folder, Qwen3ForCausalLM(config), tokenizer)  # type: ignore[no-untyped-call]


def make_verdict_model(folder: Path, *, seed: int = 0, max_tokens: int = 512, hidden: int = 32) -> Path:
    """Save a random Mistral language model as Math-Shepherd is one: verdicts + and - after each ки, no template."""
    tokenizer = make_mistral_tokenizer(model_max_length=max_tokens)
    torch.manual_seed(seed)
    options = _decoder(tokenizer, hidden, max_tokens, initializer_range=0.3, bos_token_id=tokenizer.bos_token_id)
    return _save(folder, MistralForCausalLM(MistralConfig(**options)), tokenizer)  # type: ignore[no-untyped-call]


def _decoder(tokenizer: PreTrainedTokenizerFast, hidden: int, max_tokens: int, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": max_tokens,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        **more,
    }


def _labels(labels: tuple[str, ...], problem_type: str | None) -> dict[str, Any]:
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "problem_type": problem_type,
    }


def _save(folder: Path, model: Any, tokenizer: PreTrainedTokenizerFast, head_scale: float | None = None) -> Path:
    """Save both; the head of a classifier is scaled, so that scores differ visibly."""
    if head_scale is not None:
        head = model.classifier if isinstance(model, ModernBertForSequenceClassification) else model.score
        with torch.no_grad():
            head.weight.mul_(head_scale)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
