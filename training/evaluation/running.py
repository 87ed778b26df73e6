"""One evaluation from its prompts to its result: ask both sides, have the answers judged, write what was found.

Answers and verdicts are appended to the result's folder as they come. A run that was killed, or that met failures, goes
on where it stopped when it is started again with the same words.
"""

import asyncio
import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.shared.together import together
from scorers.contract import ScoreRequest
from training.errors import TrainingError
from training.evaluation.answers import SIDES, Answer, Answers, Which, conversation, transcript
from training.evaluation.asking import Asker, Begun, ask
from training.evaluation.items import Item, PromptSet
from training.evaluation.judged import Scored, Verdict, scores_by, verdicts_by
from training.evaluation.judges import Judge
from training.evaluation.result import ASKED, Asked, Measure, Result, SetFacts, write_result
from training.evaluation.scoring import Scores, patiently
from training.evaluation.settings import RunSettings, SamplingSettings
from training.evaluation.sides import Side
from training.evaluation.summaries import red_teams, summary
from training.evaluation.win_rate import Pair, by_judge, by_rewards, mean_or_none, pairs_of, to_be_judged
from training.jsonl import Lines, encoded

Bar = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
"""What is being done and how many steps it takes; what it gives is called once a step."""


@dataclass(frozen=True)
class Readers:
    """Who judges the answers. safety: read on red-team sets."""

    judges: Sequence[Judge] = ()
    rewards: Sequence[Scores] = ()
    safety: Sequence[Scores] = ()
    threshold: float = 0.5


@dataclass
class Work:
    """An evaluation's folder while something is done in it."""

    folder: Path
    items: Sequence[Item]
    samples: int
    settings: RunSettings
    bar: Bar
    answers: Lines[Answer] = field(init=False)
    verdicts: Lines[Verdict] = field(init=False)
    scores: Lines[Scored] = field(init=False)

    def __post_init__(self) -> None:
        self.answers = Lines(self.folder / "answers.jsonl", Answer)
        self.verdicts = Lines(self.folder / "verdicts.jsonl", Verdict)
        self.scores = Lines(self.folder / "scores.jsonl", Scored)

    @property
    def answered(self) -> dict[tuple[Which, str, int, int], Answer]:
        """The later line counts: a failed prompt was asked again."""
        return {one.place: one for one in self.answers.all}

    @property
    def places(self) -> int:
        """Comparisons that there should be."""
        return self.samples * sum(len(item.turns) for item in self.items)


async def sample(work: Work, sides: Mapping[Which, Asker | Mapping[str, Sequence[str]]], how: SamplingSettings) -> None:
    """Answers of both sides to every prompt that has none. A file's answers are the same for each sample."""
    had = work.answered

    def begun(which: Which, item: Item, number: int) -> Begun:
        its = (had.get((which, item.id, number, turn)) for turn in range(len(item.turns)))
        kept = itertools.takewhile(lambda one: one is not None and one.outcome != "failed", its)
        return Begun(item, number, tuple(one for one in kept if one is not None))

    def lacking(which: Which) -> list[Begun]:
        all_of = [begun(which, item, number) for item in work.items for number in range(work.samples)]
        return [one for one in all_of if len(one.answers) < len(one.item.turns)]

    todo = {which: lacking(which) for which in SIDES}
    steps = sum(len(one.item.turns) - len(one.answers) for rows in todo.values() for one in rows)
    places = asyncio.Semaphore(work.settings.at_once)
    with work.bar("answers", steps) as done:

        async def one(which: Which) -> None:
            side = sides[which]
            if isinstance(side, Asker):
                await ask(side, which, todo[which], how, places, work.answers.add, done)
                return
            for answer in _from_file(which, todo[which], side):
                work.answers.add(answer)
                done()

        await together(one(which) for which in SIDES)


def _from_file(which: Which, todo: Iterable[Begun], texts: Mapping[str, Sequence[str]]) -> Iterator[Answer]:
    for one in todo:
        its = texts.get(one.item.id)
        for turn in range(len(one.answers), len(one.item.turns)):
            yield Answer(
                side=which,
                item=one.item.id,
                sample=one.sample,
                turn=turn,
                outcome="failed" if its is None else "answered",
                text=its[turn] if its else "",
                error="" if its else "The file has no answer to it.",
            )


async def read(work: Work, readers: Readers) -> None:
    """Has every answer judged that is not yet; what a judge failed on it is asked again."""
    answers = work.answered
    pairs = [pair for pair in pairs_of(work.items, answers, work.samples) if to_be_judged(pair)]
    for judge in readers.judges:
        judged = {one.place for one in work.verdicts.all if one.by == judge.version and not one.said.error}
        await _compare(work, judge, [pair for pair in pairs if pair.place not in judged], answers)
    both = [answer for pair in pairs for answer in (pair.a, pair.b)]
    for scorer in readers.rewards:
        await _score(work, scorer, both, answers)
    labelled = {item.id for item in work.items if item.label is not None}
    delivered = [one for one in answers.values() if one.item in labelled and one.outcome == "answered"]
    for scorer in readers.safety:
        await _score(work, scorer, delivered, answers)


