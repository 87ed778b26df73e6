"""Training in this process: what is learnt, what is written, and that it is the same again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from tests.training.reward.small_world import POLICY, pairs, thumbs
from training.data.rows import Demonstration
from training.errors import TrainingError
from training.policy.encoding import PolicyTemplate
from training.policy.export import merge
from training.policy.generating import load_policy
from training.policy.settings import PolicySettings
from training.policy.trainer import Facts, PolicyRows, points_of, train

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK: dict[str, Any] = {"batch": 4, "rate": 3e-3, "checkpoints": 2}
IMITATED = PolicyRows(
    demonstrations=[Demonstration(prompt=one.prompt, completion=one.chosen, side=one.side) for one in pairs(24)]
)
ROWS = {
    "sft": IMITATED,
    "rejection": IMITATED,
    "dpo": PolicyRows(pairs=pairs(24)),
    "kto": PolicyRows(thumbs=thumbs(24)),
}


def trained(base: Path, folder: Path, method: str, start: Path | None = None, seed: int = 0, **settings: Any) -> Facts:
    of = PolicySettings.model_validate({**QUICK, "method": method, **settings})
    return train(ROWS[method], base, of, seed, folder / "model", start=start)


def preference(folder: Path, base: Path) -> float:
    """Mean of log p(liked) - log p(disliked) over pairs that were not trained on, in nats."""
    model, template = load_policy(folder, base), PolicyTemplate(base)
    total = 0.0
    held_out = pairs(16, "test", seed=9)
    for row in held_out:
        prompt = template.prompt(row.prompt)
        for answer, sign in ((row.chosen, 1), (row.rejected, -1)):
            ids = template.answer(row.prompt, answer[-1]) or []
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].log_softmax(-1)
            total += sign * sum(float(logits[len(prompt) - 1 + at, one]) for at, one in enumerate(ids))
    return total / len(held_out)


@pytest.mark.parametrize("method", ["sft", "dpo", "kto"])
@pytest.mark.parametrize("lora", [True, False])
def test_a_taste_is_learnt(tiny: Path, tmp_path: Path, method: str, lora: bool) -> None:
    facts = trained(tiny, tmp_path, method, lora=lora, epochs=3, rate=1e-2)
    assert preference(tmp_path / "model", tiny) > preference(tiny, tiny) + 1.0
    assert facts.steps == 18 and sum(facts.used.values()) == 72
    assert (facts.trained_parameters < facts.parameters) == lora


def test_the_same_rows_settings_and_seed_give_the_same_weights(tiny: Path, tmp_path: Path) -> None:
    first = trained(tiny, tmp_path / "first", "dpo")
    again = trained(tiny, tmp_path / "again", "dpo")
    assert first.weights == again.weights
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "first/model" / name).read_bytes() == (tmp_path / "again/model" / name).read_bytes()
    assert trained(tiny, tmp_path / "other", "dpo", seed=1).weights != first.weights


def test_an_adapter_says_nothing_of_the_machine_that_made_it(tiny: Path, tmp_path: Path) -> None:
    trained(tiny, tmp_path, "kto")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    text = (tmp_path / "model/adapter_config.json").read_text()
    assert str(tiny) not in text and str(tmp_path) not in text and "/" not in text
    config = json.loads(text)
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 16, 32)
    assert config["base_model_name_or_path"] == ""
    with safe_open(tmp_path / "model/adapter_model.safetensors", "pt") as weights:
        names = set(weights.keys())
    assert all(name.startswith("base_model.model.model.layers.") and ".lora_" in name for name in names)
    assert not any("default" in name or "lm_head" in name for name in names)


def test_points_of_the_curves_are_on_the_way_to_the_end(tiny: Path, tmp_path: Path) -> None:
    facts = trained(tiny, tmp_path, "dpo", checkpoints=3)
    assert facts.points == [2, 4, 6] == points_of(6, 3)
    ends = {step: (tmp_path / "points" / str(step) / "adapter_model.safetensors").read_bytes() for step in facts.points}
    assert ends[6] == (tmp_path / "model/adapter_model.safetensors").read_bytes()
    assert len(set(ends.values())) == 3
    trained(tiny, tmp_path, "dpo", checkpoints=1)
    assert [path.name for path in (tmp_path / "points").iterdir()] == ["6"]


def test_points_are_evenly_spread_and_the_last_is_the_end() -> None:
    assert points_of(94, 4) == [24, 47, 70, 94]
    assert points_of(2, 4) == [1, 2]
    assert points_of(0, 4) == []


def test_merged_weights_say_what_base_and_adapter_say(tmp_path: Path) -> None:
    trained(POLICY, tmp_path, "dpo")
    adapter = tmp_path / "model"
    merge(adapter, POLICY, tmp_path / "merged", "float32")
    merge(adapter, POLICY, tmp_path / "served")
    ids = torch.tensor([PolicyTemplate(POLICY).prompt([{"role": "user", "content": "How do I bake bread?"}])])
    base = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32)
    with torch.inference_mode():
        before = base(input_ids=ids).logits
        wanted = PeftModel.from_pretrained(base, adapter)(input_ids=ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(input_ids=ids).logits
    assert float((wanted - before).abs().max()) > 0.1
    assert torch.allclose(merged, wanted, atol=1e-4)
    assert json.loads((tmp_path / "served/config.json").read_text())["dtype"] == "bfloat16"
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "served" / name).read_bytes() == (POLICY / name).read_bytes()
    with pytest.raises(TrainingError, match="no adapter"):
        merge(POLICY, POLICY, tmp_path / "nothing")


def test_whole_weights_are_a_plain_model(tiny: Path, tmp_path: Path) -> None:
    trained(tiny, tmp_path, "sft", lora=False)
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
    } <= names
    assert not any("adapter" in name for name in names)
    with safe_open(tmp_path / "model/model.safetensors", "pt") as weights:
        assert not any("base_model" in name or "ref" in name for name in weights.keys())  # noqa: SIM118
    assert (tmp_path / "points/6/model.safetensors").is_file()


@pytest.mark.parametrize("lora", [True, False])
def test_another_version_is_gone_on_from_and_the_anchor_stays(tiny: Path, tmp_path: Path, lora: bool) -> None:
    trained(tiny, tmp_path / "first", "dpo", lora=lora, epochs=3, rate=1e-2)
    start = tmp_path / "first/model"
    facts = trained(tiny, tmp_path / "second", "dpo", start, lora=lora, rate=1e-9, max_steps=1, sft_weight=0.0)
    # Near the start in what it prefers, and from the first step on far from the anchor in its loss.
    assert preference(tmp_path / "second/model", tiny) == pytest.approx(preference(start, tiny), abs=1e-3)
    assert facts.loss < 0.5


def test_a_start_of_another_kind_is_refused(tiny: Path, tmp_path: Path) -> None:
    trained(tiny, tmp_path, "dpo", max_steps=1)
    adapter = tmp_path / "model"
    with pytest.raises(TrainingError, match="leave out --full"):
        trained(tiny, tmp_path / "full", "dpo", adapter, lora=False)
    with pytest.raises(TrainingError, match="say --full"):
        trained(tiny, tmp_path / "lora", "dpo", tiny)
    with pytest.raises(TrainingError, match="--set lora_rank=16"):
        trained(tiny, tmp_path / "rank", "dpo", adapter, lora_rank=4)
    with pytest.raises(TrainingError, match=r"another model|does not fit"):
        trained(POLICY, tmp_path / "other", "dpo", adapter)


def test_rows_are_drawn_by_their_weight_and_steps_are_as_many_as_said(tiny: Path, tmp_path: Path) -> None:
    rows = PolicyRows(pairs=[*pairs(8), *pairs(8, seed=1, weight=0.5)])
    settings = PolicySettings.model_validate({**QUICK, "method": "dpo"})
    assert train(rows, tiny, settings, 0, tmp_path / "weighed/model").used == {"pairs": 12}
    longer = PolicySettings.model_validate({**QUICK, "method": "dpo", "max_steps": 7})
    facts = train(rows, tiny, longer, 0, tmp_path / "longer/model")
    assert (facts.steps, facts.used) == (7, {"pairs": 28})


def test_nothing_to_learn_from_is_said(tiny: Path, tmp_path: Path) -> None:
    settings = PolicySettings(method="dpo")
    with pytest.raises(TrainingError, match="no rows that dpo"):
        train(PolicyRows(), tiny, settings, 0, tmp_path / "model")
    with pytest.raises(TrainingError, match="less than one"):
        train(PolicyRows(pairs=pairs(1, weight=1e-6)), tiny, settings, 0, tmp_path / "model")
    with pytest.raises(TrainingError, match="asks no reward model"):
        train(ROWS["dpo"], tiny, settings, 0, tmp_path / "model", reward=tiny)
