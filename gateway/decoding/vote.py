"""Votes: each candidate votes for the answer that it ends in; what most, or the best, agree on is delivered.

Needs: answers that an extractor finds and that can be equal, such as numbers, letters or fields; a reward only where
the votes are weighed by it. Costs: n samples, or fewer where a majority stops early.

    votes       â = argmax over a of sum over i of 1[a_i = a] w_i            (formula 13)
    weights     none         1: the majority
                reward       the raw reward, below 0 nothing: for rewards that are chances, as process models' are
                calibrated   the reward's quantile under the reference policy, where its scorer is calibrated
                rank         (N - rank + 1)^power over the N that vote, the best rank being 1, ties sharing theirs
                             (Borda; power 0 is the majority)
    equality    two numbers that are equal are one answer however they are written (0.5, 1/2, .50, 50%), units ignored;
                other answers are equal up to capitals, blanks, Unicode's forms and punctuation at their ends

Unsafe candidates do not vote, nor do those that break the form where others keep it, nor those in which no answer is
found. Ties between answers go to the one that was given earliest. Where no vote has weight, each counts as one. Where
none votes the selection rule chooses among all, and `degraded` says `no_answer`; it says `uncalibrated` where quantiles
were to be counted and the reward's scorer has none.

Of the candidates with the answer that won, the selection rule delivers one: the best by it, or a draw where it draws;
without a reward the first that finished. The others come next, then those of the other answers, by their weight.

A majority stops early (Adaptive-Consistency, Aggarwal et al. 2023, arXiv:2305.11860) once it is likelier than
`confidence` that its leader is the likelier of the two first, or once it cannot be overtaken. A wave is as many votes
as could settle it at the least, so waiting for a wave never costs a sample that asking one by one would have saved,
unless `wave` asks for more at a time.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from heapq import nlargest
from typing import Literal, Self

from pydantic import Field, model_validator

from gateway.decoding.candidate import Judged
from gateway.decoding.laws.consistency import leader_stays
from gateway.decoding.selection.chooser import Outcomes, Ranking
from gateway.decoding.shortfall import explain
from gateway.decoding.strategy import Decision, Judge, Need, Options, Progress, Sampler, Strategy, Task
from gateway.decoding.waves import choice_bound, in_waves
from scorers.verifiers.exact import ExactOptions, normalised
from scorers.verifiers.extract import Extraction, Extractor, How, extractor
from scorers.verifiers.numerals import read_number

Weight = Literal["none", "reward", "calibrated", "rank"]
Answer = Fraction | str
"""Equal where two candidates say the same."""

_WRITTEN = ExactOptions()


class VoteOptions(Extraction, Options):
    """Where the answers are, what a vote counts, and when it is settled."""

    extract: How = Field("last_number", description=f"{Extraction.model_fields['extract'].description}")
    weight: Weight = Field(
        "none",
        description="What a vote counts. none: one. reward: its raw reward, below 0 nothing. calibrated: its reward's "
        "quantile. rank: (N - rank + 1)^power by reward.",
    )
    power: float = Field(1.0, ge=0, le=10, description="With weight: rank; 0 is the majority.")
    confidence: float | None = Field(
        0.95,
        ge=0.5,
        lt=1,
        description="With weight: none, how sure it must be of the leader before it stops sampling; empty: n at once.",
    )
    wave: int = Field(
        4, ge=1, le=128, description="With confidence, fewest candidates sampled at a time; 1 samples least."
    )

    @model_validator(mode="after")
    def _one_kind_of_vote(self) -> Self:
        for key, weight in (("power", "rank"), ("confidence", "none"), ("wave", "none")):
            if key in self.model_fields_set and self.weight != weight:
                raise ValueError(f"{key} does something with weight: {weight} only")
        return self

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset() if self.weight == "none" else frozenset({"reward"})


async def vote(task: Task, sampler: Sampler, judge: Judge, progress: Progress) -> Decision:
    """Decide one request; raises as best-of-n does."""
    options = task.options
    assert isinstance(options, VoteOptions)
    find = extractor(options)

    def more(judged: Sequence[Judged]) -> int:
        if options.weight != "none" or options.confidence is None:
            return 0 if judged else task.n
        left = task.n - len(judged)
        counts = [len(votes) for votes in ballots(judged, find, unjudged_passes=task.unjudged_passes).values()]
        needed = votes_needed(counts, options.confidence, left)
        return max(needed, options.wave, 0 if judged else task.deliver) if needed else 0

    sampled = await in_waves(task, sampler, judge, progress, more)
    judged = sampled.judged
    found = ballots(judged, find, unjudged_passes=task.unjudged_passes)
    ranking = _elected(task, judged, found, options)
    if not ranking.order:
        explain(judged, sampled.failure, timed_out=sampled.timed_out)
    outcomes = ranking.outcomes
    if ranking.order:
        outcomes = replace(outcomes, kl_bound=choice_bound(max(task.n, len(judged)), outcomes))
    shortfall = _shortfall(judged, found, options) if ranking.order else None
    return sampled.decision(ranking.order, outcomes, progress, otherwise=shortfall)


def ballots(judged: Sequence[Judged], find: Extractor, *, unjudged_passes: bool) -> dict[Answer, list[int]]:
    """The positions that vote for each answer, answers by their earliest."""
    safe = [position for position, one in enumerate(judged) if one.safe(unjudged_passes)]
    whole = [position for position in safe if judged[position].broken is None]
    found: dict[Answer, list[int]] = {}
    for position in sorted(whole or safe, key=lambda one: judged[one].candidate.index):
        text = judged[position].candidate.message.get("content")
        said = find(text) if isinstance(text, str) else None
        answer = canonical(said) if said is not None else None
        if answer is not None:
            found.setdefault(answer, []).append(position)
    return found


def canonical(said: str) -> Answer | None:
    """The same for answers that are equal; None where nothing is left of it."""
    number = read_number(said)
    return number if number is not None else normalised(said, _WRITTEN) or None


def weights(judged: Sequence[Judged], voters: Iterable[int], weight: Weight, power: float = 1.0) -> dict[int, float]:
    """What each vote counts, by position; one each where no vote would count otherwise."""
    voters = list(voters)
    rewards = {one: reward for one in voters if (reward := judged[one].reward) is not None}
    match weight:
        case "none":
            found = {}
        case "reward":
            found = {one: max(0.0, reward) for one, reward in rewards.items()}
        case "calibrated":
            found = {one: judged[one].calibrated or 0.0 for one in rewards}
        case "rank":
            found = _borda(rewards, power)
    return {one: found.get(one, 0.0) for one in voters} if any(found.values()) else dict.fromkeys(voters, 1.0)


def _borda(rewards: Mapping[int, float], power: float) -> dict[int, float]:
    ordered = sorted(rewards.values())
    last = {value: place for place, value in enumerate(ordered, 1)}
    same = {value: ordered.count(value) for value in last}
    return {one: (last[value] - (same[value] - 1) / 2) ** power for one, value in rewards.items()}


def votes_needed(counts: Sequence[int], confidence: float, left: int) -> int:
    """How many more votes could settle it at the least; 0 where it is settled, or none is left.

    Settled: the leader is likelier than `confidence` to be the likelier of the first two, or cannot be overtaken by all
    that are left.
    """
    first, second = nlargest(2, (0, 0, *counts))
    further = 0
    while (
        further < left
        and first + further - second <= left - further
        and leader_stays(first + further, second) <= confidence
    ):
        further += 1
    return further


def _elected(
    task: Task, judged: Sequence[Judged], found: Mapping[Answer, Sequence[int]], options: VoteOptions
) -> Ranking:
    """The selection rule's order among those that gave the winning answer, then the other answers', then the rest."""
    of_all = task.chooser.rank(judged, unjudged_passes=task.unjudged_passes)
    if not found:
        return of_all
    counted = weights(judged, (one for votes in found.values() for one in votes), options.weight, options.power)
    order: list[int] = []
    chances = [0.0] * len(judged)
    fallback = 0.0
    for votes in sorted(found.values(), key=lambda votes: -math.fsum(counted[one] for one in votes)):
        among = task.chooser.rank([judged[one] for one in votes], unjudged_passes=task.unjudged_passes)
        if not order:
            fallback = among.outcomes.fallback
            for position, chance in zip(votes, among.outcomes.candidates, strict=True):
                chances[position] = chance
        order += (votes[place] for place in among.order)
    order += (position for position in of_all.order if position not in set(order))
    return Ranking(tuple(order), Outcomes(tuple(chances), fallback=fallback))


def _shortfall(judged: Sequence[Judged], found: Mapping[Answer, Sequence[int]], options: VoteOptions) -> str | None:
    """Why it is less than the vote that was asked for, where nothing has failed."""
    if not found:
        return "no_answer"
    rewarded = [judged[one] for votes in found.values() for one in votes if judged[one].reward is not None]
    uncalibrated = bool(rewarded) and all(one.calibrated is None for one in rewarded)
    return "uncalibrated" if options.weight == "calibrated" and uncalibrated else None


STRATEGY = Strategy(
    name="vote",
    about="Samples n candidates, or fewer, and delivers one whose answer most of them, or the best of them, agree on.",
    run=vote,
    options=VoteOptions,
)
