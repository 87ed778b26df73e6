"""Rows of token ids as Parquet: what goes into a job."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from training.data.places import sha256_of
from training.jobs.contract import Input

# ruff: noqa: PLC0415  # pyarrow: 0.3 s

_ROWS_AT_ONCE = 4096

Column = Literal["ids", "float32", "float64", "bool", "string"]
R = TypeVar("R", bound=NamedTuple)


def write_rows(job: Path, name: str, rows: Iterable[NamedTuple], columns: dict[str, Column]) -> Input:
    """Writes inputs/NAME.parquet of the job, a few thousand rows in memory at a time. columns: the rows' fields."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    types = {"ids": arrow.list_(arrow.int32()), "bool": arrow.bool_(), "string": arrow.string()}
    types |= {"float32": arrow.float32(), "float64": arrow.float64()}
    schema = arrow.schema([(column, types[kind]) for column, kind in columns.items()])
    path = job / "inputs" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for some in _in_parts(rows):
            count += len(some)
            writer.write_table(arrow.Table.from_pylist([row._asdict() for row in some], schema))
    return Input(f"inputs/{name}.parquet", sha256_of(path), count)


def read_rows(path: Path, kind: type[R]) -> list[R]:
    """All rows; their ids as arrays of four bytes an id, since lists of Python's integers would take ten times that."""
    import pyarrow.parquet as parquet

    rows: list[R] = []
    for batch in parquet.ParquetFile(path).iter_batches(_ROWS_AT_ONCE):
        columns: dict[str, list[Any]] = {name: _values(batch.column(name)) for name in batch.schema.names}
        rows += map(kind, *(columns[name] for name in kind._fields))
    return rows


def _values(column: Any) -> list[Any]:
    from pyarrow.types import is_list

    if not is_list(column.type):
        values: list[Any] = column.to_pylist()
        return values
    ids, offsets = column.values.to_numpy(), column.offsets.to_numpy()
    valid = column.is_valid().to_pylist()
    return [ids[offsets[at] : offsets[at + 1]] if known else None for at, known in enumerate(valid)]


def _in_parts(rows: Iterable[NamedTuple]) -> Iterable[list[NamedTuple]]:
    part: list[NamedTuple] = []
    for row in rows:
        part.append(row)
        if len(part) == _ROWS_AT_ONCE:
            yield part
            part = []
    if part:
        yield part
