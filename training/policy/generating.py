"""Answers sampled from a policy in this process, as token ids, in batches, the same again by their seed.

For what is measured of weights that no worker serves: points of a training's curves, KL. What is sampled in bulk, to be
learnt from, comes from the workers (`sampling`). Loads torch.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from training.data.rows import Message
from training.errors import TrainingError
from training.policy.encoding import PolicyTemplate
from training.policy.model import is_adapter, load_model

_BATCH_TOKENS = 16_384

Advance = Callable[[int], None]
"""Told how many more are done."""


def load_policy(folder: Path, base: Path) -> Any:
    """A policy's weights in float32 on the device there is: whole ones, or a LoRA on `base`. Raises TrainingError."""
    model = load_model(base if is_adapter(folder) else folder, "float32")
    if is_adapter(folder):
        from peft import PeftModel  # noqa: PLC0415  # 2 s, and whole weights need none

        try:
            model = PeftModel.from_pretrained(model, folder)
        except (OSError, ValueError, RuntimeError) as error:
            raise TrainingError(f"{folder} is no LoRA of {base}: {' '.join(str(error).split())[:300]}") from error
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    ends: Collection[int],
    padding: int,
    max_new_tokens: int,
    seed: int,
    temperature: float = 1.0,
    advance: Advance | None = None,
) -> list[list[int]]:
    """One answer a prompt, in their order, with the id that ended it; one that has none was cut off.

    Prompts of about one length run together; each batch has a seed of its own. Weights and the caller's random numbers
    stay as they were. temperature: 0 takes the likeliest token.
    """
    drawn = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    how = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(ends),
        pad_token_id=padding,
        **(drawn if temperature else {"do_sample": False}),
    )
    found: list[list[int]] = [[] for _ in prompts]
    training = model.training
    model.eval()
    # The policy's own generation_config would be laid over ours: its top_k, its penalties.
    own, model.generation_config = model.generation_config, how
    try:
        devices = [model.device.index or 0] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.inference_mode():
            for number, part in enumerate(_batches([len(ids) for ids in prompts], max_new_tokens)):
                torch.manual_seed(seed * 1_000_003 + number)
                rows = [prompts[place] for place in part]
                width = max(map(len, rows))
                ids = torch.tensor([[padding] * (width - len(row)) + list(row) for row in rows], device=model.device)
                mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
                answers = model.generate(input_ids=ids, attention_mask=mask, generation_config=how)[:, width:]
                for place, answer in zip(part, answers.tolist(), strict=True):
                    found[place] = _ended(answer, ends)
                if advance is not None:
                    advance(len(part))
    finally:
        model.generation_config = own
        model.train(training)
    return found


def sample_answers(
    model: Any,
    template: PolicyTemplate,
    prompts: Sequence[Sequence[Message]],
    *,
    samples: int,
    max_new_tokens: int,
    seed: int,
    advance: Advance | None = None,
) -> tuple[list[list[int]], list[list[int]]]:
    """Ids of the prompts, each `samples` times, and an answer to each, at temperature 1. Raises TrainingError."""
    ids = [one for messages in prompts for one in [_prompt(template, messages)] * samples]
    answers = generate(
        model,
        ids,
        ends=template.ends,
        padding=template.padding,
        max_new_tokens=max_new_tokens,
        seed=seed,
        advance=advance,
    )
    return ids, answers


def _prompt(template: PolicyTemplate, messages: Sequence[Message]) -> list[int]:
    try:
        return template.prompt(messages)
    except ValueError as error:
        raise TrainingError(f"The policy's chat template refuses a prompt: {' '.join(str(error).split())}") from error


def _ended(answer: list[int], ends: Collection[int]) -> list[int]:
    for place, one in enumerate(answer):
        if one in ends:
            return answer[: place + 1]
    return answer


def _batches(lengths: Sequence[int], more: int) -> list[list[int]]:
    """Places by length, so many that they hold `_BATCH_TOKENS` at most."""
    order = sorted(range(len(lengths)), key=lambda place: (lengths[place], place))
    parts: list[list[int]] = []
    for place in order:
        if not parts or (len(parts[-1]) + 1) * (lengths[place] + more) > _BATCH_TOKENS:
            parts.append([])
        parts[-1].append(place)
    return parts
