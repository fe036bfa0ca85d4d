"""Filters candidates files that are larger than memory, part by part, and resumes where it was interrupted.

A part is some row groups of a file. What passes is kept in a folder beside the output until all parts are done; then
the output is written at once. A process that is killed leaves the folder, and the same call goes on with what is in it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.candidates_file import candidates_files, check_columns, opened, rows_of_batch
from latency_nas.search.select.outcome import PASSED, UNCERTAIN, BudgetFilter
from latency_nas.search.select.ray_map import mapper
from latency_nas.table.whole_file import whole_file

__all__ = ["OUTCOME", "FilePart", "filter_files", "filter_part", "parts_of"]

OUTCOME = "outcome"  # column of the output that tells passed from uncertain
_NAMES = ("failed", "uncertain", "passed")
_PART_ROWS = 1 << 21
_BATCH_ROWS = 1 << 16
_GROUP_ROWS = 1 << 20  # rows of a row group of the output

Progress = Callable[[int, int], None]  # called with (rows done, rows in all)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """Some row groups of a candidates file.

    Args:
        file: Parquet file.
        row_groups: Numbers of the row groups.
        n_rows: Number of their rows.
    """

    file: Path
    row_groups: tuple[int, ...]
    n_rows: int


def filter_files(
    source: Path,
    budgets: Sequence[Budget],
    *,
    output: Path | None,
    keep_uncertain: bool,
    threads: int,
    ray_address: str | None,
    on_progress: Progress | None,
) -> NDArray[np.int64]:
    """Filter a candidates file or a folder of them.

    Args:
        source: Parquet file or folder.
        budgets: Budgets over the choices that the files have columns for.
        output: Parquet file to write what passed to; None to count only.
        keep_uncertain: Whether what is uncertain is written, too, with a column `outcome`.
        threads: Number of threads.
        ray_address: Address of a Ray cluster that filters instead; its nodes share a file system.
        on_progress: Function that is called with the numbers of rows done and in all.

    Returns:
        Numbers of failed, uncertain and passed candidates.

    Raises:
        SearchError: if a file cannot be used, or `output` was begun with other arguments.
    """
    files = candidates_files(source)
    schema = _common_schema(files, budgets[0].plan, adds_outcome=keep_uncertain and output is not None)
    parts = [part for file in files for part in parts_of(file)]
    packed = BudgetFilter.of(budgets)
    if output is None:
        run = partial(filter_part, packed=packed, target=None, keep_uncertain=False)
        return sum((found for found in _in_order(run, parts, threads, ray_address, on_progress)), _counts([]))
    if output.is_dir() or output.resolve() in {file.resolve() for file in files} or _is_in(output, source):
        raise SearchError(f"Expected `output` to be a file that is none of the candidates', but got {output}.")
    folder = output.with_name(f"{output.name}.parts")
    _begin(folder, _settings(files, budgets, keep_uncertain))
    targets = {part: folder / f"{number:06}" for number, part in enumerate(parts)}
    counts = _counts([])
    with _Assembly(folder / "whole.parquet", _output_schema(schema, keep_uncertain)) as assembly:

        def filter_one(part: FilePart) -> NDArray[np.int64]:
            return filter_part(part, packed, targets[part], keep_uncertain=keep_uncertain)

        for part, found in zip(parts, _in_order(filter_one, parts, threads, ray_address, on_progress), strict=True):
            counts += found
            assembly.add(targets[part].with_suffix(".arrow"))
    (folder / "whole.parquet").replace(output)
    shutil.rmtree(folder)
    return counts


def _is_in(output: Path, source: Path) -> bool:
    return source.is_dir() and source.resolve() in output.resolve().parents


def _in_order(
    run: Callable[[FilePart], NDArray[np.int64]],
    parts: Sequence[FilePart],
    threads: int,
    ray_address: str | None,
    on_progress: Progress | None,
) -> Iterator[NDArray[np.int64]]:
    """The result of each part, in order; threads and tasks are ahead of what the caller does with them."""
    done, total = 0, sum(part.n_rows for part in parts)
    with ThreadPoolExecutor(threads) as pool:
        try:
            for part, found in zip(parts, mapper(ray_address, pool.map)(run, parts), strict=True):
                yield found
                done += part.n_rows
                if on_progress is not None:
                    on_progress(done, total)
        finally:
            pool.shutdown(cancel_futures=True)


def parts_of(file: Path) -> tuple[FilePart, ...]:
    """The parts of a file: consecutive row groups of about two million rows together."""
    with opened(file) as parquet:
        sizes = [parquet.metadata.row_group(number).num_rows for number in range(parquet.metadata.num_row_groups)]
    parts: list[FilePart] = []
    groups: list[int] = []
    for number, _ in enumerate(sizes):
        groups.append(number)
        n_rows = sum(sizes[group] for group in groups)
        if n_rows >= _PART_ROWS or number == len(sizes) - 1:
            parts.append(FilePart(file=file, row_groups=tuple(groups), n_rows=n_rows))
            groups = []
    return tuple(parts)


def filter_part(
    part: FilePart, packed: BudgetFilter, target: Path | None, *, keep_uncertain: bool
) -> NDArray[np.int64]:
    """Filter one part; if it was done before, only its numbers are read.

    Args:
        part: Part of a file.
        packed: Budgets.
        target: Path without suffix for the rows that are kept (``.arrow``) and the numbers (``.json``); None to count
            only.
        keep_uncertain: Whether what is uncertain is kept, too, with a column `outcome`.

    Returns:
        Numbers of failed, uncertain and passed candidates.
    """
    if target is None:
        return sum((_counts(outcomes) for _, outcomes in _batches(part, packed, only_choices=True)), _counts([]))
    record = target.with_suffix(".json")
    if record.exists():
        return np.array(json.loads(record.read_text()), np.int64)
    counts, writer = _counts([]), None
    with whole_file(target.with_suffix(".arrow")) as unfinished, pa.OSFile(str(unfinished), "wb") as sink:
        for batch, outcomes in _batches(part, packed, only_choices=False):
            counts += _counts(outcomes)
            kept = _kept(batch, outcomes, keep_uncertain)
            if writer is None:
                writer = pa.ipc.new_stream(sink, kept.schema)  # not compressed: that would take longer than the rest
            if kept.num_rows:
                writer.write_batch(kept)
        if writer is not None:
            writer.close()
    with whole_file(record) as unfinished:
        unfinished.write_text(json.dumps(counts.tolist()))
    return counts


def _batches(
    part: FilePart, packed: BudgetFilter, *, only_choices: bool
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.uint8]]]:
    columns = list(packed.plan.choices) if only_choices else None
    with opened(part.file) as parquet:
        for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=part.row_groups, columns=columns, use_threads=False):
            yield batch, packed.outcomes(rows_of_batch(batch, packed.plan, part.file))


def _counts(outcomes: Any) -> NDArray[np.int64]:
    return np.bincount(outcomes, minlength=3).astype(np.int64) if len(outcomes) else np.zeros(3, np.int64)


def _kept(batch: pa.RecordBatch, outcomes: NDArray[np.uint8], keep_uncertain: bool) -> pa.RecordBatch:
    if not keep_uncertain:
        return batch.filter(pa.array(outcomes == PASSED))
    names = pa.DictionaryArray.from_arrays(pa.array(outcomes.view(np.int8)), pa.array(_NAMES))
    return batch.append_column(OUTCOME, names).filter(pa.array(outcomes >= UNCERTAIN))


def _output_schema(schema: pa.Schema, keep_uncertain: bool) -> pa.Schema:
    return schema.append(pa.field(OUTCOME, pa.dictionary(pa.int8(), pa.string()))) if keep_uncertain else schema


def _common_schema(files: Sequence[Path], plan: CostPlan, *, adds_outcome: bool) -> pa.Schema:
    """The schema that all files have."""
    schema = None
    for file in files:
        with opened(file) as parquet:
            found = parquet.schema_arrow
        check_columns(found, plan, file)
        if adds_outcome and OUTCOME in found.names:
            raise SearchError(
                f"Expected no column `{OUTCOME}` in {file} where uncertain candidates are kept: rename it."
            )
        if schema is not None and not found.equals(schema):
            raise SearchError(f"Expected files of the same columns and types, but {file} differs from {files[0]}.")
        schema = found
    return schema


# --- resuming


def _settings(files: Sequence[Path], budgets: Sequence[Budget], keep_uncertain: bool) -> dict[str, Any]:
    """What has to be equal for a filter to be resumed."""
    return {
        "files": [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        "budgets": [budget.identity() for budget in budgets],
        "keep_uncertain": keep_uncertain,
        "part_rows": _PART_ROWS,
    }


def _begin(folder: Path, settings: dict[str, Any]) -> None:
    file = folder / "settings.json"
    if file.exists():
        try:
            before = dict(json.loads(file.read_text()))
        except (ValueError, TypeError) as error:
            raise SearchError(
                f"Expected {file} to be of an interrupted filter: delete this folder to begin anew."
            ) from error
        differing = [name for name, value in settings.items() if before.get(name) != value]
        if differing:
            raise SearchError(
                f"Expected the arguments of the interrupted filter in {folder}, but its {' and '.join(differing)} "
                f"differ: delete this folder to begin anew."
            )
        return
    with whole_file(file) as unfinished:
        unfinished.write_text(json.dumps(settings))


class _Assembly:
    """Writes the rows of all parts, in order, as row groups of about a million rows."""

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self._writer, self._schema = pq.ParquetWriter(file, schema), schema
        self._waiting: list[pa.RecordBatch] = []

    def __enter__(self) -> _Assembly:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        self._writer.close()

    def add(self, part: Path) -> None:
        """Append the rows that were kept of a part."""
        with pa.memory_map(str(part)) as source:
            for batch in pa.ipc.open_stream(source) if source.size() else ():
                self._waiting.append(batch)
                if sum(one.num_rows for one in self._waiting) >= _GROUP_ROWS:
                    self._write()

    def _write(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema).unify_dictionaries())
        self._waiting = []
