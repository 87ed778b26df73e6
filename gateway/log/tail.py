"""Interactions and feedback as lines for a terminal, or as JSON.

Everything that users and models wrote is untrusted: escape sequences, control and bidirectional-override characters
are taken out, and nothing is ever read as markup. The functions are pure; `commands` prints.
"""

import json
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.text import Text

from gateway.comparison.pick import picked
from gateway.log.records import CandidateRecord, Feedback, Interaction, Message, Session, Verdict
from scorers.calibration.thresholds import Share

TEXT_WIDTH = 72
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # control sequences: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # strings: titles, links, clipboard
    r"|\x1b[ -/]*[0-~]?"
)
_JOINERS = "\u200c\u200d"  # Written languages and emoji need these two of the invisible characters.
_UNSHOWN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def clean(text: str) -> str:
    """One line, without anything that could move a cursor, set a colour or reorder what is shown."""
    spaced = re.sub(r"\s+", " ", _ESCAPE.sub("", text))
    return "".join(char for char in spaced if char in _JOINERS or unicodedata.category(char) not in _UNSHOWN).strip()


def shorten(text: str, width: int = TEXT_WIDTH) -> str:
    """`clean`, cut to `width` characters."""
    # Cut before cleaning too: an answer may be megabytes long.
    line = clean(text[: width * 20])
    return line if len(line) <= width else line[: width - 1] + "…"


def interaction_text(interaction: Interaction, feedback: Sequence[Feedback]) -> Text:
    """Several lines: what was asked, each candidate with its scores, what people said."""
    lines = [_headline(interaction), _facts(interaction), _prompt_line(interaction)]
    lines += [_candidate_line(candidate, interaction) for candidate in interaction.candidates]
    lines += [Text("  ").append_text(feedback_text(vote)) for vote in feedback]
    return Text("\n").join(lines)


def session_text(session: Session) -> Text:
    """One line: whose conversation it is, how long, and when."""
    text = Text("session ").append(clean(session.id or "without a name"), style="bold")
    text.append(f"  tenant {clean(session.tenant)}  {len(session.interactions)} interactions")
    if session.users:
        text.append(f"  by {', '.join(shorten(user, 40) for user in session.users)}")
    return text.append(f"  {clock(session.first)} to {clock(session.last)}")


def feedback_text(vote: Feedback) -> Text:
    """One vote: symbol or kind with value, who, comment and tags."""
    text = Text(_symbol(vote), style="bold")
    if vote.candidate is not None:
        over = f" over {vote.over}" if vote.over is not None else ""
        text.append(f" candidate {vote.candidate}{over}")
    if vote.user:
        text.append(f" by {shorten(vote.user, 40)}")
    if vote.tags:
        text.append(f" [{', '.join(shorten(tag, 24) for tag in vote.tags)}]")
    if vote.comment:
        text.append(f' "{shorten(vote.comment)}"')
    return text.append(" (retracted)", style="dim") if vote.retracted else text


def comparisons_line(interactions: Sequence[Interaction], feedback: Sequence[Feedback]) -> str | None:
    """How many were shown, and what was picked by its place; None where there are none of either.

    The order is drawn, so the first is picked in half of the cases, but for chance, unless the place itself decides.
    """
    asked = sum(one.comparison is not None for one in interactions)
    latest = {(vote.interaction, vote.vote_key): vote for vote in sorted(feedback, key=lambda vote: vote.id)}
    picks = Counter(picked(vote) for vote in latest.values() if not vote.retracted)
    if not asked and not picks.keys() - {None}:
        return None
    told = f"{asked} shown; picked first {picks['first']}, second {picks['second']}, tie {picks['tie']}"
    told += f", both bad {picks['both_bad']}"
    decided = picks["first"] + picks["second"]
    return f"{told}; first in {Share(picks['first'], decided)}" if decided else told


def late_feedback_text(vote: Feedback) -> Text:
    """A vote on an interaction that was printed before."""
    text = Text(f"{clock(vote.created)}  ").append(clean(vote.interaction), style="bold").append("  feedback: ")
    return text.append_text(feedback_text(vote))


def as_json(interaction: Interaction, feedback: Sequence[Feedback]) -> str:
    """One line: {"interaction": {...}, "feedback": [...]}."""
    return _json({"interaction": msgspec.to_builtins(interaction), "feedback": msgspec.to_builtins(list(feedback))})


