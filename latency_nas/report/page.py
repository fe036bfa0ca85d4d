"""The report of a search: one HTML page that contains its plots and needs no network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from latency_nas.estimate.accuracy import Accuracy
from latency_nas.kernel import LATENCY
from latency_nas.report.figure import layers_figure, scatter_figure, search_figure
from latency_nas.report.text import layer_costs
from latency_nas.search.plan.plan import CostPlan
from latency_nas.table import Datasheet, LatencyTable
from latency_nas.verdict.verdict import Verdict

__all__ = ["write_page"]


def write_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    verdict: Verdict,
    plan: CostPlan,
    architecture: Mapping[str, int],
    labels: Mapping[str, Sequence[str]],
    history: Sequence[Mapping[str, float]],
    table: LatencyTable,
    accuracy: Accuracy,
    test_accuracy: float,
    n_test: int,
) -> Path:
    """Write the report of a search as one HTML page.

    Args:
        path: File to write.
        title: Heading of the page.
        verdict: Target, prediction and measurement of the network that was found.
        plan: Cost of each candidate.
        architecture: Index of the chosen candidate, by the name of the choice.
        labels: Short name of each candidate, by the name of the choice.
        history: Logged figures of each epoch of the search.
        table: Latency table that the search used.
        accuracy: Accuracy of the table on networks that were not metered.
        test_accuracy: Accuracy of the network on test images, from 0 to 1.
        n_test: Number of these test images.

    Returns:
        The path of the page.
    """
    rows = [
        {"choice": name, "candidate": labels[name][architecture[name]], "cost_ms": costs[architecture[name]]}
        for name, costs in zip(plan.choices, plan.costs_ms, strict=True)
    ]
    environment = Environment(
        loader=PackageLoader("latency_nas.report", "."), autoescape=True, undefined=StrictUndefined
    )
    text = environment.get_template("page.html.j2").render(
        title=title,
        verdict=verdict,
        plus_minus=LATENCY.plus_minus,
        architecture=rows,
        fixed_ms=plan.fixed_ms,
        total_ms=plan.latency_ms(architecture),
        search_svg=search_figure(history, verdict.target_ms),
        layers_svg=layers_figure(layer_costs(verdict.estimate)),
        scatter_svg=scatter_figure(accuracy.predicted_ms, accuracy.measured_ms),
        accuracy=accuracy,
        datasheet=_rows(table.datasheet),
        test_accuracy=test_accuracy,
        n_test=n_test,
    )
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target


def _rows(datasheet: Datasheet) -> dict[str, str]:
    """The stated fields of a datasheet, as text."""
    rows = {}
    for name, value in datasheet.to_dict().items():
        if value is not False and value not in {"", None, ()}:
            text = "; ".join(value) if isinstance(value, tuple) else str(value)
            rows[name.replace("_", " ")] = f"{value:.2%}" if name in ("expected_error", "error_90") else text
    return rows
