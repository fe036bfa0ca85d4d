"""Estimates: sums, sources, error bars, and what happens to kernels that a table lacks."""

from __future__ import annotations

import logging
from dataclasses import replace
from math import log, pi, sqrt
from pathlib import Path

import pytest
from onnx import parser
from torch import nn

from latency_nas.engine import fuse
from latency_nas.errors import GraphError, InputMismatchError, MissingKernelError, TableError
from latency_nas.estimate import LatencyEstimator
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import Kernel, n_bytes, n_flops
from latency_nas.table import Datasheet, Entry, LatencyTable
from tests.networks import MobileNet, ResNet18

SHEET = Datasheet(device="Example board", engine="MNN", method="measured", threads=1)


def roofline_ms(kernel: Kernel) -> float:
    """A made-up device: 20 GFLOP/s, 5 GB/s, a microsecond a call."""
    return 1e-3 + max(n_flops(kernel) / 20e6, n_bytes(kernel) / 5e6)


def table_of(*models: nn.Module, size: int = 96, std: float | None = None, error: float | None = None) -> LatencyTable:
    calls = [call for model in models for call in fuse(read_torch(model, input_shape=(1, 3, size, size)), "MNN")]
    sheet = Datasheet(**{**SHEET.to_dict(), "expected_error": error})
    entries = {call.kernel: Entry(latency_ms=roofline_ms(call.kernel), std_ms=std) for call in calls}
    return LatencyTable.of(entries, sheet, name="example")


def test_an_estimate_is_the_sum_over_kernels() -> None:
    model = ResNet18()
    estimate = LatencyEstimator(table_of(model)).predict(model, input_shape=(1, 3, 96, 96))
    calls = fuse(read_torch(model, input_shape=(1, 3, 96, 96)), "MNN")
    assert estimate.latency_ms == pytest.approx(sum(roofline_ms(call.kernel) for call in calls), rel=1e-12)
    assert estimate.coverage == 1.0
    assert estimate.sources == {"table": len(calls), "regressed": 0, "missing": 0}


def test_the_breakdown_adds_up_and_follows_the_layers() -> None:
    model = ResNet18()
    estimate = LatencyEstimator(table_of(model)).predict(model, input_shape=(1, 3, 96, 96))
    layers = estimate.breakdown()
    assert sum(item.latency_ms for items in layers.values() for item in items) == pytest.approx(estimate.latency_ms)
    assert list(layers)[:4] == ["stem.0.0", "stem.2", "blocks.0.first.0", "blocks.0.second.0"]


def test_a_graph_is_predicted_as_its_model() -> None:
    model = ResNet18()
    estimator, graph = LatencyEstimator(table_of(model)), read_torch(model, input_shape=(1, 3, 96, 96))
    assert estimator.predict(graph) == estimator.predict(model, input_shape=(1, 3, 96, 96))
    assert estimator.predict(graph) == estimator.price(estimator.fuse(graph))
    with pytest.raises(GraphError) as caught:
        estimator.predict(graph, input_shape=(1, 3, 96, 96))
    assert str(caught.value) == "Expected a graph without an input, since its shapes are fixed, but got both."


def test_a_known_error_of_the_table_gives_the_standard_deviation() -> None:
    model = ResNet18()
    estimate = LatencyEstimator(table_of(model, error=0.02)).predict(model, input_shape=(1, 3, 96, 96))
    assert estimate.std_ms == pytest.approx(sqrt(pi / 2) * 0.02 * estimate.latency_ms)
    assert str(estimate) == f"{estimate.latency_ms:.3f} ± {estimate.std_ms:.3f} ms (35 kernels: 35 table)"


def test_ninety_percent_of_networks_within_a_bound_are_the_interval() -> None:
    model = ResNet18()
    table = table_of(model, error=0.02)
    sheet = Datasheet(**{**table.datasheet.to_dict(), "error_90": 0.06})
    estimate = LatencyEstimator(LatencyTable(table.entries, sheet, "example")).predict(
        model, input_shape=(1, 3, 96, 96)
    )
    assert estimate.std_ms is not None
    assert 1.645 * estimate.std_ms / estimate.latency_ms == pytest.approx(log(1.06))