def late_feedback_json(vote: Feedback) -> str:
    """The same shape as `as_json`; of the interaction only its id."""
    return _json({"interaction": {"id": vote.interaction}, "feedback": [msgspec.to_builtins(vote)]})


def _json(value: Any) -> str:
    line = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return "".join(char if char.isprintable() or char in _JOINERS else json.dumps(char)[1:-1] for char in line)


def _headline(interaction: Interaction) -> Text:
    text = Text(clock(interaction.created) + "  ").append(clean(interaction.id), style="bold")
    text.append(
        f"  {clean(interaction.model)}  profile {clean(interaction.profile)}  policy {clean(interaction.policy)}"
    )
    style = {"delivered": "green", "failed": "red"}.get(interaction.outcome, "yellow")
    text.append("  ").append(interaction.outcome, style=style)
    if interaction.degraded:
        text.append("  ").append(f"degraded: {clean(interaction.degraded)}", style="yellow")
    if interaction.error:
        text.append("  ").append(f"{interaction.status} {shorten(interaction.error)}", style="red")
    return text


def _facts(interaction: Interaction) -> Text:
    times, usage = interaction.timings, interaction.usage
    parts = [
        f"{interaction.strategy}, {len(interaction.candidates)} candidates",
        f"{usage.prompt_tokens} + {usage.completion_tokens} tokens ({usage.sampled_tokens} sampled)",
        f"{times.total_ms:.0f} ms (guard {times.guard_ms:.0f}, sampling {times.sampling_ms:.0f}, "
        f"scoring tail {times.scoring_tail_ms:.0f}, overhead {times.overhead_ms:.1f})",
    ]
    if interaction.reward_model:
        parts.append(f"reward {interaction.reward_model}")
    if interaction.comparison:
        parts.append("compared " + " with ".join(f"#{index}" for index in interaction.comparison.shown))
    return Text("  " + clean("; ".join(parts)), style="dim")


def _prompt_line(interaction: Interaction) -> Text:
    users = [message for message in interaction.messages if message.get("role") == "user"]
    asked = _content(users[-1]) if users else ""
    text = Text("  asked: ").append(shorten(asked))
    if interaction.prompt_verdict is not None and interaction.prompt_verdict.flagged:
        text.append("  ").append(_safety(interaction.prompt_verdict), style="red")
    return text


def _candidate_line(candidate: CandidateRecord, interaction: Interaction) -> Text:
    chosen = candidate is interaction.winner
    reward = f"{candidate.reward:+.3f}" if candidate.reward is not None else "no reward"
    text = Text("  > " if chosen else "    ", style="bold" if chosen else "")
    text.append(f"#{candidate.index:<3} {reward:>9}  ")
    second = candidate.second_check
    verdict = second if second is not None and (second.flagged or second.error) else candidate.verdict
    flagged = verdict is not None and bool(verdict.flagged or verdict.error)
    text.append(f"{_safety(verdict):<10}", style="red" if flagged else "")
    text.append(f" {candidate.completion_tokens:>4} tokens  ")
    return text.append(shorten(_content(candidate.message)))


def _safety(verdict: Verdict | None) -> str:
    if verdict is None:
        return "unchecked"
    if verdict.error:
        return f"unchecked: {shorten(verdict.error, 40)}"
    if verdict.flagged:
        return "unsafe: " + ", ".join(shorten(name, 32) for name in verdict.flagged)
    return "safe"


def _content(message: Message) -> str:
    """A message's text: of content parts the text ones, of an answer without content its tool calls' names."""
    content = message.get("content")
    if isinstance(content, str) and content:
        return content
    if isinstance(content, list):
        return " ".join(str(part.get("text") or f"({part.get('type')})") for part in content if isinstance(part, dict))
    calls = [call for call in message.get("tool_calls") or [] if isinstance(call, dict)]
    return " ".join(f"(calls {(call.get('function') or {}).get('name')})" for call in calls)


def _symbol(vote: Feedback) -> str:
    if vote.kind == "thumbs":
        return "👍" if vote.value else "👎"
    return f"{vote.kind}: {shorten(str(vote.value))}" if vote.value is not None else vote.kind


def clock(seconds: float) -> str:
    """Seconds since 1970 as a time of day here."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
