"""``latency-nas tables``: the named tables that there are."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from latency_nas.table import load_table, named_tables

__all__ = ["list_tables"]


def list_tables() -> None:
    """List the named tables, and under what conditions each holds."""
    rows = Table("name", "kernels", "conditions", "expected error", box=None, pad_edge=False)
    for name in sorted(named_tables()):
        table = load_table(name)
        error = table.datasheet.expected_error
        rows.add_row(name, str(len(table)), str(table.datasheet), "unknown" if error is None else f"{error:.1%}")
    Console().print(rows if rows.row_count else "There are no named tables.")
