"""A plan at one architecture, by stage and choice: what was chosen, and what else there was."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from latency_nas.graph.restored import restored
from latency_nas.search.plan.plan import CostPlan

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Column", "as_text", "summary_table"]

_WIDTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One target of a summary.

    Args:
        plan: Plan that says what candidates cost.
        expected: Expected cost at the gates; None where there are none.
        target: Cost to reach; None where there is none.
    """

    plan: CostPlan
    expected: float | None = None
    target: float | None = None


def summary_table(
    columns: Mapping[str, Column], architecture: Mapping[str, int], probabilities: Sequence[float] | None = None
) -> Table:
    """A row a choice: its candidate, what it costs, the cheapest and the dearest one in its place, and its share.

    Costs of a candidate are those of all kernels that depend on it, with the other choices as in the architecture. A
    kernel that depends on several choices counts in equal parts for the share of each, so that shares sum to 100 %.

    Args:
        columns: Plans by the names of their targets; a single one has no name.
        architecture: Choice -> the index of its candidate.
        probabilities: Probability of each choice's candidate, in the order of the choices.
    """
    with restored(()):  # rich draws a random number when it is imported
        from rich.table import Table
    first = next(iter(columns.values())).plan
    heads = [f"{name} ({column.plan.quantity.unit})" if name else column.plan.quantity.unit
             for name, column in columns.items()]  # fmt: skip
    headings = [text for head in heads for text in (head, "cheapest", "dearest", "share")]
    table = Table("choice", "candidate", *(["probability"] if probabilities else []), *headings)
    table.title = "The most probable architecture" if probabilities else "The architecture"
    details = {name: _details(column.plan, architecture) for name, column in columns.items()}
    rows = list(enumerate(first.choices))
    for stage, group in groupby(rows, key=lambda row: _stage(row[1])):
        members = list(group)
        if len(members) > 1 and len(members) < len(rows):
            table.add_section()
            cells = [cell for name in columns for cell in details[name].total([row for row, _ in members])]
            table.add_row(stage, f"{len(members)} choices", *([""] if probabilities else []), *cells, style="bold")
        for row, choice in members:
            candidate = _short(first.candidates[row][architecture[choice]], choice)
            sure = [f"{probabilities[row]:.1%}"] if probabilities else []
            table.add_row(choice, candidate, *sure, *(cell for name in columns for cell in details[name].cells(row)))
    table.add_section()
    blank = [""] * (2 if probabilities else 1)
    table.add_row("whatever is chosen", *blank, *(cell for item in details.values() for cell in item.fixed()))
    table.add_row(
        "in all", *blank, *(cell for item in details.values() for cell in (item.number(item.all), "", "", ""))
    )
    for label in ("expected", "target"):
        values = [getattr(column, label) for column in columns.values()]
        if any(value is not None for value in values):
            texts = ["none" if value is None else item.number(value)
                     for value, item in zip(values, details.values(), strict=True)]  # fmt: skip
            table.add_row(label, *blank, *(cell for text in texts for cell in (text, "", "", "")))
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class _Details:
    """What the candidates of each choice cost beside the chosen ones of the others."""

    plan: CostPlan
    picks: list[int]
    costs: list[list[float]]
    shares: list[float]
    all: float

    def number(self, value: float) -> str:
        quantity = self.plan.quantity
        return f"{value:,.4g}" if quantity.n_decimals else quantity.number(value)

    def cells(self, row: int) -> list[str]:
        costs, names, choice = self.costs[row], self.plan.candidates[row], self.plan.choices[row]
        ends = [int(np.argmin(costs)), int(np.argmax(costs))]
        return [
            self.number(costs[self.picks[row]]),
            *(f"{self.number(costs[index])} ({_short(names[index], choice)})" for index in ends),
            f"{self.shares[row]:.1%}",
        ]

    def total(self, rows: Sequence[int]) -> list[str]:
        """The share of a stage: costs of its choices overlap where a kernel depends on several."""
        return ["", "", "", f"{sum(self.shares[row] for row in rows):.1%}"]

    def fixed(self) -> list[str]:
        return [
            self.number(self.plan.fixed.value),
            "",
            "",
            f"{self.plan.fixed.value / self.all:.1%}" if self.all else "",
        ]


def _details(plan: CostPlan, architecture: Mapping[str, int]) -> _Details:
    gates = plan.one_hot(architecture)
    slopes = np.split(plan.gradient(gates), plan.offsets[1:-1])
    picks = [architecture[choice] for choice in plan.choices]
    own = [costs[pick].value for costs, pick in zip(plan.costs, picks, strict=True)]
    for term in plan.terms:
        if all(gates[index] for index in term.candidates):
            for row in np.searchsorted(plan.offsets, term.candidates, side="right") - 1:
                own[row] += term.cost.value / len(term.candidates)
    total = plan.cost(architecture)
    shares = [cost / total if total else 0.0 for cost in own]
    return _Details(plan=plan, picks=picks, costs=[row.tolist() for row in slopes], shares=shares, all=total)


def _stage(choice: str) -> str:
    """``blocks`` of ``blocks.3``, ``stages.1.ops`` of ``stages.1.ops.0``: the name without what numbers it last."""
    return re.sub(r"[.\[]?\d+\]?[^\d]*$", "", choice) or choice


def _short(candidate: str, choice: str) -> str:
    return candidate.removeprefix(f"{choice}.")


def as_text(table: Table) -> str:
    """The table as plain text."""
    from rich.console import Console

    output = StringIO()
    Console(file=output, width=_WIDTH).print(table)
    return output.getvalue()