def test_without_it_kernels_err_on_their_own() -> None:
    model = ResNet18()
    estimate = LatencyEstimator(table_of(model, std=0.01)).predict(model, input_shape=(1, 3, 96, 96))
    assert estimate.std_ms == pytest.approx(0.01 * sqrt(len(estimate.kernels)))


def test_what_the_table_does_not_say_is_not_made_up() -> None:
    model = ResNet18()
    estimate = LatencyEstimator(table_of(model)).predict(model, input_shape=(1, 3, 96, 96))
    assert estimate.std_ms is None
    assert str(estimate) == f"{estimate.latency_ms:.3f} ms ± unknown (35 kernels: 35 table)"


def test_a_missing_kernel_is_an_error_that_names_it() -> None:
    table = table_of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
    with pytest.raises(MissingKernelError) as caught:
        LatencyEstimator(table).predict(nn.Sequential(nn.Conv2d(3, 9, 3), nn.ReLU()), input_shape=(1, 3, 96, 96))
    assert str(caught.value) == (
        "2 of 3 different kernels have no price in example (Example board: MNN on CPU, fp32, 1 thread, batch 1, "
        "measured): "
        "conv2d [1,3,96,96] -> [1,9,94,94] act=relu bias=1 dilation=[1,1] group=1 kernel=[3,3] pad=[0,0,0,0] "
        "stride=[1,1] "
        "dtype=fp32 (layer `0`); raster [1,9,94,94] -> [1,9,94,94] source=packed target=plain dtype=fp32 (layer `0`). "
        "Measure them with latency_nas.measure_table(...), or pass on_missing='regress' to have them estimated from "
        "the "
        "table's rows."
    )
    assert isinstance(caught.value, LookupError)


def test_many_missing_kernels_are_counted() -> None:
    table = table_of(nn.ReLU())
    with pytest.raises(MissingKernelError, match=r"^41 of 41 different kernels .*; and 36 more\. Measure them"):
        LatencyEstimator(table).predict(MobileNet(), input_shape=(1, 3, 96, 96))


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_row_prices_what_the_engine_runs_alike(has_bias: bool) -> None:
    """MNN adds a bias of zeros where there is none; torch's ONNX exporter drops biases of zeros."""
    table = table_of(nn.Conv2d(3, 8, 3, bias=has_bias))
    other = nn.Conv2d(3, 8, 3, bias=not has_bias)
    estimate = LatencyEstimator(table).predict(other, input_shape=(1, 3, 96, 96))
    assert estimate.latency_ms == sum(entry.latency_ms for entry in table.entries.values())
    assert estimate.coverage == 1.0
    elsewhere = LatencyTable(table.entries, replace(SHEET, engine="Paddle-Lite"))
    with pytest.raises(MissingKernelError):
        LatencyEstimator(elsewhere).predict(other, input_shape=(1, 3, 96, 96))


def test_a_regressed_kernel_says_so_and_is_near() -> None:
    """Trained on one resolution of MobileNetV2 and ResNet18, used for another, on a device that is a formula."""
    table = table_of(MobileNet(), ResNet18(), std=0.0)
    estimate = LatencyEstimator(table, on_missing="regress").predict(MobileNet(), input_shape=(1, 3, 80, 80))
    truth = sum(roofline_ms(item.kernel) for item in estimate.kernels)
    regressed = [item for item in estimate.kernels if item.source == "regressed"]
    assert len(regressed) > 20
    assert estimate.coverage == pytest.approx(1 - len(regressed) / len(estimate.kernels))
    assert estimate.std_ms is not None
    assert abs(estimate.latency_ms - truth) < min(0.2 * truth, 3 * estimate.std_ms)
    assert all(item.std_ms for item in regressed)


def test_regression_raises_where_it_has_no_ground() -> None:
    table = table_of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
    with pytest.raises(MissingKernelError) as caught:
        LatencyEstimator(table, on_missing="regress").predict(nn.Tanh(), input_shape=(1, 3, 96, 96))
    assert str(caught.value) == (
        "1 of 1 different kernels have no price in example (Example board: MNN on CPU, fp32, 1 thread, batch 1, "
        "measured): "
        "tanh [1,3,96,96] -> [1,3,96,96] dtype=fp32 (in the model itself). Measure them with "
        "latency_nas.measure_table(...)."
    )


