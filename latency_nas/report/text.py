"""Numbers as text for a terminal."""

from __future__ import annotations

from math import fsum

from rich.markup import escape
from rich.table import Table

from latency_nas.estimate import Estimate, KernelEstimate

__all__ = ["breakdown_table", "kernel_table", "layer_costs"]

_N_DECIMALS = 4


def layer_costs(estimate: Estimate) -> dict[str, float]:
    """The cost of each layer of an estimate, in the estimate's unit, in the order in which the layers run."""
    return {
        layer or "(the network)": fsum(item.value for item in kernels)
        for layer, kernels in estimate.breakdown().items()
    }


def breakdown_table(estimate: Estimate) -> Table:
    """A table of the cost of each layer and of where the numbers are from. Its costs add up to the total."""
    quantity = estimate.quantity
    table = Table("layer", "kernels", quantity.unit, "share", "source")
    for column in table.columns[1:4]:
        column.justify = "right"
    for (layer, cost), kernels in zip(layer_costs(estimate).items(), estimate.breakdown().values(), strict=True):
        sources = ", ".join(sorted({item.source for item in kernels}))
        table.add_row(
            layer,
            str(len(kernels)),
            quantity.number(cost, _N_DECIMALS),
            f"{cost / estimate.value:.1%}",
            sources,
        )
    total = quantity.number(estimate.value, _N_DECIMALS)
    table.add_row("total", str(len(estimate.kernels)), total, "100.0%", estimate.plus_minus(_N_DECIMALS))
    return table


def kernel_table(estimate: Estimate) -> Table:
    """A table of the cost of each kernel, in the order in which they run. Its costs add up to the total."""
    unit, table_share = estimate.quantity.unit, f"{estimate.coverage:.1%} {_origin_of_covered(estimate)}"
    table = Table("kernel", "layer", unit, f"± {unit}", "source", box=None, pad_edge=False)
    for column in table.columns[2:4]:
        column.justify = "right"
    for item in estimate.kernels:
        source = f"{item.source}, extrapolated" if item.extrapolated else item.source
        table.add_row(escape(item.kernel.key), escape(item.layer), *_numbers(item), source)
    table.add_row("total", "", *_numbers(estimate), table_share)
    return table


def _origin_of_covered(estimate: Estimate) -> str:
    """Where the numbers are from that `Estimate.coverage` counts."""
    return "counted" if "counted" in estimate.sources else "from the table"


def _numbers(item: Estimate | KernelEstimate) -> tuple[str, str]:
    """A cost and its standard deviation, as text."""
    number = item.quantity.number
    return number(item.value, _N_DECIMALS), "unknown" if item.std is None else number(item.std, _N_DECIMALS)
