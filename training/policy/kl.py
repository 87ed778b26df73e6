"""How far a policy has moved from a fixed anchor, in nats, over answers that it samples itself. Loads torch.

For a prompt x and an answer y = (y_1, ..., y_T) that the new policy samples, s_t = (x, y_1, ..., y_t-1):

    sampled     sum_t log pi(y_t | s_t) - log pi_0(y_t | s_t)
    expected    sum_t KL(pi(. | s_t) || pi_0(. | s_t)),  over the whole vocabulary

Both have the mean KL(pi || pi_0) of whole answers. The second takes the expectation over each token instead of drawing
it (Rao-Blackwell; Amini, Vieira and Cotterell 2025, arXiv:2504.10637): it is never negative and varies less. Per token
is the ratio of sums, with the ratio's linearised interval. Intervals count prompts, not answers.

Temperature 1, the policy as it is. Answers end where it ends them, or after `max_new_tokens`; then the KL is that of
their beginnings. The anchor stays the same over all rounds (`anchors`): measured to the round before, each step looks
small however far all of them lead.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from training.data.rows import Message
from training.errors import TrainingError
from training.evaluation.intervals import Estimate, mean
from training.policy.encoding import PolicyTemplate
from training.policy.generating import Advance, load_policy, sample_answers
from training.policy.model import is_adapter

# Logits of both models that are in memory together: about 256 MB each.
_LOGITS = 64_000_000


class KL(msgspec.Struct, frozen=True, kw_only=True):
    """In nats. per_answer, per_token: the expected ones, which go by the least noise. *_sampled: of the drawn tokens.

    tokens: of all answers, their ends among them. cut: share of answers that `max_new_tokens` ended.
    """

    per_answer: Estimate
    per_token: Estimate
    per_answer_sampled: Estimate
    per_token_sampled: Estimate
    tokens: int
    cut: float
    max_new_tokens: int
    seed: int


def measure(
    new: Path,
    anchor: Path,
    prompts: Sequence[Sequence[Message]],
    *,
    base: Path | None = None,
    units: Sequence[Hashable] | None = None,
    samples: int = 1,
    max_new_tokens: int = 128,
    seed: int = 0,
    advance: Advance | None = None,
) -> KL:
    """KL(new || anchor) over `samples` answers of `new` to each prompt.

    new, anchor: folders of whole weights, or of LoRAs on `base`, which is the anchor where it is left out.
    units: by prompt, what intervals count as one (clusters of prompts); each prompt by itself where it is left out.
    advance: told of answers sampled. Raises TrainingError.
    """
    base = base or anchor
    if is_adapter(base):
        raise TrainingError(f"{base} is a LoRA: say which weights it lies on with base.")
    if not prompts:
        raise TrainingError("There are no prompts to measure a KL on.")
    template = PolicyTemplate(base)
    policy = load_policy(new, base)
    reference = None if is_adapter(new) and anchor == base else load_policy(anchor, base)
    ids, answers = sample_answers(
        policy, template, prompts, samples=samples, max_new_tokens=max_new_tokens, seed=seed, advance=advance
    )
    names: Sequence[Hashable] = range(len(prompts)) if units is None else units
    repeated = [name for name in names for _ in range(samples)]
    expected, sampled = of_answers(policy, reference, ids, answers, template.padding)
    cut = sum(answer[-1] not in template.ends for answer in answers) / len(answers)
    return summed(expected, sampled, [len(one) for one in answers], repeated, cut, max_new_tokens, seed)


@torch.inference_mode()
def of_answers(
    policy: Any,
    reference: Any | None,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    padding: int,
) -> tuple[list[float], list[float]]:
    """Of each answer: its expected KL, and its sampled log-ratio. reference: None: the policy without its adapter."""
    expected, sampled = [0.0] * len(answers), [0.0] * len(answers)
    vocabulary = int(policy.config.get_text_config().vocab_size)
    for part in _parts([len(one) for one in answers], vocabulary):
        rows = [(prompts[place], answers[place]) for place in part]
        before, after = max(len(prompt) for prompt, _ in rows), max(len(answer) for _, answer in rows)
        spelled = [
            [padding] * (before - len(prompt)) + [*prompt, *answer] + [padding] * (after - len(answer))
            for prompt, answer in rows
        ]
        masked = [
            [0] * (before - len(prompt)) + [1] * (len(prompt) + len(answer)) + [0] * (after - len(answer))
            for prompt, answer in rows
        ]
        ids = torch.tensor(spelled, device=policy.device)
        mask = torch.tensor(masked, device=policy.device)
        log_new = _log_probabilities(policy, ids, mask, after)
        if reference is None:
            with policy.disable_adapter():
                log_anchor = _log_probabilities(policy, ids, mask, after)
        else:
            log_anchor = _log_probabilities(reference, ids, mask, after)
        counted = mask[:, before:].double()
        ratio = log_new - log_anchor
        full = (log_new.exp() * ratio).sum(-1).double()
        drawn = ratio.gather(-1, ids[:, before:, None])[..., 0].double()
        for place, one, other in zip(
            part, (full * counted).sum(1).tolist(), (drawn * counted).sum(1).tolist(), strict=True
        ):
            expected[place], sampled[place] = one, other
    return expected, sampled


def _log_probabilities(model: Any, ids: torch.Tensor, mask: torch.Tensor, answer: int) -> torch.Tensor:
    """Of every token of the vocabulary at each place of the answers: (rows, answer, vocabulary)."""
    places = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(
        input_ids=ids, attention_mask=mask, position_ids=places, logits_to_keep=answer + 1, use_cache=False
    ).logits
    return torch.log_softmax(logits[:, -answer - 1 : -1].float(), dim=-1)


def summed(
    expected: Sequence[float],
    sampled: Sequence[float],
    lengths: Sequence[int],
    units: Sequence[Hashable],
    cut: float,
    max_new_tokens: int,
    seed: int,
) -> KL:
    """All answers together. Pure."""
    return KL(
        per_answer=mean(expected, units),
        per_token=per_token(expected, lengths, units),
        per_answer_sampled=mean(sampled, units),
        per_token_sampled=per_token(sampled, lengths, units),
        tokens=sum(lengths),
        cut=cut,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )


def per_token(totals: Sequence[float], lengths: Sequence[int], units: Sequence[Hashable]) -> Estimate:
    """The ratio R = sum k_i / sum l_i with its interval: that of the mean of R + (k_i - R l_i) / mean length."""
    ratio = sum(totals) / sum(lengths)
    middle = sum(lengths) / len(lengths)
    return mean([ratio + (one - ratio * length) / middle for one, length in zip(totals, lengths, strict=True)], units)


def _parts(lengths: Sequence[int], vocabulary: int) -> list[list[int]]:
    """Places by length, so many that their logits fit."""
    order = sorted(range(len(lengths)), key=lambda place: (lengths[place], place))
    parts: list[list[int]] = []
    for place in order:
        if not parts or (len(parts[-1]) + 1) * (lengths[place] + 1) * vocabulary > _LOGITS:
            parts.append([])
        parts[-1].append(place)
    return parts
