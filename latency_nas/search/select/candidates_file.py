"""Candidates files: many architectures as Parquet, a column for each choice.

The columns of choices have the names of the choices. They hold indices of candidates (any type of integers) or names of
candidates (strings or a dictionary). Other columns are carried along. See ``docs/candidates-file.md``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from latency_nas.errors import SearchError
from latency_nas.search.plan.many import Rows, check_rows
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.row_sums import index_dtype
from latency_nas.table.whole_file import whole_file

__all__ = ["candidates_files", "check_columns", "opened", "read_candidates", "rows_of_batch", "write_candidates"]

_BUFFER = 1 << 20  # bytes of each column that are read at once
_MAX_LISTED = 5


def read_candidates(path: str | os.PathLike[str], plan: CostPlan) -> Rows:
    """Read the architectures of a candidates file or a folder of them.

    Args:
        path: Parquet file, or folder of Parquet files, which are read in the order of their names.
        plan: Plan that names choices and candidates.

    Returns:
        Indices of candidates, of shape ``(architectures, choices)``, of the smallest type of unsigned integers.

    Raises:
        SearchError: if a file is no Parquet file, or lacks a choice, or a value is no candidate.
    """
    rows = [np.empty((0, len(plan.choices)), index_dtype(plan))]
    for file in candidates_files(path):
        with opened(file) as parquet:
            check_columns(parquet.schema_arrow, plan, file)
            rows += [
                rows_of_batch(batch, plan, file)
                for batch in parquet.iter_batches(columns=list(dict.fromkeys(plan.choices)))
            ]
    return np.concatenate(rows)


def write_candidates(path: str | os.PathLike[str], plan: CostPlan, rows: ArrayLike | Iterator[Rows]) -> None:
    """Write architectures as a candidates file of indices.

    Args:
        path: Parquet file to write.
        plan: Plan that names the choices.
        rows: Indices of candidates, of any type of integers, of shape ``(architectures, choices)``; or an iterator of
            such arrays, each of which becomes a row group.

    Raises:
        SearchError: if the rows have another shape or type, or an index is no candidate.
    """
    dtype = index_dtype(plan)
    schema = pa.schema([(name, pa.from_numpy_dtype(dtype)) for name in plan.choices])
    with whole_file(Path(path)) as partial, pq.ParquetWriter(partial, schema) as writer:
        for part in rows if isinstance(rows, Iterator) else (rows,):
            columns = check_rows(plan, part).astype(dtype, copy=False).T
            writer.write_table(pa.table(list(map(np.ascontiguousarray, columns)), schema=schema))


def candidates_files(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The Parquet files of a folder in the order of their names, or the one file.

    Raises:
        SearchError: if a folder has none.
    """
    source = Path(path)
    if not source.is_dir():
        return (source,)
    found = tuple(sorted(source.glob("*.parquet")))
    if not found:
        raise SearchError(f"Expected a folder with Parquet files, but {source} has no file *.parquet.")
    return found


@contextmanager
def opened(file: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file that is read column by column in small pieces.

    Raises:
        SearchError: if it is damaged or no Parquet file.
    """
    try:
        with pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as parquet:
            yield parquet
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise SearchError(f"Expected {file} to be a Parquet file, but reading it fails: {error}") from error


def check_columns(schema: pa.Schema, plan: CostPlan, file: Path) -> None:
    """Refuse a file that lacks a column, or whose columns hold neither integers nor names.

    Raises:
        SearchError: in these cases; it names file and column.
    """
    missing = [name for name in plan.choices if len(schema.get_all_field_indices(name)) != 1]
    if missing:
        more = f" and {len(missing) - _MAX_LISTED} more" if len(missing) > _MAX_LISTED else ""
        names = ", ".join(f"`{name}`" for name in missing[:_MAX_LISTED])
        raise SearchError(f"Expected one column for each choice in {file}, but {names}{more} have none or several.")
    for name in plan.choices:
        kind = schema.field(name).type
        if not (pa.types.is_integer(kind) or _has_names(kind)):
            raise SearchError(
                f"Expected indices (integers) or names of candidates (strings) in column `{name}` of {file}, but got "
                f"{kind}."
            )


def rows_of_batch(batch: pa.RecordBatch, plan: CostPlan, file: Path) -> Rows:
    """The architectures of a part of a file, whose columns were checked.

    Args:
        batch: Part of the file, with the columns of all choices.
        plan: Plan that names choices and candidates.
        file: Name of the file, for messages.

    Returns:
        Indices of candidates, of shape ``(architectures, choices)``, of the smallest type of unsigned integers.

    Raises:
        SearchError: if a value is missing or no candidate; it names file, column and value.
    """
    rows = np.empty((batch.num_rows, len(plan.choices)), index_dtype(plan))
    for number, (name, candidates) in enumerate(zip(plan.choices, plan.candidates, strict=True)):
        column = batch.column(batch.schema.get_field_index(name))
        if column.null_count:
            raise SearchError(f"Expected a candidate in each row of column `{name}` of {file}, but a value is missing.")
        rows[:, number] = (_from_names if _has_names(column.type) else _from_indices)(column, candidates, name, file)
    return rows


def _has_names(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _from_indices(column: pa.Array, candidates: tuple[str, ...], name: str, file: Path) -> NDArray[Any]:
    indices = np.asarray(column)
    if len(indices) and (indices.max() >= len(candidates) or indices.min() < 0):
        wrong = indices[(indices < 0) | (indices >= len(candidates))][0]
        raise SearchError(
            f"Expected indices from 0 to {len(candidates) - 1} in column `{name}` of {file}, but got {wrong}."
        )
    return indices


def _from_names(column: pa.Array, candidates: tuple[str, ...], name: str, file: Path) -> NDArray[Any]:
    import pyarrow.compute as pc  # only where needed: it imports all of pyarrow's functions

    names = column.dictionary if pa.types.is_dictionary(column.type) else column
    indices = pc.fill_null(pc.index_in(names, value_set=pa.array(candidates, names.type)), len(candidates))
    found = np.asarray(indices)
    if names is not column:
        found = found[np.asarray(column.indices)]
    if len(found) and found.max() == len(candidates):
        wrong = column[int(np.argmax(found))].as_py()
        raise SearchError(
            f"Expected names of the candidates {', '.join(candidates)} in column `{name}` of {file}, but got {wrong!r}."
        )
    return found
