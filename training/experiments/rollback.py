"""Rollback: how often a canary takes back a version that is as good, and how soon one that is worse.

Canaries of the release code itself (`canaries`: groups, counts and decisions are the gateway's), ramp and watch
included, judged whenever a count changes. People differ in taste (sd 1.2 log-odds) and in how much they ask. A/A
canaries serve the same by both arms; others a challenger with 5, 10 or 20 points fewer thumbs up, or with errors.
Beside it, on the same A/A votes: a sequence that takes each vote for a person's.

    make experiment-rollback        python -m training.experiments.rollback --quick
"""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gateway.release.settings import ReleaseConfig
from training.demo.statistics import Figure, share
from training.experiments.canaries import ERRORS, Outcome, Version, days_of, run_canary, traffic
from training.experiments.report import (
    COLOURS,
    Options,
    band,
    drawing,
    progress,
    run,
    table,
    told,
    write_drawing,
    write_results,
    write_section,
)

NAME = "rollback"
SEED = 20
MOST_ERRORS = 0.05
AS_GOOD = "as good"
VERSIONS: dict[str, Version] = {
    AS_GOOD: Version(),
    "5 points worse": Version(worse=0.05),
    "10 points worse": Version(worse=0.10),
    "20 points worse": Version(worse=0.20),
    f"{MOST_ERRORS:.0%} errors": Version(errors=MOST_ERRORS),
}


@dataclass(frozen=True)
class Crowd:
    """users: of the service. settings: what suits so many. every: counts that change between two looks.

    null, worse: canaries a seed, of a version that is as good and of each other one.
    """

    users: int
    settings: ReleaseConfig
    every: int
    null: int
    worse: int


# A margin is what so many votes can show: 2 points take about 30,000 voters in the stage of 25 %.
CROWDS = (
    Crowd(400, ReleaseConfig(min_users=1, min_votes=30, margin=0.20), 1, 400, 60),
    Crowd(4_000, ReleaseConfig(min_users=20, margin=0.10), 20, 12, 8),
    Crowd(20_000, ReleaseConfig(margin=0.05), 100, 4, 4),
)


@dataclass(frozen=True)
class Found:
    """Of the canaries of one version in one crowd. interactions, users, days: until the rollback, of those rolled back:
    quartiles. stages: how many were rolled back in which."""

    back: Figure
    promoted: Figure
    expired: Figure
    naive: Figure
    first_votes: Figure
    interactions: tuple[float, ...]
    users: tuple[float, ...]
    days: tuple[float, ...]
    stages: dict[str, int]


def canaries(crowd: Crowd, version: Version, numbers: Iterable[int], done: Callable[[], None]) -> list[Outcome]:
    """Each with people and a draw of its own, by its number; the same people whatever the version."""
    found = []
    for number in numbers:
        rng = np.random.default_rng([SEED, crowd.users, number])
        seen = traffic(crowd.users, days_of(crowd.settings), rng)
        name = f"{SEED}-{crowd.users}-{number}"
        found.append(run_canary(crowd.settings, version, seen, name, every=crowd.every, contrast=version == Version()))
        done()
    return found


def summed(outcomes: Sequence[Outcome]) -> Found:
    """Shares with Wilson's intervals."""
    back = [one for one in outcomes if one.act == "roll_back"]

    def counted(of: Callable[[Outcome], bool]) -> Figure:
        return share(sum(map(of, outcomes)), len(outcomes), "canaries", SEED)

    return Found(
        counted(lambda one: one.act == "roll_back"),
        counted(lambda one: one.promoted),
        counted(lambda one: one.act == "expire"),
        counted(lambda one: one.naive),
        counted(lambda one: one.first_votes),
        quartiles([one.interactions for one in back]),
        quartiles([one.users for one in back]),
        quartiles([one.days for one in back]),
        dict(sorted(Counter(f"stage {one.stage + 1}" for one in back).items())),
    )


def quartiles(values: Sequence[float]) -> tuple[float, ...]:
    """The three; nothing of fewer than two values."""
    return tuple(statistics.quantiles(values, n=4, method="inclusive")) if len(values) > 1 else ()


Results = Mapping[int, Mapping[str, Found]]


def null_table(results: Results) -> str:
    """A/A, Markdown."""
    rows = []
    for users, versions in results.items():
        one = versions[AS_GOOD]
        crowd = next(crowd for crowd in CROWDS if crowd.users == users)
        rows.append(
            [
                f"{users:,}",
                f"{one.back.n:,}",
                told(one.back, 4),
                told(one.promoted),
                f"{100 * crowd.settings.margin:g}",
                told(one.first_votes, 3),
                told(one.naive, 3),
            ]
        )
    heads = (
        "users",
        "canaries",
        "rolled back",
        "promoted",
        "margin, points",
        "one sequence over first votes",
        "one over all votes",
    )
    return table(heads, rows)


def worse_table(results: Results) -> str:
    """Versions that are worse, Markdown."""
    rows = []
    for users, versions in results.items():
        for name, one in versions.items():
            if name != AS_GOOD:
                until = [
                    _quartiles(some, digits) for some, digits in ((one.interactions, 0), (one.users, 0), (one.days, 1))
                ]
                rows.append([f"{users:,}", name, str(one.back.n), told(one.back), *until, told(one.promoted)])
    heads = (
        "users",
        "challenger",
        "canaries",
        "rolled back",
        "its interactions until then",
        "its users",
        "days",
        "promoted",
    )
    return table(heads, rows)


