"""KL to an anchor: against its exact value by enumeration, zero for the same weights, with its interval."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from gateway.launch.demo import DEMO_MODELS, PROJECT

POLICY = PROJECT / DEMO_MODELS / "policy"
END, VOCABULARY, LONGEST = 1, 5, 3


def tiny(seed: int) -> Any:
    """A language model of five tokens whose answers have three at most: all of them can be listed."""
    import torch  # noqa: PLC0415
    from transformers import Qwen3Config, Qwen3ForCausalLM  # noqa: PLC0415

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=32,
        initializer_range=0.5,
        pad_token_id=0,
        eos_token_id=END,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config).eval()  # type: ignore[no-untyped-call]


def answers_of(longest: int) -> list[list[int]]:
    """Every answer: it ends with the end, or is cut off."""
    others = [token for token in range(VOCABULARY) if token != END]
    found = [[*body, END] for length in range(longest) for body in itertools.product(others, repeat=length)]
    return found + [list(body) for body in itertools.product(others, repeat=longest)]


def log_probability(model: Any, prompt: list[int], answer: list[int]) -> float:
    import torch  # noqa: PLC0415

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].double().log_softmax(-1)
    return math.fsum(float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(answer))


@pytest.mark.usefixtures("one_thread")
def test_the_exact_kl_is_within_both_intervals_and_the_expected_one_is_tighter() -> None:
    from training.policy.generating import generate  # noqa: PLC0415
    from training.policy.kl import of_answers, summed  # noqa: PLC0415

    new, anchor = tiny(1), tiny(2)
    prompts = [[2], [3, 4], [4, 2, 3], [2, 2]]
    every = answers_of(LONGEST)
    exact = []
    for prompt in prompts:
        ours = [log_probability(new, prompt, answer) for answer in every]
        assert math.fsum(map(math.exp, ours)) == pytest.approx(1, abs=1e-6)
        theirs = [log_probability(anchor, prompt, answer) for answer in every]
        exact.append(math.fsum(math.exp(one) * (one - other) for one, other in zip(ours, theirs, strict=True)))
    each = 400
    ids = [prompt for prompt in prompts for _ in range(each)]
    answers = generate(new, ids, ends=[END], padding=0, max_new_tokens=LONGEST, seed=5)
    expected, sampled = of_answers(new, anchor, ids, answers, 0)
    # The prompts are given: what varies is the answers alone, each of which is a unit here.
    found = summed(expected, sampled, [len(one) for one in answers], range(len(ids)), 0.0, LONGEST, 5)
    truth = math.fsum(exact) / len(exact)
    assert truth > 0.5
    for estimate in (found.per_answer, found.per_answer_sampled):
        assert abs(estimate.value - truth) < 1.5 * estimate.half
    assert found.per_answer.half < found.per_answer_sampled.half
    assert min(expected) >= 0 > min(sampled)
    by_prompt = [math.fsum(expected[at : at + each]) / each for at in range(0, len(ids), each)]
    assert by_prompt == pytest.approx(exact, rel=0.2)


@pytest.mark.usefixtures("one_thread")
def test_sampled_ratios_are_the_log_probabilities_of_whole_answers_whatever_they_are_batched_with() -> None:
    from training.policy.kl import of_answers  # noqa: PLC0415

    new, anchor = tiny(1), tiny(2)
    prompts, answers = [[2], [3, 4, 2, 2], [4]], [[2, 3, END], [END], [3, 3, 3]]
    _, sampled = of_answers(new, anchor, prompts, answers, 0)
    wanted = [
        log_probability(new, prompt, answer) - log_probability(anchor, prompt, answer)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    assert sampled == pytest.approx(wanted, abs=1e-5)


@pytest.mark.usefixtures("one_thread")
def test_a_policy_has_not_moved_from_itself() -> None:
    from training.policy.kl import measure  # noqa: PLC0415

    prompts = [[{"role": "user", "content": f"How do I begin with {thing}?"}] for thing in ("tea", "bread", "soup")]
    found = measure(POLICY, POLICY, prompts, samples=2, max_new_tokens=24)
    assert found.per_answer.value == found.per_answer.high == found.per_answer_sampled.value == 0
    assert found.per_answer.prompts == 3 and found.per_answer.count == 6 and found.tokens > 6


@pytest.mark.usefixtures("one_thread")
def test_an_adapter_is_measured_against_the_weights_under_it(tmp_path: Path) -> None:
    import torch  # noqa: PLC0415
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    from training.policy.kl import measure  # noqa: PLC0415

    torch.manual_seed(0)
    model: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32),
        LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False),
    )
    model.save_pretrained(tmp_path / "moved")
    prompts = [[{"role": "user", "content": f"What is {thing}?"}] for thing in ("tea", "bread", "soup", "rain")]
    by_disabling = measure(tmp_path / "moved", POLICY, prompts, max_new_tokens=16)
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / "merged" / file).write_bytes((POLICY / file).read_bytes())
    by_two_models = measure(tmp_path / "merged", POLICY, prompts, max_new_tokens=16)
    assert by_disabling.per_answer.value > 1
    assert by_two_models.per_answer.value == pytest.approx(by_disabling.per_answer.value, rel=1e-3)
    per_token = by_disabling.per_answer.value * len(prompts) / by_disabling.tokens
    assert by_disabling.per_token.value == pytest.approx(per_token)


def test_per_token_is_the_ratio_of_sums_and_its_interval_that_of_the_linearised_ratio() -> None:
    from training.policy.kl import per_token  # noqa: PLC0415

    found = per_token([1.0, 4.0, 9.0], [1, 2, 3], ["a", "b", "c"])
    assert found.value == pytest.approx(14 / 6)
    residuals = [one - 14 / 6 * length for one, length in ((1.0, 1), (4.0, 2), (9.0, 3))]
    error = math.sqrt(sum(one**2 for one in residuals) / (3 * 2)) / 2
    assert found.half == pytest.approx(4.302652729911275 * error)
    always = per_token([2.0, 4.0, 6.0], [1, 2, 3], ["a", "b", "c"])
    assert always.low == pytest.approx(2) and always.high == pytest.approx(2)