def test_a_warning_leaves_out_and_the_coverage_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Tanh())
    table = table_of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
    with caplog.at_level(logging.WARNING):
        estimate = LatencyEstimator(table, on_missing="warn").predict(model, input_shape=(1, 3, 96, 96))
    assert estimate.sources == {"table": 3, "regressed": 0, "missing": 1}
    assert estimate.coverage == 0.75
    (record,) = caplog.records
    assert record.getMessage() == (
        "1 of 4 different kernels have no price in example (Example board: MNN on CPU, fp32, 1 thread, batch 1, "
        "measured): "
        "tanh [1,8,94,94] -> [1,8,94,94] dtype=fp32 (layer `2`). They are left out of the sum."
    )


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(TableError) as caught:
        LatencyEstimator(table_of(nn.ReLU()), on_missing="zero")  # type: ignore[arg-type]
    assert str(caught.value) == "Expected `on_missing` to be error, regress or warn, but got 'zero'."


def test_an_input_that_does_not_fit_names_the_layer() -> None:
    with pytest.raises(InputMismatchError, match=r"layer `stem\.0\.0` \(Conv2d\) fails"):
        LatencyEstimator(table_of(ResNet18())).predict(ResNet18(), input_shape=(1, 4, 96, 96))


def derived_table(**fields: object) -> LatencyTable:
    sheet = Datasheet(device="SD865", engine="MNN", method="derived", **fields)  # type: ignore[arg-type]
    rows = {Kernel.of("relu", [(1, 8, n, n)], [(1, 8, n, n)]): Entry(latency_ms=0.01 * n * n) for n in range(4, 24)}
    return LatencyTable.of(rows, sheet, name="SD865")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "its error is not known"),
        (
            {"expected_error": 0.046, "expected_error_method": "12 networks left out"},
            "expect an error of 4.6% (12 networks left out)",
        ),
    ],
)
def test_derived_table_is_said_once_in_one_line(
    fields: dict[str, object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    estimator = LatencyEstimator(derived_table(**fields))
    for size in (8, 9):
        estimator.predict(nn.ReLU(), input_shape=(1, 8, size, size))
    (message,) = caplog.messages
    assert message == (
        f"SD865 is derived, not measured on SD865: {said}. Calibrate it by a few networks timed there "
        f"(latency-nas calibrate), or measure a table of your own (latency_nas.measure_table)."
    )


def test_derived_table_regresses_what_it_lacks_by_default() -> None:
    assert LatencyEstimator(derived_table()).on_missing == "regress"
    estimate = LatencyEstimator(derived_table()).predict(nn.ReLU(), input_shape=(1, 8, 10, 11))
    assert estimate.sources == {"table": 0, "regressed": 1, "missing": 0}
    with pytest.raises(MissingKernelError):
        LatencyEstimator(derived_table(), on_missing="error").predict(nn.ReLU(), input_shape=(1, 8, 10, 11))


def test_sizes_that_overflow_only_when_fused_name_the_model(tmp_path: Path) -> None:
    """The rows of a product are joined by MNN alone: 8 x 2^30 of them are no size any more."""
    text = """<ir_version: 9, opset_import: ["": 18]>
    g (float[8, 1073741824, 4] x) => (float[8, 1073741824, 2] y) <float[4, 2] w = {1, 1, 1, 1, 1, 1, 1, 1}> {
      y = MatMul(x, w)
    }"""
    path = tmp_path / "huge.onnx"
    path.write_bytes(parser.parse_model(text).SerializeToString())
    with pytest.raises(GraphError) as caught:
        LatencyEstimator(table_of(nn.ReLU())).predict(path)
    assert str(caught.value) == (
        f"Expected {path} to fuse into valid kernels. Expected sizes of raster to be integers from 0 to 2^31, but got "
        f"(8589934592, 4, 1, 1)."
    )
