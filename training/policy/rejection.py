"""Rejection sampling: the best few of n sampled answers to each prompt, over all rounds, as rows to imitate.

    <home>/rejection/<model>/round-<digest>.jsonl    what was sampled: a line a prompt; named by who answered, and how
                             scores-<digest>.jsonl   rewards by another reward model than the one that served

(Llama 2, Touvron et al. 2023, arXiv:2307.09288, 3.2.3; RAFT, Dong et al. 2023, arXiv:2304.06767.) Each round samples
from the policy as it is by then. Earlier rounds stay, and a prompt's candidates compete whichever of them they are
from: Llama 2 forgot abilities when it learnt from the last round alone. All are compared by one reward model: what
another one rated in its time is rated again, and kept by the version.

Choosing the best of n moves the answers by at most ln n - (n - 1)/n nats from the policy that sampled them, to a mean
quantile of its rewards of n/(n + 1) (`gateway.decoding.laws.best_of_n`).
"""

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from gateway.shared.together import together
from scorers.contract import ScoreRequest
from training.data.lineage import Sought
from training.data.places import make_folder, write_durably
from training.data.rows import BestOfN, PromptOnly, Split
from training.data.sides import row_id
from training.errors import TrainingError
from training.evaluation.asking import Asker
from training.evaluation.running import Bar
from training.evaluation.scoring import Scores, patiently
from training.evaluation.settings import SamplingSettings
from training.jsonl import Lines, encoded, only_one, read_lines
from training.policy.rows import best_of
from training.policy.sampling import AT_ONCE, Candidate, Sampled, find_served, sample
from training.policy.trainer import PolicyRows

_SCORED_AT_ONCE = 8


class Rated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a reward model says of an answer. prompt: digest of the conversation. answer: of the text."""

    prompt: str
    answer: str
    reward: float | None = None
    error: str = ""


def rejection_of(home: Path, model: str) -> Path:
    """Where a model's rounds are kept."""
    return home / "rejection" / model


async def run_round(
    asker: Asker,
    prompts: Sequence[PromptOnly],
    n: int,
    how: SamplingSettings,
    folder: Path,
    bar: Bar,
    at_once: int = AT_ONCE,
) -> tuple[Path, str]:
    """Samples n candidates to each prompt, or goes on with it: the round's file, and the reward model that served.

    Raises TrainingError.

    folder: of the model's rounds (`rejection_of`).
    """
    if not prompts:
        raise TrainingError("There are no prompts to sample from: the snapshot's split has none.")
    served = await find_served(asker, n)
    asked = {
        "policy": served.policy,
        "profile": served.profile,
        "reward_model": served.reward_model,
        "prompts": sorted({row.side.prompt for row in prompts}),
        "n": n,
        "how": how.model_dump(exclude={"samples"}),
    }
    make_folder(folder)
    path = folder / f"round-{hashlib.sha256(encoded(asked)).hexdigest()[:12]}.jsonl"
    with only_one(folder), bar("sampling", len(prompts)) as done:
        await sample(asker, served, prompts, n, how, Lines(path, Sampled), done, at_once)
    return path, served.reward_model


def rounds(folder: Path) -> list[Sampled]:
    """All that was ever sampled there, by the names of their files. Raises TrainingError where one is damaged."""
    return [line for path in sorted(folder.glob("round-*.jsonl")) for line in read_lines(path, Sampled)]


async def rate(folder: Path, scorer: Scores, bar: Bar) -> None:
    """Has the scorer rate what it has not, where another reward model served. Raises TrainingError.

    What fails is asked again by the next call, and is no candidate until then.
    """
    version = scorer.info.version
    with only_one(folder):
        kept = Lines(_scores_file(folder, version), Rated)
        had = {(one.prompt, one.answer) for one in kept.all if not one.error}
        work: dict[str, tuple[Sampled, dict[str, str]]] = {}
        for line in rounds(folder):
            if line.reward_model != version:
                _, texts = work.setdefault(line.side.prompt, (line, {}))
                for one in line.candidates:
                    if one.usable and one.text and (line.side.prompt, _digest(one.text)) not in had:
                        texts[_digest(one.text)] = one.text
        todo = [(line, texts) for line, texts in work.values() if texts]
        places = asyncio.Semaphore(_SCORED_AT_ONCE)
        with bar(f"scorer {version}", len(todo)) as done:

            async def ask(line: Sampled, texts: dict[str, str]) -> None:
                answers = [{"role": "assistant", "content": text} for text in texts.values()]
                async with places:
                    scores = await patiently(scorer, ScoreRequest(scorer.info.id, line.prompt, answers, raw=True))
                for answer, score in zip(texts, scores, strict=True):
                    kept.add(Rated(prompt=line.side.prompt, answer=answer, reward=score.value, error=score.error or ""))
                done()

            await together(ask(line, texts) for line, texts in todo)


