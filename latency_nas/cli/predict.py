"""``latency-nas predict``: the latency of a model by a table, kernel by kernel."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from latency_nas.graph.input_shapes import parse_input_shapes

if TYPE_CHECKING:
    from latency_nas.engine.lowered import Lowered
    from latency_nas.estimate import Estimate
    from latency_nas.table import LatencyTable

__all__ = ["predict"]

_PIPED = 240  # width of the output, in characters, where it goes to a file or another program


def predict(
    model: Annotated[str, typer.Argument(help="A file .onnx, .mnn, .pdmodel or .json, or package.module:callable.")],
    table: Annotated[str, typer.Option("--table", "-t", help="The name or the file of a latency table.")],
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            help="Shape of the model's input: 1,3,224,224. Needed for torch and for open sizes. Repeated for the "
            "inputs of an ONNX model: image=1,3,224,224, and rate= for a scalar."
        ),
    ] = None,
    on_missing: Annotated[
        str,
        typer.Option(help="Kernels that the table lacks: error, regress, or warn (leaves out what it cannot price)."),
    ] = "",
    kernels: Annotated[
        str,
        typer.Option(
            metavar="rules|engine",
            help="Kernels by the engine's rules, or as the engine itself runs the file. By default the engine's, where "
            "it is installed here in the table's version.",
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Predict the latency of a model, in milliseconds with one standard deviation."""
    from latency_nas.estimate import LatencyEstimator

    estimator = LatencyEstimator(table, on_missing=on_missing or None)  # type: ignore[arg-type]
    lowered = estimator.lower(model, input_shape=parse_input_shapes(input_shape or ()), kernels=kernels or None)  # type: ignore[arg-type]
    estimate = estimator.price_networks(lowered.networks)
    if as_json:
        typer.echo(json.dumps(_plain(model, estimate, estimator.table, lowered), indent=2))
        return
    from latency_nas.report.text import kernel_table

    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED)
    console.print(kernel_table(estimate))
    console.print(f"{model} by {estimator.table.name} ({estimator.table.datasheet}):", markup=False, soft_wrap=True)
    console.print(
        f"{estimate.figure()}, coverage {estimate.coverage:.1%} of {len(estimate.kernels)} kernels", highlight=False
    )
    console.print(str(lowered), markup=False, highlight=False, soft_wrap=True)


def _plain(model: str, estimate: Estimate, table: LatencyTable, lowered: Lowered) -> dict[str, Any]:
    """An estimate as plain data for JSON."""
    kernels = [
        {"kernel": item.kernel.key, "layer": item.layer, "latency_ms": item.latency_ms, "std_ms": item.std_ms,
         "source": item.source, "extrapolated": item.extrapolated}
        for item in estimate.kernels
    ]  # fmt: skip
    return {
        "model": model,
        "latency_ms": estimate.latency_ms,
        "std_ms": estimate.std_ms,
        "low_ms": estimate.low,
        "conditions": estimate.conditions,
        "coverage": estimate.coverage,
        "sources": estimate.sources,
        "table": {"name": table.name, "fingerprint": table.fingerprint(), "datasheet": table.datasheet.to_dict()},
        "lowered": lowered.to_dict(),
        "kernels": kernels,
    }
