"""Which rows of a snapshot each method learns from. Light: no torch.

    sft         what people wrote: demonstrations and corrections
    rejection   the best `settings.best` answers that were sampled for each prompt, of all rounds
    dpo         pairs
    kto         single answers, liked or not
    rloo, grpo  prompts

What a policy may not be trained on (`Side.for_policy`) is left out and counted.

Rejection keeps the best of earlier rounds (Llama 2, 2307.09288, 3.2.3: without them a later round forgot what an
earlier one could do): a prompt's candidates compete whichever policy version sampled them. Rewards of two reward models
have no common scale, so of a prompt only those count that the latest of its reward models gave.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

import msgspec

from training.data.layout import Snapshot
from training.data.rows import BestOfN, Demonstration, Preference, PromptOnly, Side, Split, Unpaired
from training.policy.settings import Method, PolicySettings
from training.policy.trainer import PolicyRows

R = TypeVar("R", Demonstration, Preference, Unpaired, PromptOnly, BestOfN)


def policy_rows(snapshot: Snapshot, split: Split, method: Method, settings: PolicySettings) -> PolicyRows:
    """Raises TrainingError where the snapshot is damaged."""
    left_out: Counter[str] = Counter()

    def kept(kind: type[R]) -> Iterator[R]:
        for row in snapshot.rows(kind, split):
            if settings.sources and row.side.source not in settings.sources:
                left_out["of other sources"] += 1
            elif not row.side.for_policy:
                left_out["not for policies"] += 1
            else:
                yield row

    match method:
        case "sft":
            found = PolicyRows(demonstrations=list(kept(Demonstration)))
        case "rejection":
            found = PolicyRows(demonstrations=best_of(kept(BestOfN), settings.best, left_out))
        case "dpo":
            found = PolicyRows(pairs=list(kept(Preference)))
        case "kto":
            found = PolicyRows(thumbs=list(kept(Unpaired)))
        case "rloo" | "grpo":
            found = PolicyRows(prompts=list(kept(PromptOnly)))
    return replace(found, left_out=dict(sorted(left_out.items())))


def best_of(rows: Iterable[BestOfN], best: int, left_out: Counter[str]) -> list[Demonstration]:
    """The `best` different answers to each prompt with the highest rewards, over all rows with that prompt."""
    by_prompt: dict[str, list[BestOfN]] = {}
    for row in rows:
        by_prompt.setdefault(row.side.prompt, []).append(row)
    found: list[Demonstration] = []
    for of_prompt in by_prompt.values():
        latest = max(of_prompt, key=lambda row: (row.side.created or 0.0, row.side.id)).side.reward_model
        comparable = [row for row in of_prompt if row.side.reward_model == latest]
        if others := len(of_prompt) - len(comparable):
            left_out["requests scored by an earlier reward model"] += others
        ranked = sorted(
            ((row, place) for row in comparable for place in range(len(row.rewards))),
            key=lambda one: (-one[0].rewards[one[1]], one[0].side.id, one[1]),
        )
        taken: dict[str, Demonstration] = {}
        for row, place in ranked:
            if len(taken) == best:
                break
            taken.setdefault(row.completions[place][-1]["content"], _demonstration(row, place))
        found += taken.values()
    return found


def _demonstration(row: BestOfN, place: int) -> Demonstration:
    side: Side = msgspec.structs.replace(row.side, id=f"{row.side.id}-{place}")
    return Demonstration(prompt=row.prompt, completion=row.completions[place], side=side)
