"""Rows as Parquet and back. The only module that imports pyarrow.

A part holds each entry as it was (`entry`, `version`, `record`: the record as compact JSON, zstd-compressed) and, for
filters, columns of what is in it. What cannot be read has empty columns.
"""

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from gateway.log.archive.parts import Row
from gateway.log.frames import Kind

ROWS_PER_GROUP = 500
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


class Encoder:
    """A part, written a group of rows at a time, so that none needs more memory than its file."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._sink = pa.BufferOutputStream()
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[Row] = []

    @property
    def size(self) -> int:
        """Bytes so far, without what waits for a whole group."""
        return int(self._sink.tell())

    def add(self, row: Row) -> None:
        self._waiting.append(row)
        if len(self._waiting) >= ROWS_PER_GROUP:
            self._flush()

    def finish(self) -> bytes:
        """The whole part, of at least one row."""
        if self._waiting or self._writer is None:
            self._flush()
        assert self._writer is not None
        self._writer.close()
        return bytes(self._sink.getvalue())

    def _flush(self) -> None:
        table = _table(self._kind, self._waiting)
        self._waiting = []
        if self._writer is None:
            columns = table.column_names
            self._writer = pq.ParquetWriter(
                self._sink,
                table.schema,
                compression="zstd",
                use_dictionary=[name for name in columns if name not in ("entry", "id", "record")],
                # Statistics of the record's text would be a copy of the text.
                write_statistics=[name for name in columns if name != "record"],
            )
        self._writer.write_table(table, row_group_size=ROWS_PER_GROUP)


def encode(kind: Kind, rows: Sequence[Row]) -> bytes:
    """A whole part."""
    encoder = Encoder(kind)
    for row in rows:
        encoder.add(row)
    return encoder.finish()


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """What pyarrow raises of a part becomes an OSError with its name."""
    try:
        yield
    except pa.ArrowException as error:
        raise OSError(f"{name} is damaged: {error}") from error


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


def people(file: BinaryIO, kind: Kind) -> Iterator[tuple[str, str, str | None, float]]:
    """Of each row: the interaction that it is about, its tenant, its user and when it was created (seconds since 1970).

    Rows that cannot be read are left out.
    """
    parquet = pq.ParquetFile(file)
    names = [ABOUT[kind], "tenant", "user", "created"]
    for group in range(parquet.metadata.num_row_groups):
        table = parquet.read_row_group(group, columns=names)
        about, tenants, users = (table.column(name).to_pylist() for name in names[:3])
        created = table.column("created").cast(pa.int64()).to_pylist()
        for interaction, tenant, user, made in zip(about, tenants, users, created, strict=True):
            if interaction is not None:
                yield interaction, tenant, user, (made or 0) / 1e6


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


def _table(kind: Kind, rows: Sequence[Row]) -> Any:
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
    return pa.table(columns)


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
