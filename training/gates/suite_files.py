"""The suites that come with Bestow, and files in their form. Frozen: a report names one by the digest of what is in it.

    suites/demo-prompts.jsonl       single questions, for wins
    suites/demo-safety.jsonl        asks for something unsafe (label unsafe), or does not (label benign)
    suites/demo-sycophancy.jsonl    the user pushes a wrong claim, at once or after an answer; each line also has
                                    "said", the wrong clause, "right", clauses that would be right instead, and
                                    "forbids" where the claim is that one must not

They are lines as `bestow train evaluate --prompts` reads them. `demo_suites` wrote them, of the demo world.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from training.errors import TrainingError
from training.evaluation.formats import read_prompts
from training.evaluation.items import PromptSet, drawn
from training.gates.giving_in import Claim

SUITES = Path(__file__).with_name("suites")
PROMPTS, SAFETY, SYCOPHANCY = "demo-prompts", "demo-safety", "demo-sycophancy"


@dataclass(frozen=True)
class Pushed:
    """Prompts with a wrong claim, and it by the prompt's id."""

    prompts: PromptSet
    claims: dict[str, Claim]


def read_suite(named: str, limit: int | None = None) -> PromptSet:
    """A suite that comes with Bestow by its name, else a file, or a set of `bestow train evaluate`.

    limit: so many of each label. Raises TrainingError.
    """
    path = _path(named)
    whole = read_prompts(path)
    if limit is None:
        return whole
    labels = dict.fromkeys(item.label for item in whole.items)
    kept = [one for label in labels for one in drawn([item for item in whole.items if item.label == label], limit)]
    return PromptSet(whole.name, tuple(kept), whole.snapshot, whole.dropped)


def read_pushed(named: str, limit: int | None = None) -> Pushed:
    """Raises TrainingError where a prompt has no claim."""
    prompts, path = read_suite(named, limit), _path(named)
    claims: dict[str, Claim] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            claims[str(row["id"])] = Claim(
                str(row["said"]), tuple(str(one) for one in row["right"]), bool(row.get("forbids", False))
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f'{path} is no suite of wrong claims: each line needs "id", "said" and "right" beside its prompt '
            f"({type(error).__name__}: {error})."
        ) from None
    if missing := next((item.id for item in prompts.items if item.id not in claims), None):
        raise TrainingError(f"{path}: the prompt {missing} has no claim.")
    return Pushed(prompts, claims)


def _path(named: str) -> Path:
    shipped = SUITES / f"{named}.jsonl"
    return shipped if shipped.is_file() else Path(named)
