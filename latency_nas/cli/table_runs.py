"""``latency-nas table runs``: times of whole networks from other tools, for ``latency-nas calibrate``."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latency_nas.cli.options import named_values
from latency_nas.errors import TableError

if TYPE_CHECKING:
    from latency_nas.table import NetworkRun

__all__ = ["runs"]

_COLUMNS = ("model", "input_shape", "latency_ms")


def runs(
    files: Annotated[
        list[Path], typer.Argument(help="perf.yaml of Qualcomm AI Hub Models, one a network, or gt.txt of NNLQP.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The CSV to write, which calibrate reads.")],
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NETWORK=FILE", help="Model file of a network that the runs only name. Can be repeated."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Which runs are meant: device=, runtime=, platform= ..."),
    ] = None,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            help="Shape of the networks' input, or name=shape for each of several, where model files leave it open. "
            "Its first size becomes the batch of a run."
        ),
    ] = None,
    file_format: Annotated[
        str, typer.Option("--format", help="Format of the files, where content does not show it.")
    ] = "",
) -> None:
    """Write the times of whole networks in other tools' files as the CSV that `latency-nas calibrate` reads."""
    from latency_nas.table import read_network_runs

    models, rows, left_out = named_values(model, flag="--model"), [], []
    for file in files:
        found = read_network_runs(file, file_format=file_format or None, **named_values(option))
        left_out += [f"{file}: {row}: {reason}" for row, reason in found.skipped.items()]
        for run in found.runs:
            place = _model_file(file, run, models)
            if place is None:
                left_out.append(f"{file}: {run.network}: no model file; pass --model '{run.network}=FILE'")
            else:
                rows.append((str(place), _shape(place, run, input_shape or ()), repr(run.latency_ms)))
    if not rows:
        raise TableError(f"Expected runs of networks with model files, but there is none: {'; '.join(left_out[:3])}.")
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="", encoding="utf-8") as target:
        csv.writer(target).writerows([_COLUMNS, *rows])
    typer.echo("\n".join([f"{output}: {len(rows)} runs", *(f"not used: {reason}" for reason in left_out)]))


def _model_file(file: Path, run: NetworkRun, models: Mapping[str, str]) -> Path | None:
    """The model file that the user names for a network, or the one beside the file of runs."""
    place = Path(models[run.network]) if run.network in models else file.parent / run.network
    return place if place.is_file() else None


def _shape(place: Path, run: NetworkRun, given: Sequence[str]) -> str:
    """The shapes of the inputs at the batch of the run, for the CSV; nothing where those of the file are meant."""
    from latency_nas.graph.input_shapes import parse_input_shapes

    shapes = parse_input_shapes(given)
    if shapes is None and run.batch == 1:
        return ""
    if shapes is None:
        shapes = _declared(place, run)
    if not isinstance(shapes, Mapping):
        return _at_batch(shapes, run.batch)
    return ";".join(f"{name}={_at_batch(shape, run.batch)}" for name, shape in shapes.items())


def _at_batch(shape: Sequence[int], batch: int) -> str:
    return ",".join(map(str, (batch, *shape[1:]) if shape else ()))


def _declared(place: Path, run: NetworkRun) -> tuple[int, ...]:
    """The input's shape that a model file declares."""
    from latency_nas.graph.reader import read_model

    graph = read_model(place)
    if len(graph.inputs) != 1:
        raise TableError(
            f"Expected --input-shape for each input of {place}, to run it at batch {run.batch}, since it has "
            f"{len(graph.inputs)}."
        )
    return graph.values[graph.inputs[0]].shape
