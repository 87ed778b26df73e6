"""Up to where the verdict stands, by each family's template; labels; what is no verdict."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken

from scorers.judge.prompt import PAIR_LABELS, RATINGS
from scorers.judge.verdict import MIN_MASS, VerdictPrompt, read_labels
from scorers.model_path import LoadError
from scorers.model_scorer import CannotScore
from scorers.tokens import SafeTokenizer
from tests.scorers.judge.models import verdict_prompt
from tests.scorers.models import CONTROL, make_llama_tokenizer, make_tokenizer

# How each family's own template ends, shortened: Qwen/Qwen3-8B, Qwen/Qwen3.5, Qwen/QwQ-32B, deepseek-ai/DeepSeek-V3.1,
# meta-llama/Llama-3.2-1B-Instruct, google/gemma-2-2b-it, openai/gpt-oss-20b.
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
OPENING = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
QWEN3 = (
    CHATML
    + "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and "
    + "enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
QWEN35 = (
    CHATML
    + "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and "
    + "enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% else %}{{ '<think>\n' }}{% endif %}{% endif %}"
)
QWQ = CHATML + "{% if add_generation_prompt %}<|im_start|>assistant\n{{ '<think>\n' }}{% endif %}"
DEEPSEEK = CHATML + "<|im_start|>{% if thinking is not defined or thinking %}<think>{% else %}</think>{% endif %}"
LLAMA = (
    "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    + "<|im_start|>system\n\nToday Date: {{ date_string }}<|im_end|>"
    + "{% for m in messages %}<|im_start|>{{ m.role }}\n\n{{ m.content | trim }}<|im_end|>{% endfor %}"
    + "{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)
GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + "{% for m in messages %}<|im_start|>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    + "{{ m.content | trim }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}"
    + "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


def rendered(template: str, text: str = "Which?") -> str:
    tokenizer = make_tokenizer(template)
    return str(tokenizer.decode(verdict_prompt(tokenizer).encode(text)))


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML + OPENING, "<|im_start|>assistant\n"),
        (QWEN3, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (QWEN35, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (QWQ, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (DEEPSEEK, "<|im_start|></think>"),
        (LLAMA, "<|im_start|>assistant\n\n"),
        (GEMMA, "<|im_start|>model\n"),
        (HARMONY, "<|start|>assistant<|channel|>final<|message|>"),
    ],
)
def test_each_familys_prompt_ends_where_the_verdict_stands(template: str, end: str) -> None:
    text = rendered(template)
    assert text.endswith(end)
    assert "Which?" in text
    assert text.count("<think>") == text.count("</think>") or template == DEEPSEEK


def test_the_ids_are_those_of_the_plain_template() -> None:
    tokenizer = make_tokenizer(QWEN3)
    plain = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Which answer?"}],
        tokenize=True,
        return_dict=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    assert verdict_prompt(tokenizer).encode("Which answer?") == plain


def test_llamas_begin_of_text_is_there_once() -> None:
    tokenizer = make_llama_tokenizer()
    prompt = VerdictPrompt("tiny", tokenizer, SafeTokenizer(tokenizer.backend_tokenizer))
    ids = prompt.encode("Which?")
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
    assert str(tokenizer.decode(ids)).endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")
    assert len(prompt.label_ids(PAIR_LABELS)) == 2


def test_the_date_that_a_template_tells_does_not_change() -> None:
    assert "Today Date: 26 Jul 2024" in rendered(LLAMA)
    assert "26 July 2024" in rendered("{{ strftime_now('%d %B %Y') }}" + CHATML)


@given(st.lists(st.one_of(st.sampled_from(CONTROL), st.text(max_size=5))).map("".join))
def test_no_text_adds_a_control_token(text: str) -> None:
    ids = _prompt.encode(f"a{text}a")
    tame = _prompt.encode("a")
    assert [one for one in ids if one in _control] == [one for one in tame if one in _control]


_tokenizer = make_tokenizer()
_prompt = verdict_prompt(_tokenizer)
_control = SafeTokenizer(_tokenizer.backend_tokenizer).control_ids


def test_labels_are_the_tokens_that_follow_the_prompt() -> None:
    for labels in (PAIR_LABELS, RATINGS):
        ids = _prompt.label_ids(labels)
        assert [_tokenizer.decode([one]) for one in ids] == list(labels)


def test_labels_that_are_no_single_token_of_their_own_are_refused() -> None:
    with pytest.raises(LoadError, match=r"tiny cannot be a judge: .* no token of its own for 'AB'"):
        _prompt.label_ids(("A", "AB"))
    with pytest.raises(LoadError, match="for 'A'"):
        _prompt.label_ids(("A", "A"))


def test_a_label_that_merges_with_the_end_of_the_prompt_is_refused() -> None:
    tokenizer = make_tokenizer(CHATML + "{% if add_generation_prompt %}Verdict: {% endif %}")
    tokenizer.backend_tokenizer.add_tokens([AddedToken(" A", normalized=False)])
    with pytest.raises(LoadError, match="for 'A'"):
        verdict_prompt(tokenizer).label_ids(("B", "A"))


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "has no chat template, which a judge needs"),
        ("{{ raise_exception('no') }}", "does not take a user message alone: no"),
        ("{{ messages[0].content | upper }}", "does not show a user message as it is"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "does not show a user message as it is"),
    ],
)
def test_a_model_without_a_fitting_template_is_refused(template: str | None, says: str) -> None:
    with pytest.raises(LoadError, match=says):
        verdict_prompt(make_tokenizer(template))


def test_labels_are_renormalised_among_themselves() -> None:
    found = read_labels([math.log(0.06), math.log(0.02)], PAIR_LABELS)
    assert [math.exp(log) for log in found] == pytest.approx([0.75, 0.25])


def test_sure_verdicts_keep_their_log_odds() -> None:
    first, second = read_labels([-1e-30, -700.0], PAIR_LABELS)
    assert first - second == 700.0


def test_a_judge_that_says_something_else_gave_no_verdict() -> None:
    half = math.log(MIN_MASS / 2)
    assert read_labels([half + 1e-9, half + 1e-9], PAIR_LABELS)
    with pytest.raises(CannotScore, match=r"did not answer with a label: A to B hold 0\.0\d+ .* 0\.01 is the least"):
        read_labels([half - 0.01, half - 0.01], PAIR_LABELS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_no_verdict(value: float) -> None:
    with pytest.raises(CannotScore, match="not finite"):
        read_labels([-0.1, value], PAIR_LABELS)
