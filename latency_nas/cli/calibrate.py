"""``latency-nas calibrate``: adapt a table to another device, by the times of a few networks on it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latency_nas.errors import TableFileError
from latency_nas.graph.input_shapes import parse_input_shapes

if TYPE_CHECKING:
    from latency_nas.estimate.calibration import NetworkTime
    from latency_nas.table import Datasheet

__all__ = ["calibrate"]

_COLUMNS = ("model", "input_shape", "latency_ms")


def calibrate(
    table: Annotated[str, typer.Argument(help="The name or the file of the table to start from.")],
    runs: Annotated[
        Path,
        typer.Argument(
            help="A CSV file with the columns model, input_shape and latency_ms: a file .onnx, .pdmodel or .json, or "
            'package.module:callable; its input as "1,3,224,224", several as "image=1,3,224,224;ids=1,16", or nothing; '
            "and its time on your device."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The table to write, NAME.parquet.")],
    device: Annotated[str, typer.Option(help="The name of your device.")],
    threads: Annotated[int, typer.Option(help="Threads of those runs; 0: as in the table.")] = 0,
    engine: Annotated[str, typer.Option(help="The engine of those runs; the table's by default.")] = "",
    engine_version: Annotated[str, typer.Option(help="Version of that engine.")] = "",
    other_device: Annotated[
        bool, typer.Option("--other-device", help="The runs may be of another device or engine than the table.")
    ] = False,
) -> None:
    """Adapt a table to your device by the times of whole networks. One network suffices; five to ten are better."""
    from latency_nas.estimate import calibration
    from latency_nas.estimate.regressor.fit_cache import cache_folder
    from latency_nas.estimate.regressor.regressor import with_fitted_forms
    from latency_nas.table import load_table, save_table

    source = with_fitted_forms(load_table(table), cache=cache_folder())
    sheet = source.datasheet
    given = {"device": device, "engine": engine or sheet.engine, "engine_version": engine_version}
    result, quality = calibration.calibrate(
        source, _read(runs, sheet), other_device=other_device, threads=threads or sheet.threads, **given
    )
    typer.echo(f"{save_table(result, output)}: {len(result)} kernels. {result.datasheet}")
    typer.echo(f"{quality}.")


def _read(path: Path, sheet: Datasheet) -> list[NetworkTime]:
    """Read a file of runs: the networks that it names, and their times."""
    from latency_nas.engine import read_kernels
    from latency_nas.estimate.calibration import NetworkTime

    if not path.is_file():
        raise FileNotFoundError(f"Expected a file of runs at {path}, but there is no such file.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableFileError(
            f"Expected {path} to be a CSV file with the columns {', '.join(_COLUMNS)}, but it cannot be read as one "
            f"({error})."
        ) from error
    networks = []
    for number, row in enumerate(rows, start=1):
        try:
            model, shape, latency_ms = row["model"], row["input_shape"], float(row["latency_ms"])
        except (KeyError, TypeError, ValueError) as error:
            raise TableFileError(
                f"Expected the columns {', '.join(_COLUMNS)} in {path}, the last a number, but run {number} is {row}."
            ) from error
        shapes = parse_input_shapes(shape.split(";"), f"input_shape of run {number} in {path}")
        calls = read_kernels(model, sheet.engine, target=sheet.target, input_shape=shapes)
        networks.append(NetworkTime(name=model, kernels=calls, latency_ms=latency_ms))
    return networks
