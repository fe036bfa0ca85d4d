"""``latency-nas tables``: the list of named tables."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from latency_nas.table import load_table, named_tables
from latency_nas.table.download import Download

__all__ = ["list_tables"]


def list_tables() -> None:
    """List the named tables, and the conditions under which each was measured."""
    rows = Table("name", "kernels", "conditions", "expected error", box=None, pad_edge=False)
    for row in _rows():
        rows.add_row(*row)
    Console().print(rows if rows.row_count else "There are no named tables.")


def _rows() -> Iterator[tuple[str, str, str, str]]:
    """A row for each table, with its shortest name. A table on the net is listed without a download."""
    listed = set()
    for name, place in named_tables().items():
        if place in listed:
            continue
        listed.add(place)
        if isinstance(place, Download):
            yield name, "", f"at {place.url}", ""
            continue
        table = load_table(name)
        error, how = table.datasheet.expected_error, table.datasheet.expected_error_method
        expected = "unknown" if error is None else f"{error:.1%}" + (f" ({how})" if how else "")
        yield name, str(len(table)), str(table.datasheet), expected
