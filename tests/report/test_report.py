"""Reports: the columns add up, and the figures show what they were given."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from latency_nas.estimate import Estimate, LatencyEstimator
from latency_nas.kernel import QUANTITIES
from latency_nas.report.figure import distribution_figure, layers_figure, scatter_figure, search_figure
from latency_nas.report.page import _rows
from latency_nas.report.progress import progress_bar
from latency_nas.report.text import breakdown_table
from latency_nas.search.select.space_distribution import distribution_of
from latency_nas.table import Datasheet
from tests.estimate.test_estimator import table_of
from tests.networks import ResNet18
from tests.random_plans import random_plan


@pytest.fixture(scope="module")
def estimate() -> Estimate:
    return LatencyEstimator(table_of(ResNet18(), error=0.02)).predict(ResNet18(), input_shape=(1, 3, 96, 96))


def printed(estimate: Estimate) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(breakdown_table(estimate))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_breakdown_adds_up(estimate: Estimate) -> None:
    rows = re.findall(r"│ (\S.*?)\s+│\s+(\d+) │\s+([\d.]+) │\s+([\d.]+)% │", printed(estimate))
    *layers, (label, n_kernels, total_ms, share) = rows
    assert (label, share) == ("total", "100.0")
    assert len(layers) == len(estimate.breakdown())
    assert sum(int(row[1]) for row in layers) == int(n_kernels) == 35
    assert sum(float(row[2]) for row in layers) == pytest.approx(float(total_ms), abs=1e-3)
    assert sum(float(row[3]) for row in layers) == pytest.approx(100, abs=1)


def test_the_breakdown_shows_the_uncertainty(estimate: Estimate) -> None:
    assert f"± {estimate.std_ms:.4f} ms" in printed(estimate)


def test_figures_are_svg_with_a_mark_for_each_value() -> None:
    history = [{"epoch": e, "latency/expected_ms": 2.0 - e, "latency/argmax_ms": 1.5} for e in range(2)]
    search, layers = search_figure(history, 1.0), layers_figure({"stem": 0.2, "head": 0.1})
    scatter = scatter_figure([1.0, 2.0, 3.0], [1.1, 2.0, 2.9])
    for svg in (search, layers, scatter):
        assert svg.startswith("<svg")
        assert svg.rstrip().endswith("</svg>")
        assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"|<metadata>.*?</metadata>', "", svg, flags=re.DOTALL)
    assert len(re.findall(r"<use [^>]*#m\w+[^>]*fill|<use [^>]*style=\"fill: #2563eb", scatter)) == 3
    assert layers.count("fill: #2563eb") == 2
    assert search_figure(history, 1.0) == search  # the same text each time


def test_a_figure_of_a_count_names_its_unit() -> None:
    params = QUANTITIES["parameters"]
    history = [{"epoch": e, "latency/expected_params": 2e3 - e, "latency/argmax_params": 1.5e3} for e in range(2)]
    for svg in (search_figure(history, 1e3, params), layers_figure({"stem": 200.0}, params)):
        assert "<!-- parameters (params) -->" in svg
        assert "(ms)" not in svg


def test_a_distribution_is_a_histogram_with_limits() -> None:
    distribution = distribution_of(
        replace(random_plan(np.random.default_rng(0), (3,) * 6), quantity=QUANTITIES["energy"])
    )
    plain, limited = distribution_figure(distribution), distribution_figure(distribution, [7.0, 8.0])
    assert plain.startswith("<svg")
    assert "<!-- energy (mJ) -->" in plain
    assert limited.count("stroke-dasharray: 3.7") == 2
    assert "stroke-dasharray: 3.7" not in plain


def test_a_datasheet_is_listed_without_unstated_fields() -> None:
    sheet = Datasheet(device="Board", engine="MNN", method="measured", sources=("a", "b"), expected_error=0.0)
    assert _rows(sheet) == {
        "device": "Board",
        "engine": "MNN",
        "method": "measured",
        "backend": "CPU",
        "precision": "fp32",
        "batch": "1",
        "sources": "a; b",
        "expected error": "0.00%",
    }


def test_progress_shows_what_is_done_and_what_remains() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with progress_bar("metering", console) as on_progress:
        on_progress(3, 12)
        on_progress(12, 12)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "metering" in text
    assert "12/12" in text
