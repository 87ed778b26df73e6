"""Encoded rows as Parquet: what goes into a job."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from training.jobs import tables
from training.jobs.contract import Input
from training.reward.encoding import EncodedRow

_COLUMNS: dict[str, tables.Column] = {
    "chosen_ids": "ids",
    "rejected_ids": "ids",
    "margin": "float32",
    "label": "bool",
    "weight": "float64",
}


def write_rows(job: Path, name: str, rows: Iterable[EncodedRow]) -> Input:
    """Writes inputs/NAME.parquet of the job."""
    return tables.write_rows(job, name, rows, _COLUMNS)


def read_rows(path: Path) -> list[EncodedRow]:
    return tables.read_rows(path, EncodedRow)


def counts(rows: Iterable[EncodedRow]) -> dict[str, int]:
    """How many there are of each kind."""
    kinds = Counter({"pairs": 0, "thumbs up": 0, "thumbs down": 0})
    kinds.update("pairs" if row.label is None else "thumbs up" if row.label else "thumbs down" for row in rows)
    return dict(kinds)
