"""``latency-nas table``: build, describe, compare, merge, import and export latency tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from latency_nas.cli.options import named_values
from latency_nas.cli.table_runs import runs
from latency_nas.table import BlockTable, LatencyTable, load_table, save_table

__all__ = ["app"]

app = typer.Typer(name="table", help="Latency tables as files.", no_args_is_help=True)
app.command("runs")(runs)

_File = Annotated[str, typer.Argument(help="A table's file, or the name of a named table.")]
_Output = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]
_Format = Annotated[str, typer.Option("--format", help="Format of the file, where suffix and content do not show it.")]
_Options = Annotated[
    list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="Option of the format. Can be repeated.")
]
_Fit = Annotated[bool, typer.Option(help="Fit the regressor now and keep it beside the table.")]


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _save(table: LatencyTable, output: Path, fit: bool) -> None:
    """Write a table, with the fitted forms of its regressor beside it."""
    if fit:
        from latency_nas.estimate.regressor.fit_cache import cache_folder
        from latency_nas.estimate.regressor.regressor import with_fitted_forms

        table = with_fitted_forms(table, cache=cache_folder())
    save_table(table, output)


@app.command("fit")
def fit(
    table: _File,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the table to this file, too.")] = None,
) -> None:
    """Fit a table's regressor in advance. The fitted forms are kept beside the table in NAME.forms.npz."""
    found = load_table(table)
    target = output or Path(found.name)
    _save(found, target, fit=True)
    _console().print(f"{target}: {len(found)} kernels, and the fitted forms of their regressor.", markup=False)


@app.command("build")
def build(
    session: Annotated[Path, typer.Argument(help="A metering session, finished or not.")],
    output: _Output,
    statistic: Annotated[str, typer.Option(help="Statistic of a repetition's runs: median, min or mean.")] = "median",
    fit: _Fit = True,
) -> None:
    """Build a table of all that a session has measured so far."""
    from latency_nas.errors import MeasureError
    from latency_nas.measure.session.result import build_table
    from latency_nas.measure.session.session import Session

    known: dict[str, Literal["median", "min", "mean"]] = {"median": "median", "min": "min", "mean": "mean"}
    if statistic not in known:
        raise MeasureError(f"Expected --statistic to be one of {', '.join(known)}, but got {statistic!r}.")
    with Session.open(session, read_only=True) as opened:
        table = build_table(opened, known[statistic])
    _save(table, output, fit)
    _console().print(f"{output}: {len(table)} kernels. {table.datasheet}\n{table.datasheet.notes}", markup=False)


@app.command("info")
def info(table: _File) -> None:
    """Show a table's datasheet, and its number of kernels of each op, or of blocks of each group."""
    from collections import Counter

    from latency_nas.cli.table_blocks import is_block_table
    from latency_nas.table import load_block_table

    found: LatencyTable | BlockTable
    if is_block_table(table):
        found = load_block_table(table)
        what, counts = "blocks", Counter({group: len(blocks) for group, blocks in found.groups.items()})
    else:
        found = load_table(table)
        what, counts = "kernels", Counter(kernel.op for kernel in found)
    rows = Table("field", "value", box=None, pad_edge=False, show_header=False)
    for name, value in found.datasheet.to_dict().items():
        if value not in ("", None, (), []):
            rows.add_row(name, "; ".join(value) if isinstance(value, tuple | list) else str(value))
    parts = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    rows.add_row(what, f"{len(found)}: {parts}" if parts else str(len(found)))
    _console().print(rows)


@app.command("diff")
def diff(
    first: _File,
    second: _File,
    rows: Annotated[int, typer.Option(min=0, help="Kernels to list; those that differ most come first.")] = 10,
) -> None:
    """Show how a second table differs from a first one: datasheets, kernels, and latencies."""
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
    fit: _Fit = True,
) -> None:
    """Merge tables that were made under the same conditions. Others are refused."""
    from latency_nas.table.comparison import merge_tables

    merged = merge_tables([load_table(name) for name in tables])
    _save(merged, output, fit)
    _console().print(f"{output}: {len(merged)} kernels. {merged.datasheet}", markup=False)


@app.command("formats")
def formats() -> None:
    """List the formats in which tables are read and written, with their options.

    Formats of blocks are read by load_block_table and `table import`, those of networks by `table runs`.
    """
    from latency_nas.table import table_formats

    rows = Table("name", "suffixes", "", "what it is, and its options", box=None, pad_edge=False)
    for name, found in table_formats().items():
        rows.add_row(name, " ".join(found.suffixes), found.uses, escape(found.title))
        for option, meaning in {**found.read_options, **found.write_options}.items():
            rows.add_row("", "", "", escape(f"  {option}: {meaning}"))
    _console().print(rows)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A table in any format that `latency-nas table formats` lists.")],
    output: _Output,
    file_format: _Format = "",
    device: Annotated[str, typer.Option(help="The device's name, where the file does not state it.")] = "",
    engine: Annotated[str, typer.Option(help="The engine, where the file does not state it.")] = "",
    engine_version: Annotated[str, typer.Option(help="The engine's version, where the file does not state it.")] = "",
    soc: Annotated[str, typer.Option(help="The processor, where the file does not state it.")] = "",
    backend: Annotated[str, typer.Option(help="CPU, GPU or other, where the file does not state it.")] = "",
    precision: Annotated[str, typer.Option(help="The precision, such as fp32, where the file does not state it.")] = "",
    threads: Annotated[int, typer.Option(min=0, help="Threads, where the file does not state them.")] = 0,
    batch: Annotated[int, typer.Option(min=0, help="Inputs per run, where the file does not state them.")] = 0,
    unit: Annotated[str, typer.Option(help="Unit of the latencies, ms or us, where the format has none.")] = "",
    option: _Options = None,
    fit: _Fit = True,
) -> None:
    """Convert a table from another format, and report the rows that could not be used.

    A table of kernels becomes NAME.parquet, a table of blocks NAME.json.
    """
    from latency_nas.cli.table_blocks import import_to_json
    from latency_nas.table import import_table
    from latency_nas.table.formats.exchange import format_of

    stated = {
        "device": device, "engine": engine, "engine_version": engine_version, "soc": soc, "backend": backend,
        "precision": precision, "threads": threads, "batch": batch, "unit": unit,
    }  # fmt: skip
    options = {**{name: value for name, value in stated.items() if value}, **named_values(option)}
    found = format_of(file, file_format or None)
    if found.read_blocks is not None:
        import_to_json(file, found, output, options)
        return
    table, report = import_table(file, file_format=found, **options)
    _save(table, output, fit)
    _console().print(f"{output}: {len(table)} kernels. {table.datasheet}", markup=False)
    if report:
        _console().print(str(report), markup=False)


@app.command("export")
def export(
    table: _File,
    file: Annotated[Path, typer.Argument(help="The file to write: .csv for a spreadsheet, .pkl for PaddleSlim.")],
    file_format: _Format = "",
    partial: Annotated[bool, typer.Option("--partial", help="Leave out what the format cannot express.")] = False,
    option: _Options = None,
) -> None:
    """Write a table in another format, and report what is lost. CSV has each kernel's FLOPs, parameters and bytes."""
    from latency_nas.table import export_table

    options = {**({"partial": True} if partial else {}), **named_values(option)}
    report = export_table(load_table(table), file, file_format=file_format or None, **options)
    _console().print(str(report), markup=False)
