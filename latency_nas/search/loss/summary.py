"""The table at the end of a search: what was chosen, how surely, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO

from rich.console import Console
from rich.table import Table

from latency_nas.search.loss.latency_term import LatencyTerm
from latency_nas.search.loss.targets import Targets

__all__ = ["as_text", "summary_table"]


def summary_table(loss: LatencyTerm | Targets) -> Table:
    """A row a choice: its candidate, the probability of that, and its cost by each target; then the sums."""
    losses: Mapping[str, LatencyTerm] = loss.by_name() if isinstance(loss, Targets) else {"": loss}
    first = next(iter(losses.values()))
    probabilities = first.gates().detach().max(dim=1).values.tolist()
    columns = [f"{name} ({item.quantity.unit})" if name else item.quantity.unit for name, item in losses.items()]
    table = Table("choice", "candidate", "probability", *columns, title="The likeliest architecture")
    architecture = first.architecture()
    for row, (name, index) in enumerate(architecture.items()):
        costs = [_figure(item, item.plan.costs[item.plan.choices.index(name)][index].value) for item in losses.values()]
        table.add_row(name, first.plan.candidates[row][index], f"{probabilities[row]:.1%}", *costs)
    table.add_section()
    for label, figures in (
        ("in all, fixed part included", [item.argmax_cost() for item in losses.values()]),
        ("expected", [float(item.expected().detach()) for item in losses.values()]),
        ("target", [item.target for item in losses.values()]),
    ):
        table.add_row(label, "", "", *map(_figure, losses.values(), figures))
    return table


def _figure(loss: LatencyTerm, value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:,.4g}" if loss.quantity.n_decimals else loss.quantity.number(value)


def as_text(table: Table) -> str:
    """The table as plain text."""
    output = StringIO()
    Console(file=output, width=100).print(table)
    return output.getvalue()
