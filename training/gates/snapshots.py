"""G0: whether a snapshot is fit to learn from. Pure, but for reading its rows.

    weight, share     what one person's rows weigh together, and as a share of all
    banned            people whom the defence bans (e-process, phrases, copies) and whose rows are in it all the same
    phrases           what few people's votes favour beyond what a reference model says of the answers (`defence.lift`)
    scope             every row is of the tenant that the snapshot is for, and something says whose models it may train
    personal          texts in which the log's redactors still find something

All but the last are counts of what is there, without error.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from gateway.log.privacy.redactor import Redactor
from training.data.layout import Snapshot
from training.data.rows import SPLITS, Dataset, Demonstration, Message, Preference, Side, Unpaired
from training.defence.defend import Facts
from training.defence.lift import Pushed
from training.defence.votes import VoteOnAnswer
from training.gates.bounds import of_share
from training.gates.checks import BANNED, G0, PERSONAL, PHRASES, SCOPE, SHARE, WEIGHT
from training.gates.saying import counted, held, unmeasured
from training.gates.thresholds import DataThresholds
from training.gates.verdicts import Verdict

_EQUAL_SHARES = 2.0
# A snapshot cuts votes at that share; those that make no rows (comments, ratings in the middle) are not in what is seen
# here, so the shares of rows are a little other ones.
_SLACK = 1.5
_Z = 1.959963984540054


@dataclass(frozen=True)
class Weights:
    """people: weight by hashed user. unnamed: of rows that are nobody's. others: rows of other tenants than the scope.

    users: who is in it.
    """

    people: dict[str, float]
    unnamed: float
    rows: int
    others: int
    users: set[str]


def weights_of(scope: str, sides: Iterable[tuple[Dataset, Side]]) -> Weights:
    """Of the rows that somebody's vote made. One vote can make a row in several datasets, and no model learns from it
    twice, so a person weighs what they do in the dataset where that is most.
    """
    tenant = scope.removeprefix("tenant:") if scope.startswith("tenant:") else None
    weights: dict[str | None, dict[Dataset, list[float]]] = defaultdict(lambda: defaultdict(list))
    users: set[str] = set()
    rows = others = 0
    for dataset, side in sides:
        rows += 1
        others += tenant is not None and side.source != "curated" and side.tenant != tenant
        users.update(side.people)
        weights[side.user][dataset].append(side.weight)
    most = {who: max(math.fsum(own) for own in by.values()) for who, by in weights.items()}
    unnamed = most.pop(None, 0.0)
    return Weights({who: weight for who, weight in most.items() if who is not None}, unnamed, rows, others, users)


def concentration(found: Weights, limits: DataThresholds) -> list[Verdict]:
    """Whether nobody has much to say alone."""
    if not found.people:
        why = "No row says whose vote made it: nothing is known of who has how much to say."
        return [unmeasured(G0, check, why, n=found.rows) for check in (WEIGHT, SHARE)]
    most = max(found.people.values())
    total = math.fsum(found.people.values()) + found.unnamed
    share, limit = most / total if total else 0.0, max(limits.person_share, _EQUAL_SHARES / len(found.people))
    limit = min(1.0, _SLACK * limit)
    count = f"{len(found.people):,} people with {found.rows:,} rows"
    return [
        counted(
            G0,
            WEIGHT,
            most,
            limits.person_weight + 1e-6,
            n=len(found.people),
            reason=f"One person's rows weigh {most:.2f} at most ({count}); {limits.person_weight:g} is allowed.",
        ),
        counted(
            G0,
            SHARE,
            share,
            limit + 1e-9,
            n=len(found.people),
            reason=f"One person has {share:.2%} of the weight at most ({count}); {limit:.2%} is allowed.",
        ),
    ]


def poisoning(
    facts: Facts | None, suspects: Collection[str] | None, found: Weights, limits: DataThresholds
) -> list[Verdict]:
    """facts: of the defence on the snapshot's own votes. suspects: hashed users whom `bestow train defend` found, less
    those whom an operator released. None: nobody looked.
    """
    return [_banned(facts, suspects, found), _phrases(facts, limits)]


def _banned(facts: Facts | None, suspects: Collection[str] | None, found: Weights) -> Verdict:
    if (facts is None or facts.null is None) and suspects is None:
        return unmeasured(G0, BANNED, "Nobody looked: run `bestow train defend --reference MODEL`, or give one here.")
    still = sorted(found.users & set(suspects or ()))
    here = facts.banned if facts is not None and facts.null is not None else 0
    looked = [
        *(["findings of `bestow train defend`"] if suspects is not None else []),
        *([f"the e-process on {facts.scored:,} votes of the snapshot"] if facts and facts.null else []),
    ]
    return counted(
        G0,
        BANNED,
        len(still) + here,
        0,
        n=len(found.users),
        reason=f"{len(still) + here} of {len(found.users):,} people are banned and in it ({' and '.join(looked)}).",
        facts={"of the findings": len(still), "of the snapshot": here},
    )


def z_of_lift(one: Pushed) -> float:
    """The lift in standard errors."""
    half = (one.high - one.low) / 2
    return _Z * one.lift / half if half else math.inf


def _phrases(facts: Facts | None, limits: DataThresholds) -> Verdict:
    if facts is None or facts.null is None:
        scored = facts.scored if facts else 0
        why = (
            f"A reference has said something of {scored} votes: give a model that no vote has taught with --reference."
        )
        return unmeasured(G0, PHRASES, why, n=scored)
    largest = max(facts.phrases, key=z_of_lift, default=None)
    z = z_of_lift(largest) if largest else 0.0
    told = f"{len(facts.phrases)} phrases are favoured by few people"
    reason = f"{told}: {largest.sentence()}; z = {z:.1f}." if largest else f"{told}, of {facts.votes:,} votes."
    return counted(G0, PHRASES, z, limits.lift_z, n=facts.votes, reason=f"{reason} {limits.lift_z:g} is allowed.")


def scope(declared: str, found: Weights) -> Verdict:
    """declared: the manifest's."""
    known = declared == "shared" or (declared.startswith("tenant:") and len(declared) > len("tenant:"))
    bad = found.others if known else found.rows
    reason = (
        f"{found.others:,} of {found.rows:,} rows are of another tenant than its scope, {declared}."
        if known
        else f"The snapshot does not say whose models it may train (scope {declared!r}): make it again."
    )
    return counted(G0, SCOPE, bad if known else max(1, bad), 0, n=found.rows, reason=reason)


