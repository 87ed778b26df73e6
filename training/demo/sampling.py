"""Batched sampling from a policy with a key-value cache, reproducible from a seed."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor

import torch
from transformers import DynamicCache, PreTrainedTokenizerFast, Qwen3ForCausalLM

from training.demo.conversation import Prompt
from training.demo.modelling import attention_mask, pad, render
from training.demo.tokenizer import PAD_ID, TURN_END_ID

# Rows that have ended are dropped from the batch once they are this share of it: answers differ much in length.
_DROP_SHARE = 0.25


@torch.no_grad()
def _sample_batch(model: Qwen3ForCausalLM, rows: list[list[int]], seed: int, max_tokens: int) -> list[list[int]]:
    """One continuation per row at temperature 1, without its end token."""
    generator = torch.Generator().manual_seed(seed)
    ids, mask = pad(rows, PAD_ID, left=True), attention_mask(rows, left=True)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    out: list[list[int]] = [[] for _ in rows]
    alive = torch.arange(len(rows))  # which row of `out` each row of the batch continues
    ended = torch.zeros(len(rows), dtype=torch.bool)
    for _ in range(max_tokens):
        hidden = model.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache
        ).last_hidden_state
        chosen = torch.multinomial(model.lm_head(hidden[:, -1]).float().softmax(-1), 1, generator=generator)[:, 0]
        ended = ended | (chosen == TURN_END_ID) | (chosen == PAD_ID)
        for row, token, over in zip(alive.tolist(), chosen.tolist(), ended.tolist(), strict=True):
            if not over:
                out[row].append(token)
        if bool(ended.all()):
            break
        ids, positions = chosen[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, torch.ones(len(alive), 1, dtype=mask.dtype)], dim=1)
        if float(ended.float().mean()) >= _DROP_SHARE:
            keep = (~ended).nonzero()[:, 0]
            cache.batch_select_indices(keep)
            alive, ended, ids, positions, mask = (part[keep] for part in (alive, ended, ids, positions, mask))
    return out


def _limit_threads() -> None:
    # Decoding is many tiny steps: threads inside one step wait for each other more than they work.
    torch.set_num_threads(1)


def sample_answers(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    per_prompt: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
    processes: int = 1,
    batch: int = 128,
    max_tokens: int = 110,
) -> list[list[str]]:
    """`per_prompt` answers at temperature 1 to each prompt, in the prompts' order.

    Every batch has a seed of its own, so the answers do not depend on the number of processes.

    Args:
        progress: called with the number of answers sampled so far.
        processes: how many processes share the batches; 1 samples in this one.
    """
    model.eval()  # type: ignore[no-untyped-call]
    rows = [render(tokenizer, prompt.as_messages(), True) for prompt in prompts]
    jobs = sorted(
        (index for index in range(len(prompts)) for _ in range(per_prompt)), key=lambda index: (len(rows[index]), index)
    )
    parts = [jobs[start : start + batch] for start in range(0, len(jobs), batch)]
    batches = [
        (model, [rows[index] for index in part], seed * 100_003 + number, max_tokens)
        for number, part in enumerate(parts)
    ]
    found: list[list[str]] = [[] for _ in prompts]
    with contextlib.ExitStack() as stack:
        results: Iterable[list[list[int]]] = map(_sample_batch, *zip(*batches, strict=True))
        if processes > 1:
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(processes, context, _limit_threads))
            results = pool.map(_sample_batch, *zip(*batches, strict=True))
        done = 0
        for part, sampled in zip(parts, results, strict=True):
            for index, tokens in zip(part, sampled, strict=True):
                found[index].append(str(tokenizer.decode(tokens, skip_special_tokens=True)))
            done += len(part)
            progress(done)
    return found
