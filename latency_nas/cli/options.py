"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latency_nas.errors import SearchError

if TYPE_CHECKING:
    from latency_nas.search.select.budget import Budget

__all__ = ["Allow", "Budgets", "EngineName", "parse_budget"]

EngineName = Annotated[str, typer.Option("--engine", help="The engine; by default the first one of the registry.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(metavar="PACKAGE", help="Package whose classes ops may name, too; its code is run. Can be repeated."),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="FILE.npz:max=NUMBER[,min=NUMBER]",
        help="Limits of the cost of another plan, in its unit, such as params.npz:max=3e6. Can be repeated.",
    ),
]


def parse_budget(text: str, confidence: float | None = None) -> Budget:
    """A budget from text such as ``params.npz:max=3e6`` or ``phone.npz:max=20,min=15``.

    Args:
        text: File of a plan, a colon, and an upper limit, a lower limit or both.
        confidence: Probability with which each limit has to be kept; None compares the estimate itself.

    Raises:
        SearchError: if the text has another form, or the limits make no budget.
    """
    from latency_nas.search.plan.plan import CostPlan
    from latency_nas.search.select.budget import Budget

    file, _, limits = text.rpartition(":")
    try:
        parts = [(name.strip(), float(number)) for name, number in (part.split("=") for part in limits.split(","))]
    except ValueError:
        parts = []
    numbers: Mapping[str, float] = dict(parts)
    if not file or not parts or len(numbers) < len(parts) or not numbers.keys() <= {"max", "min"}:
        raise SearchError(f"Expected a budget to be FILE.npz:max=NUMBER[,min=NUMBER], but got `{text}`.")
    plan = CostPlan.load(Path(file))
    return Budget(plan, max_cost=numbers.get("max", inf), min_cost=numbers.get("min", -inf), confidence=confidence)
