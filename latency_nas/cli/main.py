"""``latency-nas``: all commands, and the form in which errors are printed."""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer
from rich.console import Console

import latency_nas
from latency_nas.cli import measure, space, table, tables
from latency_nas.cli.calibrate import calibrate
from latency_nas.cli.filter import filter_candidates, sample
from latency_nas.cli.predict import predict
from latency_nas.errors import LatencyNASError

__all__ = ["app", "main"]

app = typer.Typer(
    name="latency-nas",
    help="Latency-aware neural architecture search: tables, estimates, and networks that keep to a budget.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("tables")(tables.list_tables)
app.command("predict")(predict)
app.command("calibrate")(calibrate)
app.command("measure")(measure.measure)
app.command("filter")(filter_candidates)
app.command("sample")(sample)
app.add_typer(space.app)
app.add_typer(table.app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"latency-nas {latency_nas.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. An error of this library or of a file gives one message, and exit status 1."""
    gc.set_threshold(100_000, 20, 50)  # most objects are those of imports, in which there is no garbage to look for
    try:
        app()
    except (LatencyNASError, OSError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {type(error).__name__}: ", end="")
        Console(stderr=True, markup=False, highlight=False, soft_wrap=True).print(str(error))
        sys.exit(1)