def rated_rows(folder: Path, split: Split, reward_model: str) -> list[BestOfN]:
    """What was sampled to a split's prompts, rated by one reward model (its version): a row a prompt and round.

    Safe, finished, rated and different answers, best first. For `rows.best_of`, which takes the best of all rounds.
    """
    path = _scores_file(folder, reward_model)
    ratings = {(one.prompt, one.answer): one.reward for one in read_lines(path, Rated)} if path.exists() else {}
    found = []
    for line in (one for one in rounds(folder) if one.side.split == split):
        served = line.reward_model == reward_model

        def reward(one: Candidate, line: Sampled = line, served: bool = served) -> float | None:
            return one.reward if served else ratings.get((line.side.prompt, _digest(one.text or "")))

        ranked = best_first([(one, reward(one)) for one in line.candidates])
        if ranked:
            found.append(_row(line, ranked, reward_model))
    return found


def rows_to_imitate(logged: Sequence[BestOfN], folder: Path, split: Split, reward_model: str, best: int) -> PolicyRows:
    """The best few of what was sampled here in any round and of what was logged, all by one reward model.

    logged: a snapshot's rows, of candidates that users' requests had; those that another reward model rated are left
    out and counted.
    """
    left_out: Counter[str] = Counter()
    comparable = [row for row in logged if row.side.reward_model == reward_model]
    if others := sum(1 for row in logged if row.side.reward_model != reward_model):
        left_out["requests scored by another reward model"] = others
    rows = best_of([*comparable, *rated_rows(folder, split, reward_model)], best, left_out)
    return PolicyRows(demonstrations=rows, left_out=dict(sorted(left_out.items())))


def best_first(candidates: Iterable[tuple[Candidate, float | None]]) -> list[tuple[str, float]]:
    """Texts with their rewards: safe, finished and rated ones, each once. Equal rewards go by seed. Pure."""
    usable = [
        (one, reward) for one, reward in candidates if one.usable and reward is not None and math.isfinite(reward)
    ]
    found: dict[str, float] = {}
    for one, reward in sorted(usable, key=lambda pair: (-pair[1], pair[0].seed)):
        found.setdefault(one.text or "", reward)
    return list(found.items())


def forget(home: Path, sought: Sought) -> int:
    """Takes out what was sampled to prompts of people who are sought, with its ratings; how many lines."""
    taken = 0
    for folder in sorted(path for path in home.glob("rejection/*") if path.is_dir()):
        with only_one(folder):
            gone: set[str] = set()
            for path in sorted(folder.glob("round-*.jsonl")):
                lines = Lines(path, Sampled).all
                kept = [line for line in lines if not _of(line, sought)]
                gone |= {line.side.prompt for line in lines} - {line.side.prompt for line in kept}
                taken += len(lines) - len(kept)
                if len(kept) < len(lines):
                    write_durably(path, b"".join(map(encoded, kept)))
            for path in sorted(folder.glob("scores-*.jsonl")) if gone else ():
                rated = [line for line in Lines(path, Rated).all if line.prompt not in gone]
                write_durably(path, b"".join(map(encoded, rated)))
    return taken


def _of(line: Sampled, sought: Sought) -> bool:
    side = line.side
    if not set(side.interactions).isdisjoint(sought.interactions):
        return True
    return any(sought.person(side.tenant, user, side.created) for user in side.people)


def _row(line: Sampled, ranked: Sequence[tuple[str, float]], reward_model: str) -> BestOfN:
    side = msgspec.structs.replace(
        line.side,
        id=row_id("best_of_n", "best_of_n", line.side.prompt, line.policy, [one.seed for one in line.candidates]),
        source="best_of_n",
        policy=line.policy,
        reward_model=reward_model,
        profile=line.profile,
    )
    return BestOfN(
        prompt=line.prompt,
        completions=[[{"role": "assistant", "content": text}] for text, _ in ranked],
        rewards=[reward for _, reward in ranked],
        side=side,
    )


def _scores_file(folder: Path, version: str) -> Path:
    return folder / f"scores-{hashlib.sha256(version.encode()).hexdigest()[:12]}.jsonl"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
