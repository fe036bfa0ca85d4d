"""Numbers as text for a terminal."""

from __future__ import annotations

from math import fsum

from rich.markup import escape
from rich.table import Table

from latency_nas.estimate import Estimate

__all__ = ["breakdown_table", "kernel_table", "layer_costs_ms"]


def layer_costs_ms(estimate: Estimate) -> dict[str, float]:
    """The cost of each layer of an estimate, in the order in which the layers run."""
    return {
        layer or "(the network)": fsum(item.latency_ms for item in kernels)
        for layer, kernels in estimate.breakdown().items()
    }


def breakdown_table(estimate: Estimate) -> Table:
    """The cost of each layer of an estimate, and where the numbers are from. The column adds up to the total."""
    table = Table("layer", "kernels", "ms", "share", "source")
    for column in table.columns[1:4]:
        column.justify = "right"
    costs_ms, layers = layer_costs_ms(estimate), estimate.breakdown().values()
    for (layer, latency_ms), kernels in zip(costs_ms.items(), layers, strict=True):
        sources = ", ".join(sorted({item.source for item in kernels}))
        table.add_row(
            layer,
            str(len(kernels)),
            f"{latency_ms:.4f}",
            f"{latency_ms / estimate.latency_ms:.1%}",
            sources,
        )
    table.add_row("total", str(len(estimate.kernels)), f"{estimate.latency_ms:.4f}", "100.0%", estimate.plus_minus(4))
    return table


def kernel_table(estimate: Estimate) -> Table:
    """The price of each kernel of an estimate, in the order in which they run. The column adds up to the total."""
    table = Table("kernel", "layer", "ms", "± ms", "source", box=None, pad_edge=False)
    for column in table.columns[2:4]:
        column.justify = "right"
    for item in estimate.kernels:
        source = f"{item.source}, extrapolated" if item.extrapolated else item.source
        std = "unknown" if item.std_ms is None else f"{item.std_ms:.4f}"
        table.add_row(escape(item.kernel.key), escape(item.layer), f"{item.latency_ms:.4f}", std, source)
    std = "unknown" if estimate.std_ms is None else f"{estimate.std_ms:.4f}"
    table.add_row("total", "", f"{estimate.latency_ms:.4f}", std, f"{estimate.coverage:.1%} from the table")
    return table
