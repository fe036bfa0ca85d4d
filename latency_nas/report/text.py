"""Numbers as text for a terminal."""

from __future__ import annotations

from math import fsum

from rich.table import Table

from latency_nas.estimate import Estimate

__all__ = ["breakdown_table"]


def breakdown_table(estimate: Estimate) -> Table:
    """The cost of each layer of an estimate, and where the numbers are from. The column adds up to the total."""
    table = Table("layer", "kernels", "ms", "share", "source")
    for column in table.columns[1:4]:
        column.justify = "right"
    for layer, kernels in estimate.breakdown().items():
        latency_ms = fsum(item.latency_ms for item in kernels)
        sources = ", ".join(sorted({item.source for item in kernels}))
        table.add_row(
            layer or "(the network)",
            str(len(kernels)),
            f"{latency_ms:.4f}",
            f"{latency_ms / estimate.latency_ms:.1%}",
            sources,
        )
    table.add_row("total", str(len(estimate.kernels)), f"{estimate.latency_ms:.4f}", "100.0%", estimate.plus_minus(4))
    return table
