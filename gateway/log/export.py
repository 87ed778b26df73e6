"""Interactions as rows for training and analysis, in Hugging Face's chat format, to JSONL or Parquet.

A row is an interaction that delivered an answer: `messages` is the conversation with the delivered answer at its end,
as `datasets` and TRL read it; beside it what scored it and what people said. In Parquet all rows have the same columns,
so content that is not text, tool calls and scores are JSON there.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from gateway.log.records import Feedback, Interaction, Message

_FIELDS = ("role", "content", "reasoning", "name", "tool_calls", "tool_call_id")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which interactions to export; None: all. since, until: when they were made, the latter not included."""

    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None
    tenant: str | None = None

    def day(self, day: date) -> bool:
        """Whether any of a day's (UTC) may be wanted."""
        if self.since is not None and day < self.since.astimezone(UTC).date():
            return False
        return self.until is None or day <= self.until.astimezone(UTC).date()

    def takes(self, record: Interaction) -> bool:
        made = datetime.fromtimestamp(record.created, UTC)
        return (
            (self.since is None or made >= self.since)
            and (self.until is None or made < self.until)
            and self.model in (None, record.model)
            and self.tenant in (None, record.tenant)
        )


class RowWriter(Protocol):
    def write(self, rows: Sequence[dict[str, Any]]) -> None: ...

    def close(self) -> None: ...


def moment(text: str) -> datetime:
    """A day or a time as ISO 8601 writes it, UTC where no zone is given. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def row(record: Interaction, votes: Sequence[Feedback]) -> dict[str, Any] | None:
    """None where no answer was delivered."""
    answer = next((one for one in record.candidates if one.index == record.chosen), None)
    if answer is None:
        return None
    return {
        "id": record.id,
        "created": datetime.fromtimestamp(record.created, UTC).isoformat(),
        "tenant": record.tenant,
        "model": record.model,
        "profile": record.profile,
        "policy": record.policy,
        "reward_model": record.reward_model,
        "messages": [*record.messages, answer.message],
        "reward": answer.reward,
        "propensity": answer.propensity,
        "scores": {name: score.value for name, score in answer.scores.items()},
        "votes": [_vote(vote) for vote in votes],
    }


def open_writer(path: Path) -> RowWriter:
    """By the file's ending. Raises ValueError for one that is neither .jsonl nor .parquet, ImportError, OSError."""
    if path.suffix == ".jsonl":
        return JsonLines(path)
    if path.suffix == ".parquet":
        return ParquetRows(path)
    raise ValueError(f"{path} must end in .jsonl or .parquet, which says what to write")


class JsonLines:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        for one in rows:
            self._file.write(json.dumps(one, ensure_ascii=False, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._file.close()


class ParquetRows:
    def __init__(self, path: Path) -> None:
        import pyarrow as pa  # noqa: PLC0415  # 0.3 s
        import pyarrow.parquet as pq  # noqa: PLC0415

        text, number = pa.string(), pa.float64()
        vote = {
            "kind": text,
            "value": text,
            "candidate": pa.int32(),
            "over": pa.int32(),
            "tags": pa.list_(text),
            "comment": text,
            "created": text,
        }
        names = ("id", "created", "tenant", "model", "profile", "policy", "reward_model")
        columns = dict.fromkeys(names, text) | {
            "messages": pa.list_(pa.struct(dict.fromkeys(_FIELDS, text))),
            "reward": number,
            "propensity": number,
            "scores": text,
            "votes": pa.list_(pa.struct(vote)),
        }
        self._from_rows: Callable[[list[dict[str, Any]]], Any] = lambda rows: pa.Table.from_pylist(
            rows, schema=pa.schema(columns)
        )
        self._writer = pq.ParquetWriter(path, pa.schema(columns), compression="zstd")

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            self._writer.write_table(self._from_rows([_flat(one) for one in rows]))

    def close(self) -> None:
        self._writer.close()


def _vote(vote: Feedback) -> dict[str, Any]:
    """Without who said it."""
    return {
        "kind": vote.kind,
        "value": vote.value,
        "candidate": vote.candidate,
        "over": vote.over,
        "tags": vote.tags,
        "comment": vote.comment,
        "created": datetime.fromtimestamp(vote.created, UTC).isoformat(),
    }


def _flat(one: dict[str, Any]) -> dict[str, Any]:
    messages = [_flat_message(message) for message in one["messages"]]
    votes = [{**vote, "value": _text(vote["value"])} for vote in one["votes"]]
    return {**one, "messages": messages, "scores": _text(one["scores"]), "votes": votes}


def _flat_message(message: Message) -> dict[str, str | None]:
    return {name: _text(message.get(name)) for name in _FIELDS}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()
