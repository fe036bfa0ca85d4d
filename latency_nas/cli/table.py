"""``latency-nas table``: build, describe, compare, join and export latency tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from latency_nas.table import load_table, save_table

__all__ = ["app"]

app = typer.Typer(name="table", help="Latency tables as files.", no_args_is_help=True)

_File = Annotated[str, typer.Argument(help="A table's file, or the name of a named table.")]
_Output = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


@app.command("build")
def build(
    session: Annotated[Path, typer.Argument(help="A metering session, finished or not.")],
    output: _Output,
    statistic: Annotated[str, typer.Option(help="Of the runs of a visit: median, min or mean.")] = "median",
) -> None:
    """Make a table of what a session has measured so far."""
    from latency_nas.errors import MeasureError
    from latency_nas.measure.session.result import build_table
    from latency_nas.measure.session.session import Session

    known: dict[str, Literal["median", "min", "mean"]] = {"median": "median", "min": "min", "mean": "mean"}
    if statistic not in known:
        raise MeasureError(f"Expected --statistic to be one of {', '.join(known)}, but got {statistic!r}.")
    with Session.open(session, read_only=True) as opened:
        table = build_table(opened, known[statistic])
    save_table(table, output)
    _console().print(f"{output}: {len(table)} kernels. {table.datasheet}\n{table.datasheet.notes}", markup=False)


@app.command("info")
def info(table: _File) -> None:
    """Show a table's datasheet, and how many kernels of each op it holds."""
    from collections import Counter

    found = load_table(table)
    rows = Table("field", "value", box=None, pad_edge=False, show_header=False)
    for name, value in found.datasheet.to_dict().items():
        if value not in ("", None, (), []):
            rows.add_row(name, "; ".join(value) if isinstance(value, tuple | list) else str(value))
    counts = Counter(kernel.op for kernel in found)
    rows.add_row("kernels", f"{len(found)}: " + ", ".join(f"{count} {op}" for op, count in counts.most_common()))
    _console().print(rows)


@app.command("diff")
def diff(
    first: _File,
    second: _File,
    rows: Annotated[int, typer.Option(min=0, help="Kernels to list, those that differ most first.")] = 10,
) -> None:
    """Show how a second table differs from a first: datasheets, kernels, and latencies."""
    from statistics import median

    from latency_nas.table.comparison import diff_tables

    found, console = diff_tables(load_table(first), load_table(second)), _console()
    for name, (mine, theirs) in found.fields.items():
        console.print(f"{name}: {mine!r} -> {theirs!r}", markup=False)
    console.print(
        f"{len(found.ratios)} kernels in both, {len(found.only_first)} in the first alone, "
        f"{len(found.only_second)} in the second alone"
    )
    if found.ratios:
        console.print(f"the second takes {median(found.ratios.values()):.3f} x the first's time, in the median")
    for kernel, ratio in sorted(found.ratios.items(), key=lambda item: -abs(item[1] - 1))[:rows]:
        console.print(f"{ratio:.3f} x  {kernel}", markup=False)


@app.command("merge")
def merge(
    tables: Annotated[list[str], typer.Argument(help="Tables of the same conditions.")],
    output: _Output,
) -> None:
    """Join tables that were made under the same conditions; unlike ones are refused."""
    from latency_nas.table.comparison import merge_tables

    merged = merge_tables([load_table(name) for name in tables])
    save_table(merged, output)
    _console().print(f"{output}: {len(merged)} kernels. {merged.datasheet}", markup=False)


@app.command("export")
def export(
    table: _File,
    csv: Annotated[Path, typer.Option("--csv", help="The CSV file to write.")],
) -> None:
    """Write a table for a spreadsheet, with each kernel's FLOPs, parameters and bytes."""
    from latency_nas.table.formats.csv_file import export_csv

    found = load_table(table)
    _console().print(f"{export_csv(found, csv)}: {len(found)} kernels", markup=False)
