"""What an evaluation found, as it lies in its folder: `result.json`.

    <home>/evaluations/<name>-<first 12 of id>/
        result.json         this
        set.jsonl           the prompts
        answers.jsonl       what both sides said (`answers.Answer`)
        verdicts.jsonl      what judges said of them; scores.jsonl: what reward models and safety classifiers said
        win_rates.png, lengths.png

The id is a digest of what was asked, not of who judged it: another judge reads the same answers, without sampling.
"""

import hashlib
from pathlib import Path

import msgspec

from training.errors import TrainingError
from training.evaluation.answers import Which
from training.evaluation.intervals import Estimate
from training.evaluation.settings import SamplingSettings
from training.evaluation.sides import Side

RESULT = "result.json"
ASKED = "asked.json"
FORMAT = 1


class SetFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """sha256: of the prompts in their order; results with the same are comparable. snapshot: where they are from."""

    name: str
    sha256: str
    prompts: int
    turns: int
    snapshot: str | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked, and so what the result's id is made of (`name` and the set's name apart)."""

    set: SetFacts
    a: Side
    b: Side
    samples: int
    seed: int
    max_tokens: int | None
    temperature: float | None

    @classmethod
    def of(cls, facts: SetFacts, a: Side, b: Side, settings: SamplingSettings) -> "Asked":
        return cls(
            set=facts,
            a=a,
            b=b,
            samples=settings.samples,
            seed=settings.seed,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
        )

    @property
    def id(self) -> str:
        """SHA-256. A file's name and a set's do not change what was asked."""
        bare = msgspec.structs.replace(
            self,
            set=msgspec.structs.replace(self.set, name="", snapshot=None),
            a=msgspec.structs.replace(self.a, file=""),
            b=msgspec.structs.replace(self.b, file=""),
        )
        return hashlib.sha256(msgspec.json.encode(msgspec.to_builtins(bare), order="sorted")).hexdigest()


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One side's answers. refused: by the guard; refused_in_words: of the answered ones (`refusals`).

    short: the gateway did less than the profile says, because it was out of workers. flagged: the guard let it pass
    with a note. reward: as the gateway chose by, which says nothing of how good the choice is.
    """

    answers: int
    failed: int
    refused: Estimate | None
    blocked: Estimate | None
    refused_in_words: Estimate | None
    flagged: Estimate | None
    short: int
    characters: Estimate | None
    tokens: Estimate | None
    reward: Estimate | None


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """What one judge or one reward model says. win_rate: of A over B, ties half.

    length_controlled: the win rate at equal lengths, or None with `uncontrolled` saying why. position_bias: mean of
    P(A preferred | first) - P(A preferred | second). contradictory: share of comparisons where the two positions
    prefer different answers. mean_a, mean_b, difference: of a reward model's rewards.
    resolution: the smallest distance from one half that so many prompts show four times in five; prompts_for: how many
    it takes for a smaller one. missing: comparisons without a verdict. by_prompt: A's wins on each prompt.
    """

    by: str
    kind: str
    win_rate: Estimate
    ties: Estimate
    length_controlled: Estimate | None = None
    length_slope: float | None = None
    uncontrolled: str = ""
    by_category: dict[str, Estimate] = {}
    by_turn: dict[str, Estimate] = {}
    position_bias: Estimate | None = None
    contradictory: Estimate | None = None
    mean_a: Estimate | None = None
    mean_b: Estimate | None = None
    difference: Estimate | None = None
    resolution: float = 0.0
    prompts_for: dict[str, int] = {}
    missing: int = 0
    why_missing: str = ""
    by_prompt: dict[str, float] = {}


class RedTeam(msgspec.Struct, frozen=True, kw_only=True):
    """One side on a red-team set. Of the prompts that ask for something unsafe: how many unsafe answers were delivered
    by `safety`'s verdict, and how many refused or blocked. Of the benign ones: how many were refused or blocked all the
    same, by the guard or in words.
    """

    unsafe_delivered: Estimate | None
    unsafe_refused: Estimate | None
    unsafe_blocked: Estimate | None
    unsafe_refused_in_words: Estimate | None
    benign_refused: Estimate | None
    benign_flagged: Estimate | None
    safety: str = ""
    unread: int = 0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """created: seconds since 1970. characters_longer: A's answers less B's."""

    id: str
    name: str
    created: float
    asked: Asked
    a: Summary
    b: Summary
    measures: list[Measure]
    characters_longer: Estimate | None = None
    red_team: dict[Which, list[RedTeam]] = {}
    warnings: list[str] = []
    format: int = FORMAT


def write_result(folder: Path, result: Result) -> Path:
    path = folder / RESULT
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    data = msgspec.json.encode(msgspec.to_builtins(result), order="sorted")
    fresh.write_bytes(msgspec.json.format(data, indent=2) + b"\n")
    fresh.replace(path)
    return path


def read_result(path: Path) -> Result:
    """A result's folder or file. Raises TrainingError."""
    file = path / RESULT if path.is_dir() else path
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Result)
    except FileNotFoundError:
        raise TrainingError(f"{path} is no result: make one with `bestow train evaluate`.") from None
    except (OSError, msgspec.DecodeError) as error:
        raise TrainingError(f"{file} cannot be read: {error}.") from None
    if found.format != FORMAT:
        raise TrainingError(f"{file} has format {found.format}, this Bestow reads {FORMAT}: read it with its own.")
    return found
