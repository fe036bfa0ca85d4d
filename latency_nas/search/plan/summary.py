"""A table of one architecture by stage and choice: what each candidate costs, beside the cheapest and the dearest."""

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
from latency_nas.search.plan.terms import cells

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Column", "as_text", "summary_table"]

_WIDTH = 200  # characters of a line


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What a summary says of one target.

    Args:
        plan: Plan that says what candidates cost.
        expected: Expected cost at the gates; None without gates.
        target: Cost to reach; None without a target.
    """

    plan: CostPlan
    expected: float | None = None
    target: float | None = None


def summary_table(
    columns: Mapping[str, Column], architecture: Mapping[str, int], probabilities: Sequence[float] | None = None
) -> Table:
    """A table with a row for each choice: its candidate, the cost, the cheapest and the dearest candidate, the share.

    The cost of a candidate is that of all kernels that depend on it, with the other choices as in the architecture. A
    kernel that depends on several choices counts in equal parts for the share of each, so that the shares sum to 100 %.

    Args:
        columns: Columns by the names of their targets; the name of a single one is empty.
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
            cells = [cell for name in columns for cell in details[name].stage_cells([row for row, _ in members])]
            table.add_row(stage, f"{len(members)} choices", *([""] if probabilities else []), *cells, style="bold")
        for row, choice in members:
            candidate = _short(first.candidates[row][architecture[choice]], choice)
            probability = [f"{probabilities[row]:.1%}"] if probabilities else []
            cells = [cell for name in columns for cell in details[name].cells(row)]
            table.add_row(choice, candidate, *probability, *cells)
    table.add_section()
    blank = [""] * (2 if probabilities else 1)
    table.add_row("whatever is chosen", *blank, *(cell for item in details.values() for cell in item.fixed()))
    table.add_row(
        "in all", *blank, *(cell for item in details.values() for cell in (item.number(item.total), "", "", ""))
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
    """What each candidate costs while the other choices keep theirs."""

    plan: CostPlan
    picks: list[int]
    costs: list[list[float]]  # of each choice's candidates
    shares: list[float]  # of each choice in the total
    total: float

    def number(self, value: float) -> str:
        quantity = self.plan.quantity
        return f"{value:,.4g}" if quantity.n_decimals else quantity.number(value)

    def cells(self, row: int) -> list[str]:
        costs, names, choice = self.costs[row], self.plan.candidates[row], self.plan.choices[row]
        extremes = [int(np.argmin(costs)), int(np.argmax(costs))]
        return [
            self.number(costs[self.picks[row]]),
            *(f"{self.number(costs[index])} ({_short(names[index], choice)})" for index in extremes),
            f"{self.shares[row]:.1%}",
        ]

    def stage_cells(self, rows: Sequence[int]) -> list[str]:
        """The share of a stage, without costs: those of its choices overlap where a kernel depends on several."""
        return ["", "", "", f"{sum(self.shares[row] for row in rows):.1%}"]

    def fixed(self) -> list[str]:
        return [
            self.number(self.plan.fixed.value),
            "",
            "",
            f"{self.plan.fixed.value / self.total:.1%}" if self.total else "",
        ]


def _details(plan: CostPlan, architecture: Mapping[str, int]) -> _Details:
    gates = plan.one_hot(architecture)
    slopes = np.split(plan.gradient(gates), plan.offsets[1:-1])
    picks = [architecture[choice] for choice in plan.choices]
    own = [costs[pick].value for costs, pick in zip(plan.costs, picks, strict=True)]
    for term in plan.terms:
        if all(gates[list(group)].any() for group in term.groups):
            for row in cells(term, plan.offsets)[0]:
                own[row] += term.cost.value / len(term.groups)
    total = plan.cost(architecture)
    shares = [cost / total if total else 0.0 for cost in own]
    return _Details(plan=plan, picks=picks, costs=[row.tolist() for row in slopes], shares=shares, total=total)


def _stage(choice: str) -> str:
    """A choice's name without its last number: ``blocks`` for ``blocks.3``, ``stages.1.ops`` for ``stages.1.ops.0``."""
    return re.sub(r"[.\[]?\d+\]?[^\d]*$", "", choice) or choice


def _short(candidate: str, choice: str) -> str:
    return candidate.removeprefix(f"{choice}.")


def as_text(table: Table) -> str:
    """The table as plain text."""
    from rich.console import Console

    output = StringIO()
    Console(file=output, width=_WIDTH).print(table)
    return output.getvalue()