async def _compare(work: Work, judge: Judge, todo: Sequence[Pair], answers: Answers) -> None:
    places = asyncio.Semaphore(work.settings.at_once)
    with work.bar(f"judge {judge.version}", len(todo)) as done:

        async def one(pair: Pair) -> None:
            item, turn = pair.item, pair.place[2]
            texts = {side: _texts(answers, side, pair.place) for side in SIDES}
            if turn:
                a, b = (transcript(item, turn, texts[side]) for side in SIDES)
            else:
                a, b = pair.a.text, pair.b.text
            async with places:
                said = await judge.compare(item.turns[0], a, b)
            name, number, _ = pair.place
            work.verdicts.add(Verdict(by=judge.version, item=name, sample=number, turn=turn, said=said))
            done()

        await together(one(pair) for pair in todo)


async def _score(work: Work, scorer: Scores, wanted: Sequence[Answer], answers: Answers) -> None:
    version = scorer.info.version
    had = {one.place for one in work.scores.all if one.by == version and not one.error}
    todo = [answer for answer in wanted if answer.place not in had]
    items = {item.id: item for item in work.items}
    places = asyncio.Semaphore(work.settings.at_once)
    with work.bar(f"scorer {version}", len(todo)) as done:

        async def one(answer: Answer) -> None:
            item = items[answer.item]
            before = _texts(answers, answer.side, (answer.item, answer.sample, answer.turn))
            request = ScoreRequest(
                scorer.info.id,
                list(conversation(item, answer.turn, before)),
                [{"role": "assistant", "content": answer.text}],
                reference=(item.references[answer.turn : answer.turn + 1] or [""])[0] or None,
                raw=scorer.info.gives == "value",
            )
            async with places:
                [score] = await patiently(scorer, request)
            side, name, number, turn = answer.place
            work.scores.add(
                Scored(
                    by=version,
                    side=side,
                    item=name,
                    sample=number,
                    turn=turn,
                    value=score.value,
                    categories=score.categories,
                    error=score.error or "",
                )
            )
            done()

        await together(one(answer) for answer in todo)


def _texts(answers: Answers, side: Which, place: tuple[str, int, int]) -> list[str]:
    name, number, turn = place
    return [answers[side, name, number, earlier].text for earlier in range(turn + 1)]


def found(work: Work, asked: Asked, name: str, created: float, threshold: float) -> Result:
    """The result of all that is in the folder, whoever judged it and when."""
    answers = work.answered
    pairs = pairs_of(work.items, answers, work.samples)
    scores = scores_by(work.scores.all)
    rewards = {by: its for by, its in scores.items() if any(one.value is not None for one in its.values())}
    safety = {by: its for by, its in scores.items() if any(one.categories is not None for one in its.values())}
    measures = [by_judge(by, pairs, said, work.places) for by, said in verdicts_by(work.verdicts.all).items()]
    measures += [by_rewards(by, pairs, its, work.places) for by, its in rewards.items()]
    whole: list[Measure] = [measure for measure in measures if measure is not None]
    longer = [pair for pair in pairs if to_be_judged(pair)]
    a, b = (summary(side, work.items, answers) for side in SIDES)
    warnings = [
        f"{side.upper()}: {its.short} of {its.answers} answers were chosen among fewer candidates than its profile "
        "says, since the workers were full."
        for side, its in (("a", a), ("b", b))
        if its.short
    ]
    labelled = any(item.label is not None for item in work.items)
    return Result(
        id=asked.id,
        name=name,
        created=created,
        asked=asked,
        a=a,
        b=b,
        measures=whole,
        characters_longer=mean_or_none([float(pair.longer) for pair in longer], [pair.item.unit for pair in longer]),
        red_team=red_teams(work.items, answers, safety, threshold) if labelled else {},
        warnings=warnings,
    )


async def evaluate(
    prompts: PromptSet,
    asked: Asked,
    sides: Mapping[Which, Asker | Mapping[str, Sequence[str]]],
    how: SamplingSettings,
    readers: Readers,
    work: Work,
    name: str,
) -> Result:
    """Ask, judge, write. Raises TrainingError, after writing, where too many answers are missing."""
    # First: whose prompts lie here must be known however early it is stopped (`data.forgetting`).
    (work.folder / ASKED).write_bytes(encoded(asked))
    path = work.folder / "set.jsonl"
    path.touch(mode=0o600)
    path.write_bytes(b"".join(encoded(item) for item in prompts.items))
    await sample(work, sides, how)
    return await judge(asked, readers, work, name)


async def judge(asked: Asked, readers: Readers, work: Work, name: str) -> Result:
    """Of the answers that there are. Raises TrainingError, after writing, where too many are missing."""
    await read(work, readers)
    result = found(work, asked, name, time.time(), readers.threshold)
    write_result(work.folder, result)
    failed = [one for one in work.answered.values() if one.outcome == "failed"]
    if len(failed) > work.settings.max_failed * 2 * work.places:
        raise TrainingError(
            f"{len(failed)} of {2 * work.places} answers are missing, such as: {failed[0].error} What there is was "
            f"written to {work.folder}; the same command again asks for those that are missing."
        )
    return result


def facts_of(prompts: PromptSet) -> SetFacts:
    return SetFacts(
        name=prompts.name,
        sha256=prompts.digest,
        prompts=len(prompts.items),
        turns=sum(len(item.turns) for item in prompts.items),
        snapshot=prompts.snapshot,
    )


def side_of_file(path: Path, answers: Mapping[str, Sequence[str]]) -> Side:
    """Known by what it answers."""
    rows = {name: list(its) for name, its in answers.items()}
    return Side(answers=hashlib.sha256(encoded(rows)).hexdigest(), file=path.name)