def personal(texts: Sequence[str], there_are: int, redactor: Redactor, limits: DataThresholds, alpha: float) -> Verdict:
    """texts: a sample of what is in the rows, or all of it."""
    if redactor.idle:
        return unmeasured(G0, PERSONAL, "No redactor is named: see log.keep.redact.")
    if not texts:
        return unmeasured(G0, PERSONAL, "The snapshot has no texts.")
    kinds: Counter[str] = Counter()
    hits = []
    for text in texts:
        inside = {span.kind for span in redactor.spans(text)}
        kinds.update(inside)
        hits.append(float(bool(inside)))
    share = sum(hits) / len(hits)
    told = ", ".join(f"{kind} in {count}" for kind, count in sorted(kinds.items())) or "nothing found"
    if len(texts) == there_are:
        return counted(
            G0,
            PERSONAL,
            share,
            limits.personal,
            n=len(texts),
            reason=f"{share:.2%} of all {len(texts):,} texts hold personal data ({told}); {limits.personal:.2%} may.",
            facts=dict(kinds),
        )
    return held(
        G0,
        PERSONAL,
        of_share(hits, range(len(hits)), alpha),
        "below",
        limits.personal,
        alpha,
        margin=limits.personal,
        what=f"The share of texts that hold personal data ({told})",
        of="texts",
        tell=lambda value: f"{value:.2%}",
        facts=dict(kinds),
    )


def sides(snapshot: Snapshot) -> Iterator[tuple[Dataset, Side]]:
    """Of all rows that models learn from, with their dataset."""
    for split in SPLITS:
        for pair in snapshot.rows(Preference, split):
            yield "preference", pair.side
        for thumb in snapshot.rows(Unpaired, split):
            yield "unpaired", thumb.side
        for written in snapshot.rows(Demonstration, split):
            yield "demonstration", written.side


def votes(snapshot: Snapshot) -> Iterator[VoteOnAnswer]:
    """The snapshot's rows as the defence reads votes: thumbs, and pairs of which somebody saw both answers."""
    for label in snapshot.rows(Unpaired, "train"):
        if label.side.user is not None:
            yield _vote(label.side, label.prompt, label.completion[-1]["content"], None, 1 if label.label else -1)
    for pair in snapshot.rows(Preference, "train"):
        if pair.side.user is not None and pair.side.source in ("preference", "comparison", "rating"):
            yield _vote(pair.side, pair.prompt, pair.chosen[-1]["content"], pair.rejected[-1]["content"], 1)


def _vote(side: Side, prompt: Sequence[dict[str, str]], answer: str, other: str | None, says: int) -> VoteOnAnswer:
    return VoteOnAnswer(
        id=side.id,
        voter=(side.tenant, f"user:{side.user}"),
        subjects=(f"user:{side.user}",),
        kind="label" if other is None else "pair",
        says=says,
        messages=prompt,
        answer=answer,
        created=side.created or 0.0,
        other=other,
        weight=side.weight,
    )


def texts(snapshot: Snapshot, most: int) -> tuple[list[str], int]:
    """Different texts of the train split: at most so many, always the same; and how many there are."""
    said: Iterator[Message] = chain(
        (one for row in snapshot.rows(Preference, "train") for one in (*row.prompt, *row.chosen, *row.rejected)),
        (one for row in snapshot.rows(Unpaired, "train") for one in (*row.prompt, *row.completion)),
        (one for row in snapshot.rows(Demonstration, "train") for one in (*row.prompt, *row.completion)),
    )
    found = {hashlib.sha256(one["content"].encode("utf-8", "surrogatepass")).digest(): one["content"] for one in said}
    chosen = sorted(found)[:most]
    return [found[digest] for digest in chosen], len(found)
