"""A policy of a few thousand weights with the demo policy's tokenizer: a training step takes milliseconds."""

import shutil
from pathlib import Path

from tests.training.reward.small_world import POLICY


def tiny_policy(folder: Path, seed: int = 0) -> Path:
    """Writes it, with random weights."""
    import torch  # noqa: PLC0415  # 2 s
    from transformers import Qwen3Config, Qwen3ForCausalLM  # noqa: PLC0415

    torch.manual_seed(seed)
    config = Qwen3Config.from_pretrained(POLICY)
    config.hidden_size, config.intermediate_size, config.head_dim = 16, 32, 8
    config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads = 2, 2, 1
    config.layer_types = (config.layer_types or [])[:2]
    # Large enough that answers differ in their probabilities.
    config.initializer_range = 0.3
    model = Qwen3ForCausalLM(config)  # type: ignore[no-untyped-call]
    model.float().save_pretrained(folder)  # type: ignore[no-untyped-call]
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copyfile(POLICY / name, folder / name)
    return folder
