"""Rows as Parquet and back. The only module that imports pyarrow.

A part holds each entry as it was (`entry`, `version`, `record`: the record as compact JSON, zstd-compressed) and, for
filters, columns of what is in it. What cannot be read has empty columns.
"""

from collections.abc import Container, Iterator, Sequence
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from gateway.log.archive.parts import Row
from gateway.log.frames import Kind

ROWS_PER_GROUP = 500
ArrowException = pa.ArrowException
_STORED = ["entry", "version", "record"]


class _Columns(msgspec.Struct):
    """id: the record's. created: seconds since 1970."""

    id: str | None = None
    created: float | None = None
    tenant: str = "default"
    user: str | None = None


class _Interaction(_Columns):
    model: str | None = None
    profile: str | None = None
    policy: str | None = None
    strategy: str | None = None
    outcome: str | None = None
    reward_model: str | None = None
    endpoint: str = "chat"


class _Feedback(_Columns):
    interaction: str | None = None
    # `kind` is the partition's.
    feedback_kind: str | None = msgspec.field(default=None, name="kind")
    retracted: bool = False


class _Shadow(_Columns):
    interaction: str | None = None
    scorer: str | None = None


_COLUMNS: dict[Kind, type[_Columns]] = {
    Kind.INTERACTION: _Interaction,
    Kind.FEEDBACK: _Feedback,
    Kind.SHADOW: _Shadow,
}
_TYPES = {"created": pa.timestamp("us", tz="UTC"), "retracted": pa.bool_()}
# The column that names the interaction.
ABOUT = {Kind.INTERACTION: "id", Kind.FEEDBACK: "interaction", Kind.SHADOW: "interaction"}


def encode(kind: Kind, rows: Sequence[Row]) -> bytes:
    """A whole part."""
    facts = [_facts(kind, row) for row in rows]
    columns: dict[str, Any] = {
        "entry": pa.array([row.entry for row in rows], pa.string()),
        "version": pa.array([row.version for row in rows], pa.int32()),
    }
    for name in msgspec.structs.fields(_COLUMNS[kind]):
        values = [getattr(one, name.name) if one else None for one in facts]
        if name.name == "created":
            values = [_microseconds(value) for value in values]
        columns[name.name] = pa.array(values, _TYPES.get(name.name, pa.string()))
    columns["record"] = pa.array([row.data for row in rows], pa.large_binary())
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table(columns),
        sink,
        compression="zstd",
        row_group_size=ROWS_PER_GROUP,
        use_dictionary=[name for name in columns if name not in ("entry", "id", "record")],
        # Statistics of the record's text would be a copy of the text.
        write_statistics=[name for name in columns if name != "record"],
    )
    return bytes(sink.getvalue())


def count(file: BinaryIO) -> int:
    """How many rows a part has."""
    return int(pq.ParquetFile(file).metadata.num_rows)


def rows(file: BinaryIO, *, newest_first: bool = False) -> Iterator[Row]:
    """A part's rows in their order or the other way round, a group of them in memory at a time."""
    parquet = pq.ParquetFile(file)
    groups = range(parquet.metadata.num_row_groups)
    for group in reversed(groups) if newest_first else groups:
        found = _rows(parquet.read_row_group(group, columns=_STORED))
        yield from reversed(found) if newest_first else found


def rows_about(file: BinaryIO, kind: Kind, interactions: Container[str], least: str, most: str) -> list[Row]:
    """The rows about some interactions. least, most: the first and last of these in the order of text."""
    parquet = pq.ParquetFile(file)
    about = ABOUT[kind]
    column = parquet.schema_arrow.get_field_index(about)
    found: list[Row] = []
    for group in range(parquet.metadata.num_row_groups):
        statistics = parquet.metadata.row_group(group).column(column).statistics
        if statistics is not None and statistics.has_min_max and (statistics.max < least or statistics.min > most):
            continue
        named = parquet.read_row_group(group, columns=[about]).column(about).to_pylist()
        wanted = [index for index, value in enumerate(named) if value is not None and value in interactions]
        if wanted:
            found += _rows(parquet.read_row_group(group, columns=_STORED).take(wanted))
    return found


def _rows(table: Any) -> list[Row]:
    columns = [table.column(name).to_pylist() for name in _STORED]
    return [Row(entry, version, data) for entry, version, data in zip(*columns, strict=True)]


def _facts(kind: Kind, row: Row) -> _Columns | None:
    try:
        return msgspec.json.decode(row.data, type=_COLUMNS[kind])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None or not 0 <= seconds < 253_402_300_800 else round(seconds * 1e6)
