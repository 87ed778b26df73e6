"""What is set aside, as a table for a person and as JSON for a program. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.table import Table

from gateway.feedback.trust.assess import Assessed
from gateway.feedback.trust.decisions import Decision
from gateway.log.tail import clean, shorten

_DETAIL = 160
_VALUE = 40


def by_subject(quarantined: Iterable[Assessed]) -> dict[str, list[Assessed]]:
    """Votes by whom or what the first reason against them is about; those with the most votes first."""
    groups: dict[str, list[Assessed]] = {}
    for one in quarantined:
        groups.setdefault(one.reasons[0].about, []).append(one)
    return dict(sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])))


def summary(quarantined: Sequence[Assessed]) -> Table:
    """A row for each user, key, address or vote."""
    table = _table("about", "votes", "of", "from", "until", "why")
    for subject, votes in by_subject(quarantined).items():
        times = [one.vote.created for one in votes]
        said = Counter(_said(one) for one in votes)
        table.add_row(
            clean(subject),
            ", ".join(f"{count} {word}" for word, count in said.most_common(3)),
            ", ".join(sorted({clean(one.ballot.model) or "unknown" for one in votes})),
            _moment(min(times)),
            _moment(max(times)),
            "; ".join(_why(votes)),
        )
    return table


def votes_table(quarantined: Sequence[Assessed]) -> Table:
    """A row for each vote."""
    table = _table("vote", "at", "says", "answer", "from", "why")
    for one in quarantined:
        table.add_row(
            f"vote:{clean(one.vote.id)}",
            _moment(one.vote.created),
            _said(one),
            clean(one.vote.interaction),
            clean(one.ballot.voter[1]),
            "; ".join(_why([one])),
        )
    return table


def decisions_table(decisions: Mapping[str, Decision]) -> Table:
    """What operators have decided, the latest first."""
    table = _table("decided on", "verdict", "by", "at", "reason")
    for one in sorted(decisions.values(), key=lambda one: -one.at):
        table.add_row(clean(one.subject), one.verdict, clean(one.by), _moment(one.at), clean(one.reason))
    return table


def as_json(quarantined: Iterable[Assessed], decisions: Mapping[str, Decision]) -> dict[str, Any]:
    return {
        "quarantined": [_vote(one) for one in quarantined],
        "decisions": [msgspec.to_builtins(one) for one in decisions.values()],
    }


def _vote(one: Assessed) -> dict[str, Any]:
    vote = one.vote
    return {
        "vote": vote.id,
        "interaction": vote.interaction,
        "tenant": vote.tenant,
        "model": one.ballot.model or None,
        "kind": vote.kind,
        "value": vote.value,
        "created": vote.created,
        "user": vote.user,
        "key": vote.key,
        "source": vote.source,
        "reasons": [msgspec.to_builtins(reason) for reason in one.reasons],
    }


def _why(votes: Iterable[Assessed]) -> list[str]:
    said = Counter(f"{reason.code}: {shorten(reason.detail, _DETAIL)}" for one in votes for reason in one.reasons)
    return [text for text, _ in said.most_common(4)]


def _said(one: Assessed) -> str:
    vote = one.vote
    if vote.kind == "thumbs":
        return "up" if vote.value else "down"
    return vote.kind if vote.kind in ("correction", "comment") else f"{vote.kind} {shorten(str(vote.value), _VALUE)}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, no_wrap=True)
    return table
