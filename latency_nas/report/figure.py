"""Plots as SVG text. A page that contains them needs no other file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from latency_nas.errors import MissingExtraError

try:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise MissingExtraError("Plots need matplotlib: pip install 'latency-nas[report]'") from error

from latency_nas.kernel import LATENCY, Quantity
from latency_nas.search.select.distribution import Distribution

__all__ = ["distribution_figure", "layers_figure", "scatter_figure", "search_figure"]

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "latency_nas",  # a fixed salt: the same data give the same text
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_BINS = 80  # intervals of a histogram
_BLUE, _ORANGE, _GREY = "#2563eb", "#ea580c", "#6b7280"


def _svg(figure: Figure) -> str:
    """The figure's ``<svg>`` element, without the XML prolog, which is not allowed inside HTML."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _axis(quantity: Quantity) -> str:
    return f"{quantity.name} ({quantity.unit})"


def search_figure(history: Sequence[Mapping[str, float]], target: float, quantity: Quantity = LATENCY) -> str:
    """Plot the expected and the argmax cost over the epochs, with the target.

    Args:
        history: Logged figures of each epoch, as in `LatencyCallback.history`.
        target: Target cost, drawn as a horizontal line.
        quantity: What the costs measure or count, and its unit.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.2))
        axes = figure.subplots()
        epochs = [row["epoch"] for row in history]
        axes.plot(
            epochs, [row[f"latency/expected_{quantity.suffix}"] for row in history], color=_BLUE, label="expected"
        )
        axes.plot(
            epochs,
            [row[f"latency/argmax_{quantity.suffix}"] for row in history],
            color=_ORANGE,
            linewidth=1,
            label="most probable architecture",
        )
        axes.axhline(target, color=_GREY, linestyle="--", linewidth=1, label="target")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(_axis(quantity))
        axes.legend(frameon=False)
        return _svg(figure)


def layers_figure(costs: Mapping[str, float], quantity: Quantity = LATENCY) -> str:
    """Plot the cost of each layer as a bar, in the order in which the layers run."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 0.22 * len(costs) + 0.8))
        axes = figure.subplots()
        axes.barh(list(costs), list(costs.values()), color=_BLUE, height=0.7)
        axes.margins(y=0.01)
        axes.invert_yaxis()
        axes.set_xlabel(_axis(quantity))
        return _svg(figure)


def scatter_figure(predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> str:
    """Plot predicted against measured latencies, with the line of equality."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.6, 3.2))
        axes = figure.subplots()
        ends = [min(*predicted_ms, *measured_ms), max(*predicted_ms, *measured_ms)]
        axes.plot(ends, ends, color=_GREY, linestyle="--", linewidth=1)
        axes.scatter(measured_ms, predicted_ms, s=14, color=_BLUE)
        axes.set_xlabel("measured (ms)")
        axes.set_ylabel("predicted (ms)")
        return _svg(figure)


def distribution_figure(distribution: Distribution, limits: Sequence[float] = ()) -> str:
    """Plot how the architectures of a space are distributed over their costs, with the limits of budgets.

    Args:
        distribution: Distribution of the cost.
        limits: Costs, drawn as vertical lines.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.2))
        axes = figure.subplots()
        edges, shares = distribution.histogram(_BINS)
        axes.stairs(100 * shares, edges, fill=True, color=_BLUE)
        for limit in limits:
            axes.axvline(limit, color=_GREY, linestyle="--", linewidth=1)
        axes.set_xlabel(_axis(distribution.quantity))
        axes.set_ylabel("architectures (%)")
        return _svg(figure)