def _quartiles(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    low, middle, high = (f"{one:,.{digits}f}" for one in values)
    return f"{middle} ({low}, {high})"


def draw(results: Results, outcomes: Mapping[int, Mapping[str, Sequence[Outcome]]]) -> None:
    drawn, (left, right) = drawing(2)
    points = [name for name in VERSIONS if VERSIONS[name].errors == ERRORS]
    for (users, versions), colour in zip(results.items(), COLOURS, strict=False):
        xs = [100 * VERSIONS[name].worse for name in points]
        band(left, xs, [versions[name].back for name in points], f"{users:,} users", colour)
    left.axhline(CROWDS[0].settings.alpha, color="grey", linewidth=1, linestyle=":")
    left.set(xlabel="points of thumbs up fewer", ylabel="rolled back", ylim=(0, 1.02))
    left.legend()
    most = max(outcomes)
    for name, colour in zip(points[1:], COLOURS[3:], strict=False):
        ended = sorted(one.interactions for one in outcomes[most][name] if one.act == "roll_back")
        total = len(outcomes[most][name])
        right.step(
            [1, *ended],
            [0, *((place + 1) / total for place in range(len(ended)))],
            where="post",
            color=colour,
            label=name,
        )
    right.set(xscale="log", xlabel=f"interactions with the challenger, {most:,} users", ylim=(0, 1.02))
    right.legend(loc="upper left")
    write_drawing(NAME, drawn)


Plan = tuple[Crowd, str, int]


def plans(options: Options) -> list[Plan]:
    """Crowds, names of versions, and how many canaries of each."""
    less = 10 if options.quick else 1
    return [
        (crowd, name, options.seeds * max(1, (crowd.null if name == AS_GOOD else crowd.worse) // less))
        for crowd in (CROWDS[:1] if options.quick else CROWDS)
        for name in VERSIONS
    ]


def experiment(options: Options) -> None:
    outcomes: dict[int, dict[str, list[Outcome]]] = {}
    planned = plans(options)
    with progress("canaries", sum(count for *_, count in planned)) as done:
        for crowd, name, count in planned:
            outcomes.setdefault(crowd.users, {})[name] = canaries(crowd, VERSIONS[name], range(count), done)
    publish(outcomes, options.write)


def publish(outcomes: Mapping[int, Mapping[str, Sequence[Outcome]]], write: bool) -> None:
    """outcomes: by users and version."""
    results = {users: {name: summed(some) for name, some in of.items()} for users, of in outcomes.items()}
    print(f"{null_table(results)}\n\n{worse_table(results)}")
    if write:
        write_results(
            NAME, {str(users): {name: one.__dict__ for name, one in of.items()} for users, of in results.items()}
        )
        draw(results, outcomes)
        write_section(NAME, "Rollback: versions that are worse, and versions that are not", section(results))


def section(results: Results) -> str:
    """For training/README.md."""
    null = results[CROWDS[0].users][AS_GOOD]
    return (
        "Simulated canaries of the release code itself (`make experiment-rollback`): groups, counts and decisions are "
        "`gateway/release`'s, ramp (1, 5, 25, 95 %) and watch included, and it looks "
        f"whenever a count has changed (with 4,000 and 20,000 users: every {CROWDS[1].every} and {CROWDS[2].every} "
        "changes). People have a taste (sd 1.2 log-odds) around 60 % thumbs up, ask "
        "once a day on average, log-normally unlike each other (sd 1.3), and vote on 16 % of the answers. Each canary "
        "has people and a draw of its own. Alpha is 0.05 for the whole canary; intervals are Wilson's, 95 %, over "
        f"canaries; quartiles after medians.\n\n![rolled back](experiments/results/{NAME}.png)\n\n"
        f"**As good as the champion** (A/A).\n\n{null_table(results)}\n\n"
        f"Of {null.back.n:,} canaries with {CROWDS[0].users} users {round(null.back.value * null.back.n)} were rolled "
        "back without a reason: well below alpha, since the stages' and signals' parts are added up although hardly "
        "anything happens in most. The last two columns are no part of the release code: one sequence at the whole "
        "alpha over the stage of 25 %, once with each user's first vote, once with every vote as if it were another "
        "person's, which rolls back far more often than it says.\n\n"
        f"**Worse.** Median (quartiles) of those that were rolled back.\n\n{worse_table(results)}\n\n"
        "What a small service cannot see it cannot be told: with 400 users a stage of 25 % has about 50 voters with "
        "the challenger, and one vote each. Most worse versions then expire at their stage, which is no harm to the "
        "others: they are not promoted. A margin of 2 points, the default, takes about 30,000 voters in that stage; "
        "here each size of service has the margin that suits it. The versions of the row whose points are the margin "
        "are those that alpha is about: promoted at most one time in twenty. What is not in it: people who leave, "
        "seasons, votes that come late, versions that only some people dislike."
    )


if __name__ == "__main__":
    run(experiment, __doc__)
