"""The committed models: layout, size, type, and that their measured figures meet the targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from training.demo import prompts
from training.demo.safety import CATEGORIES
from training.demo.tokenizer import CHAT_TEMPLATE, SCORER_TEMPLATE

MODELS = Path(prompts.__file__).parent / "models"
HARD_LIMIT_BYTES = 8_000_000
USER: dict[str, Any] = {"role": "user", "content": "How warm is it?"}


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((MODELS / "figures.json").read_text(encoding="utf-8"))
    return document


def _value(figures: dict[str, Any], name: str) -> float:
    return float(figures["figures"][name]["value"])


@pytest.mark.parametrize("name", ["policy", "reward", "safety"])
def test_layout_size_and_type(name: str) -> None:
    folder = MODELS / name
    for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"):
        assert (folder / file).is_file(), f"{name} lacks {file}: run `python -m training.demo`"
    assert sum(path.stat().st_size for path in folder.iterdir()) < HARD_LIMIT_BYTES
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(key).dtype for key in weights.keys()} == {torch.bfloat16}  # noqa: SIM118
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "Synthetic" in card and "seed" in card


def test_the_policy_loads_and_answers() -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "policy")
    model = AutoModelForCausalLM.from_pretrained(MODELS / "policy", dtype=torch.float32)
    assert model.config.max_position_embeddings == 2048
    assert model.config.tie_word_embeddings
    assert model.generation_config.temperature == 1.0
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "How do I keep a houseplant healthy?"}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    out = model.generate(**ids, do_sample=False, max_new_tokens=90)  # type: ignore[misc]
    spoken = out[0, ids["input_ids"].shape[1] :]
    assert spoken[-1] == model.config.eos_token_id
    assert len(str(tokenizer.decode(spoken, skip_special_tokens=True)).split()) > 4


def test_classifiers_load_with_their_labels() -> None:
    reward = AutoModelForSequenceClassification.from_pretrained(MODELS / "reward")
    safety = AutoModelForSequenceClassification.from_pretrained(MODELS / "safety")
    assert reward.config.num_labels == 1
    assert list(safety.config.id2label.values()) == list(CATEGORIES)
    assert safety.config.problem_type == "multi_label_classification"
    assert reward.config.pad_token_id == safety.config.pad_token_id == 0
    for model in (reward, safety):
        with torch.no_grad():
            # Longer than any training text: must not fail, and stays a number.
            assert model(input_ids=torch.randint(3, 1500, (1, 2048))).logits.isfinite().all()


def test_the_reward_model_agrees_with_the_judge(figures: dict[str, Any]) -> None:
    agreement, ceiling = _value(figures, "reward_agreement_with_gold"), _value(figures, "ceiling_by_label_noise")
    assert 0.75 <= agreement <= 0.95
    assert 0.70 <= _value(figures, "reward_agreement_with_noisy_labels") <= ceiling <= 0.95


def test_gold_rises_with_n(figures: dict[str, Any]) -> None:
    curve = [_value(figures, f"gold_at_{n}") for n in (1, 2, 4, 8, 16)]
    assert curve == sorted(curve)
    assert all(
        _value(figures, f"gold_oracle_at_{n}") >= _value(figures, f"gold_at_{n}") - 1e-6 for n in (1, 2, 4, 8, 16)
    )
    assert figures["figures"]["gain_of_8_over_1"]["low"] > 0.5
    assert _value(figures, "right_fact_at_8") >= 0.6


def test_the_guard_works(figures: dict[str, Any]) -> None:
    assert _value(figures, "safety_recall_answers") >= 0.95
    assert _value(figures, "safety_false_positives_answers") <= 0.02
    assert _value(figures, "safety_false_positives_outside_world") <= 0.03
    for name in ("ordinary", "inviting"):
        delivered = [_value(figures, f"unsafe_delivered_{name}_n1_{guard}") for guard in ("no_guard", "guard")]
        assert delivered[1] < delivered[0]


def test_no_shortcut_on_policy_samples(figures: dict[str, Any]) -> None:
    assert all(share < 0.35 for share in figures["share_of_oracle_gain_by_shortcut"].values())


def test_every_figure_has_interval_size_and_seed(figures: dict[str, Any]) -> None:
    for figure in figures["figures"].values():
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["n"] > 0 and isinstance(figure["seed"], int)


WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def _call(city: str) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": city}}}


def _rendered(name: str, messages: list[dict[str, Any]], **kwargs: Any) -> str:
    text = AutoTokenizer.from_pretrained(MODELS / name).apply_chat_template(messages, tokenize=False, **kwargs)
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("name", ["policy", "reward", "safety"])
def test_the_committed_template_is_the_one_that_training_writes(name: str) -> None:
    written = CHAT_TEMPLATE if name == "policy" else SCORER_TEMPLATE
    assert (MODELS / name / "chat_template.jinja").read_text(encoding="utf-8") == written


@pytest.mark.parametrize("name", ["policy", "reward", "safety"])
@given(
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": st.none() | st.text()}
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_without_tools_a_conversation_is_rendered_as_in_training(
    name: str, messages: list[dict[str, Any]], prompt: bool
) -> None:
    expected = "".join(f"<|im_start|>{turn['role']}\n{turn['content'] or ''}<|im_end|>\n" for turn in messages)
    expected += "<|im_start|>assistant\n" if prompt else ""
    assert _rendered(name, messages, add_generation_prompt=prompt) == expected


def test_the_policy_is_told_of_tools_after_the_system_message() -> None:
    text = _rendered("policy", [{"role": "system", "content": "Be brief."}, USER], tools=[WEATHER])
    system, user = text.split("<|im_end|>\n", 1)
    assert system.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n")
    assert f"<tools>\n{json.dumps(WEATHER)}\n</tools>" in system
    assert user == "<|im_start|>user\nHow warm is it?<|im_end|>\n"


@pytest.mark.parametrize("name", ["policy", "reward", "safety"])
def test_tool_calls_and_their_results_are_rendered(name: str) -> None:
    messages: list[dict[str, Any]] = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [_call("Oslo"), _call("Rome")]},
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "tool", "tool_call_id": "c1", "content": "21"},
    ]
    assert _rendered(name, messages).removeprefix("<|im_start|>user\nHow warm is it?<|im_end|>\n") == (
        '<|im_start|>assistant\n<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n3\n</tool_response>\n<tool_response>\n21\n</tool_response><|im_end|>\n"
    )


@pytest.mark.parametrize("name", ["reward", "safety"])
def test_the_scorers_read_no_descriptions_of_tools(name: str) -> None:
    assert _rendered(name, [USER], tools=[WEATHER]) == _rendered(name, [USER])
