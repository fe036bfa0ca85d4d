"""Plots as SVG text, to be put into a page that needs no network."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["layers_figure", "scatter_figure", "search_figure"]

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "latency_nas",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_BLUE, _ORANGE, _GREY = "#2563eb", "#ea580c", "#6b7280"


def _svg(figure: Figure) -> str:
    """The figure's ``<svg>`` element, without the XML prolog that HTML does not want."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def search_figure(history: Sequence[Mapping[str, float]], target_ms: float) -> str:
    """Expected and argmax latency over the epochs, with the target.

    Args:
        history: one mapping an epoch, as `LatencyCallback.history` has them.
        target_ms: drawn as a line.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.2))
        axes = figure.subplots()
        epochs = [row["epoch"] for row in history]
        axes.plot(epochs, [row["latency/expected_ms"] for row in history], color=_BLUE, label="expected")
        axes.plot(
            epochs,
            [row["latency/argmax_ms"] for row in history],
            color=_ORANGE,
            linewidth=1,
            label="likeliest architecture",
        )
        axes.axhline(target_ms, color=_GREY, linestyle="--", linewidth=1, label="target")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("latency (ms)")
        axes.legend(frameon=False)
        return _svg(figure)


def layers_figure(costs_ms: Mapping[str, float]) -> str:
    """The cost of each layer, as bars in the order in which the layers run."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 0.22 * len(costs_ms) + 0.8))
        axes = figure.subplots()
        axes.barh(list(costs_ms), list(costs_ms.values()), color=_BLUE, height=0.7)
        axes.margins(y=0.01)
        axes.invert_yaxis()
        axes.set_xlabel("latency (ms)")
        return _svg(figure)


def scatter_figure(predicted_ms: Sequence[float], measured_ms: Sequence[float]) -> str:
    """Predicted against measured latency, with the line of equality."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.6, 3.2))
        axes = figure.subplots()
        ends = [min(*predicted_ms, *measured_ms), max(*predicted_ms, *measured_ms)]
        axes.plot(ends, ends, color=_GREY, linestyle="--", linewidth=1)
        axes.scatter(measured_ms, predicted_ms, s=14, color=_BLUE)
        axes.set_xlabel("measured (ms)")
        axes.set_ylabel("predicted (ms)")
        return _svg(figure)
