"""Compares two tables, and merges tables that were made under the same conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import hypot

from latency_nas.errors import TableError
from latency_nas.kernel import Kernel
from latency_nas.table.datasheet import Datasheet
from latency_nas.table.latency_table import Entry, LatencyTable

__all__ = ["TableDiff", "diff_tables", "merge_tables"]

# fields of a datasheet that may differ between tables to merge: they describe the occasion, not the conditions
_OCCASION = frozenset({
    "date", "sources", "licence", "expected_error", "expected_error_method", "error_90", "yardstick_ms", "notes",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDiff:
    """Differences between a first and a second table.

    Args:
        fields: Fields of the datasheet that differ, name -> the two values.
        only_first: Kernels that only the first table has.
        only_second: Kernels that only the second table has.
        ratios: Kernels of both tables -> the second's latency divided by the first's.
    """

    fields: Mapping[str, tuple[object, object]]
    only_first: tuple[Kernel, ...]
    only_second: tuple[Kernel, ...]
    ratios: Mapping[Kernel, float]


def _different_fields(first: Datasheet, second: Datasheet) -> dict[str, tuple[object, object]]:
    pairs = {field.name: (getattr(first, field.name), getattr(second, field.name)) for field in fields(Datasheet)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def diff_tables(first: LatencyTable, second: LatencyTable) -> TableDiff:
    """Compare any two tables."""
    mine, theirs = first.entries, second.entries
    both = [key for key in mine if key in theirs]
    return TableDiff(
        fields=_different_fields(first.datasheet, second.datasheet),
        only_first=tuple(Kernel.parse(key) for key in mine if key not in theirs),
        only_second=tuple(Kernel.parse(key) for key in theirs if key not in mine),
        ratios={Kernel.parse(key): theirs[key].latency_ms / mine[key].latency_ms for key in both},
    )


def merge_tables(tables: Sequence[LatencyTable]) -> LatencyTable:
    """Merge tables that were made under the same conditions.

    All times are converted to the machine speed of the first table: those of another are multiplied by the ratio of the
    two yardsticks. A kernel in several tables gets the mean of its times, weighted by the numbers of samples.

    Raises:
        TableError: if there are no tables, or their datasheets differ in a condition. The message names the field.
    """
    if not tables:
        raise TableError("Expected at least one table to merge, but got none.")
    first = tables[0]
    entries = dict(first.entries)
    for table in tables[1:]:
        _check_like(first, table)
        units = first.datasheet.yardstick_ms, table.datasheet.yardstick_ms
        factor = units[0] / units[1] if units[0] and units[1] else 1.0
        for key, row in table.entries.items():
            scaled = replace(row, latency_ms=row.latency_ms * factor, std_ms=row.std_ms and row.std_ms * factor)
            entries[key] = _mean(entries[key], scaled) if key in entries else scaled
    sheets = [table.datasheet for table in tables]
    datasheet = replace(
        first.datasheet,
        date=max(sheet.date for sheet in sheets),
        sources=tuple(dict.fromkeys(source for sheet in sheets for source in sheet.sources)),
        expected_error=None,
        expected_error_method="",
        error_90=None,
        notes=f"merged from {len(tables)} tables: " + "; ".join(sheet.notes or "no notes" for sheet in sheets),
    )
    return LatencyTable(entries, datasheet, f"{first.name} and {len(tables) - 1} more")


def _check_like(first: LatencyTable, other: LatencyTable) -> None:
    different = {
        name: pair
        for name, pair in _different_fields(first.datasheet, other.datasheet).items()
        if name not in _OCCASION
    }
    if different:
        name, (mine, theirs) = next(iter(different.items()))
        more = f" (and so do {', '.join(list(different)[1:])})" if len(different) > 1 else ""
        raise TableError(
            f"Expected tables of the same conditions, but `{name}` is {mine!r} in {first.name} and {theirs!r} in "
            f"{other.name}{more}: times of unlike conditions are not joined."
        )


def _mean(one: Entry, other: Entry) -> Entry:
    """The mean of two rows. Its deviation covers the rows' own and half of the distance between them."""
    weights = max(1, one.n_samples), max(1, other.n_samples)
    share = weights[0] / sum(weights)
    mean_ms = share * one.latency_ms + (1 - share) * other.latency_ms
    stds = [row.std_ms for row in (one, other) if row.std_ms is not None]
    spread = max(stds) if stds else None
    apart = abs(one.latency_ms - other.latency_ms) / 2
    return Entry(
        latency_ms=mean_ms,
        std_ms=None if spread is None else hypot(spread, apart),
        n_samples=one.n_samples + other.n_samples,
    )
