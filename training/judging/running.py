"""A labelling, from a snapshot to one with a judge's rows beside people's: ask, write again, put them there."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import aiohttp
import msgspec

from gateway.shared.progress import bar
from scorers.judge.constitution import Constitution
from scorers.model_path import LoadError
from scorers.settings import Section
from training.data.layout import Snapshot
from training.data.places import LABEL_PREFIX, NAME_DIGITS, OF
from training.data.rows import BestOfN, Preference, Split
from training.errors import TrainingError
from training.evaluation.servers import Server
from training.jsonl import only_one
from training.judging.derived import write_derived
from training.judging.judge import DrawingJudge, open_judge
from training.judging.labelling import Agreement, Labels, agreement, judged, labels
from training.judging.pairs import Choose, of_candidates, of_people
from training.judging.revising import Revisions, revise
from training.judging.writer import ServerWriter


class LabelSettings(Section):
    """All that decides which rows a judge makes. judge, constitution: with a digest. writer: who writes again."""

    judge: str
    constitution: str
    split: Split
    pairs: int
    choose: Choose
    principles: int
    least: float
    weight: float
    revise: int
    writer: str
    max_tokens: int
    seed: int


@dataclass(frozen=True)
class JudgeAt:
    """Where the judge is: a folder or id, and a worker that runs it, if not this process."""

    model: str
    constitution_file: Path | None
    constitution: Constitution
    vllm: str | None = None
    vllm_key_env: str | None = None


@dataclass(frozen=True)
class WriterAt:
    """Who writes again: an OpenAI-compatible address, and which of its models; none: the only one."""

    url: str
    model: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Labelled:
    """place: of the new snapshot."""

    place: Path
    labels: Labels
    revisions: Revisions
    agreed: Agreement


async def label_snapshot(
    opened: Snapshot, settings: LabelSettings, at: JudgeAt, writer: WriterAt | None, people: int, snapshots: Path
) -> Labelled:
    """people: how many of people's pairs are asked too. Nothing is asked twice. Raises TrainingError."""
    # Rows stand in the order of their prompts' digests, so the first are any.
    asked = list(islice(of_candidates(opened.rows(BestOfN, settings.split), settings.choose), settings.pairs))
    theirs = list(islice(of_people(opened.rows(Preference, "calibration")), people))
    to_revise = list(islice(opened.rows(BestOfN, settings.split), settings.revise))
    if not asked and not to_revise:
        raise TrainingError(
            "There is nothing to label: no request of this snapshot has two different candidates that could be shown. "
            "Serve with n above 1."
        )
    named = msgspec.json.encode([opened.manifest.id, settings.model_dump(mode="json")], order="sorted")
    work = snapshots / f"{LABEL_PREFIX}{hashlib.sha256(named).hexdigest()[:NAME_DIGITS]}"
    async with _judge(at, settings) as judge:
        with only_one(work), bar() as shown:
            (work / OF).write_text(opened.manifest.id, encoding="utf-8")
            task = shown.add_task("asking the judge", total=len(asked) + len(theirs))
            answers = await judged(judge, asked, work / "judged.jsonl", lambda: shown.advance(task))
            on_people = await judged(judge, theirs, work / "people.jsonl", lambda: shown.advance(task))
            made = labels(asked, answers, least=settings.least, weight=settings.weight)
            agreed = agreement(theirs, on_people, least=settings.least)
            revised = Revisions()
            if to_revise and writer is not None:
                task = shown.add_task("writing again", total=len(to_revise))
                async with _writer(writer, settings.max_tokens) as writing:
                    revised = await revise(
                        to_revise,
                        writing,
                        judge,
                        at.constitution,
                        work,
                        principles=settings.principles,
                        seed=settings.seed,
                        least=settings.least,
                        weight=settings.weight,
                        advance=lambda: shown.advance(task),
                    )
    pairs = [*made.rows, *revised.pairs]
    if not pairs and not revised.demonstrations:
        raise TrainingError(f"No verdict counts ({told(made.left_out) or 'nothing was judged'}): take another judge.")
    facts = {
        "judge": judge.version,
        "left_out": made.left_out,
        "revisions_left_out": revised.left_out,
        "agreement_with_people": asdict(agreed),
    }
    place = write_derived(
        opened,
        {"preference": pairs, "demonstration": revised.demonstrations},
        settings.model_dump(mode="json"),
        facts,
        snapshots,
        work / "snapshot",
    )
    return Labelled(place, made, revised, agreed)


def told(left_out: dict[str, int]) -> str:
    """Reasons and counts, in words."""
    return ", ".join(f"{why} {count}" for why, count in sorted(left_out.items()))


@asynccontextmanager
async def _judge(at: JudgeAt, settings: LabelSettings) -> AsyncIterator[DrawingJudge]:
    try:
        judge = open_judge(
            at.model,
            at.constitution_file,
            vllm=at.vllm,
            api_key_env=at.vllm_key_env,
            principles=settings.principles,
            seed=settings.seed,
        )
    except LoadError as error:
        raise TrainingError(f"This cannot be the judge: {error}") from None
    try:
        yield judge
    finally:
        await judge.close()


@asynccontextmanager
async def _writer(at: WriterAt, max_tokens: int) -> AsyncIterator[ServerWriter]:
    async with aiohttp.ClientSession() as session:
        server = Server(at.url.rstrip("/"), session, at.key)
        names, bestow = await server.models()
        yield ServerWriter(server, _one_of(names, at), bestow=bestow, max_tokens=max_tokens)


def _one_of(names: Sequence[str], at: WriterAt) -> str:
    if at.model is not None and at.model not in names:
        raise TrainingError(f"{at.url} has no model {at.model}; it serves {', '.join(names)}.")
    if at.model is None and len(names) != 1:
        raise TrainingError(f"{at.url} serves {', '.join(names) or 'no model'}: name one with --writer-model.")
    return at.model or names[0]
