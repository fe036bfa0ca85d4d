"""Calibration: scales that made the times are found again, by two routes, and the result says what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from typer.testing import CliRunner

from latency_nas import Datasheet, Kernel, LatencyEstimator, LatencyTable, load_table, save_table
from latency_nas.cli.main import app
from latency_nas.errors import MissingKernelError, TableError, TableFileError
from latency_nas.estimate.calibration import NetworkTime, calibrate
from latency_nas.estimate.class_scales import CLASSES, choose_strength, fit_scales, kernel_class, leave_one_out
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.table import Entry

RELU = Kernel.of("relu", [(1, 8, 4, 4)], [(1, 8, 4, 4)])
LINEAR = Kernel.of("linear", [(1, 8)], [(1, 4)], bias=1)


def conv(kernel: int, stride: int = 1, group: int = 1) -> Kernel:
    return Kernel.of(
        "conv2d", [(1, 8, 8, 8)], [(1, 8, 8 // stride, 8 // stride)], kernel=(kernel, kernel), stride=(stride, stride),
        pad=(kernel // 2,) * 4, dilation=(1, 1), group=group,
    )  # fmt: skip


def calls(*kernels: Kernel) -> tuple[KernelCall, ...]:
    return tuple(KernelCall(kernel=kernel, layer="", nodes=()) for kernel in kernels)


def source(**fields: object) -> LatencyTable:
    sheet = Datasheet(device="Board", engine="Paddle-Lite", method="measured", threads=4, sources=("a file",), **fields)  # type: ignore[arg-type]
    rows = {RELU: 0.5, LINEAR: 1.0, conv(1): 2.0, conv(3): 3.0, conv(3, group=8): 4.0}
    return LatencyTable.of(
        {kernel: Entry(latency_ms=time_ms, std_ms=0.1, n_samples=5) for kernel, time_ms in rows.items()}, sheet
    )


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (conv(1), "pointwise"),
        (conv(3), "3x3"),
        (conv(3, stride=2), "convolution"),
        (conv(5), "convolution"),
        (conv(3, group=8), "depthwise"),
        (LINEAR, "product"),
        (Kernel.of("swish", [(1, 8)], [(1, 8)]), "exponential"),
        (RELU, "memory"),
    ],
)
def test_kernels_have_classes(kernel: Kernel, expected: str) -> None:
    assert kernel_class(kernel) == expected


def random_networks(n: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    parts_ms = generator.gamma(1.0, 5.0, (n, len(CLASSES)))
    logs = generator.normal(0, 0.2, len(CLASSES))
    return parts_ms, parts_ms @ np.exp(0.7 + logs) * np.exp(generator.normal(0, noise, n)), 0.7 + logs


def test_scales_that_made_the_times_are_found() -> None:
    parts_ms, measured_ms, truth = random_networks(60, noise=0.0)
    found = fit_scales(parts_ms, measured_ms, 10.0)
    np.testing.assert_allclose(found[0] + found[1:], truth, atol=1e-3)
    one = fit_scales(parts_ms, measured_ms, 0.0)
    assert not one[1:].any()


def test_scales_minimise_the_penalised_huber_loss() -> None:
    """The second route: SciPy's minimiser, of the loss as it is written."""
    parts_ms, measured_ms, _ = random_networks(12, noise=0.1)
    measured_ms[3] *= 1.5  # one that Huber's loss counts linearly
    strength, noise, bend = 0.2, 0.04, 1.345 * 0.04

    def loss(logs: np.ndarray) -> float:
        residual = np.abs(np.log(measured_ms / (parts_ms @ np.exp(logs[0] + logs[1:]))))
        huber = np.where(residual < bend, residual**2 / 2, bend * (residual - bend / 2)).sum() / noise**2
        return float(huber + (logs[1:] ** 2).sum() / strength**2 / 2)

    found = fit_scales(parts_ms, measured_ms, strength)
    best = minimize(loss, np.zeros(1 + len(CLASSES)), method="BFGS", options={"gtol": 1e-8})
    assert loss(found) <= best.fun + 1e-5
    np.testing.assert_allclose(found, best.x, atol=2e-3)


def test_a_left_out_network_is_not_used() -> None:
    parts_ms, measured_ms, _ = random_networks(8, noise=0.03)
    before = leave_one_out(parts_ms, measured_ms)
    rest = np.arange(8) != 2
    by_hand = fit_scales(parts_ms[rest], measured_ms[rest], choose_strength(parts_ms[rest], measured_ms[rest]))
    assert before[2] == pytest.approx(parts_ms[2] @ np.exp(by_hand[0] + by_hand[1:]))
    measured_ms[2] *= 2
    assert leave_one_out(parts_ms, measured_ms)[2] == pytest.approx(before[2])


def test_classes_have_scales_of_their_own_of_five_networks_on() -> None:
    parts_ms, measured_ms, _ = random_networks(20, noise=0.0)
    assert choose_strength(parts_ms[:4], measured_ms[:4]) == 0
    assert choose_strength(parts_ms, measured_ms) == 0.4


def test_one_network_is_one_scale() -> None:
    run = NetworkTime(name="one", kernels=calls(RELU, LINEAR), latency_ms=3.0)
    table, quality = calibrate(source(), [run], device="Slow board", threads=1, other_device=True)
    assert {kernel: entry.latency_ms for kernel, entry in table.items()} == pytest.approx(
        {kernel: 2 * entry.latency_ms for kernel, entry in source().items()}
    )
    assert table[RELU].std_ms == pytest.approx(0.2)
    assert table[RELU].n_samples == 0
    assert str(quality) == "one network; its error elsewhere is not known. product x 2, memory x 2"
    sheet = table.datasheet
    assert (sheet.device, sheet.threads, sheet.method) == ("Slow board", 1, "derived")
    assert (sheet.expected_error, sheet.expected_error_method) == (None, "not known: one network")
    assert sheet.sources == ("a file", "Board (measured)", "whole networks: one")


def test_two_networks_have_an_error() -> None:
    runs = [
        NetworkTime(name="a", kernels=calls(RELU, RELU), latency_ms=2.0),
        NetworkTime(name="b", kernels=calls(LINEAR), latency_ms=2.2),
    ]
    table, quality = calibrate(source(), runs, device="Slow board", other_device=True)
    assert quality.errors == pytest.approx({"a": 0.1, "b": 2 / 2.2 - 1})
    assert table.datasheet.expected_error == pytest.approx((0.1 + 0.2 / 2.2) / 2)
    assert table.datasheet.expected_error_method == "2 networks, each left out"
    assert str(quality).startswith("9.5% mean error of 2 networks, each left out; worst +10.0% (a). product x 2.1")


def test_prices_add_up_to_what_was_measured() -> None:
    times = {"a": (RELU, conv(1)), "b": (conv(1), conv(3)), "c": (LINEAR, conv(3)), "d": (conv(3, group=8), conv(1))}
    runs = [
        NetworkTime(name=name, kernels=calls(*kernels), latency_ms=1.5 * sum(source()[k].latency_ms for k in kernels))
        for name, kernels in times.items()
    ]
    table, _ = calibrate(LatencyEstimator(source()), runs, device="Slow board", other_device=True)
    for run in runs:
        assert LatencyEstimator(table).price(run.kernels).latency_ms == pytest.approx(run.latency_ms)


def test_what_cannot_be_calibrated_is_refused() -> None:
    run = NetworkTime(name="one", kernels=calls(RELU), latency_ms=3.0)
    with pytest.raises(TableError) as caught:
        calibrate(source(), [], device="x", other_device=True)
    assert str(caught.value) == "Expected measurements of one network or more, each once, but got none."
    with pytest.raises(TableError) as caught:
        calibrate(source(), [run, run], device="x", other_device=True)
    assert str(caught.value) == "Expected measurements of one network or more, each once, but got one, one."
    with pytest.raises(TableError) as caught:
        NetworkTime(name="none", kernels=(), latency_ms=1.0)
    assert str(caught.value) == "Expected the network `none` to have kernels, but it has none."
    with pytest.raises(TableError) as caught:
        NetworkTime(name="none", kernels=calls(RELU), latency_ms=0.0)
    expected = "Expected the time of `none` to be a positive number of milliseconds, but got 0.0."
    assert str(caught.value) == expected
    unknown = NetworkTime(name="unknown", kernels=calls(Kernel.of("tanh", [(1, 8)], [(1, 8)])), latency_ms=1.0)
    with pytest.raises(MissingKernelError):
        calibrate(source(), [unknown], device="x", other_device=True)


def test_another_device_or_engine_is_refused_unless_it_is_meant() -> None:
    run = NetworkTime(name="one", kernels=calls(RELU), latency_ms=3.0)
    with pytest.raises(TableError) as caught:
        calibrate(source(), [run], device="Slow board", engine="MNN")
    said = "device: Board in the datasheet, Slow board at hand; engine: Paddle-Lite in the datasheet, MNN at hand"
    assert str(caught.value) == (
        f"Expected times of the device and the engine that the datasheet of {source().name} names, but they differ: "
        f"{said}. Start from a table of that device, or pass other_device=True (--other-device at the command line), "
        f"and the result will say what differs."
    )
    sheet = calibrate(source(), [run], device="Slow board", engine="MNN", other_device=True)[0].datasheet
    assert (sheet.device, sheet.engine) == ("Slow board", "Paddle-Lite")  # the kernels are still that engine's
    assert sheet.notes == f"calibrated from another device or engine: {said}"
    same = calibrate(source(), [run], device="board", threads=2)[0].datasheet
    assert (same.threads, same.notes) == (2, source().datasheet.notes)


def test_command(tmp_path: Path) -> None:
    save_table(source(), tmp_path / "board.parquet")
    model = "tests.networks:relu_of_maps"
    (tmp_path / "runs.csv").write_text(f'model,input_shape,latency_ms\n{model},"1,8,4,4",2.0\n')
    target = tmp_path / "slow.parquet"
    arguments = ["calibrate", str(tmp_path / "board.parquet"), str(tmp_path / "runs.csv"), "--device", "Slow board"]
    arguments += ["--other-device"]
    result = CliRunner().invoke(app, [*arguments, "--output", str(target), "--threads", "2"], catch_exceptions=False)
    assert result.output == (
        f"{target}: 5 kernels. Slow board: Paddle-Lite on CPU, fp32, 2 threads, batch 1, derived\n"
        "one network; its error elsewhere is not known. memory x 4.\n"
    )
    assert load_table(target)[RELU].latency_ms == pytest.approx(2.0)


def test_the_same_runs_make_the_same_file(tmp_path: Path) -> None:
    runs = [NetworkTime(name="a", kernels=calls(RELU, conv(1)), latency_ms=2.0)]
    files = [
        save_table(calibrate(source(), runs, device="x", other_device=True)[0], tmp_path / f"{n}.parquet")
        for n in range(2)
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_file_of_runs_that_is_no_text_is_named(tmp_path: Path) -> None:
    save_table(source(), tmp_path / "board.parquet")
    runs = tmp_path / "runs.csv"
    runs.write_bytes(bytes(range(128, 256)))
    arguments = ["calibrate", str(tmp_path / "board.parquet"), str(runs), "-o", str(tmp_path / "x.parquet")]
    with pytest.raises(TableFileError) as caught:
        CliRunner().invoke(app, [*arguments, "--device", "Board"], catch_exceptions=False)
    assert str(caught.value).startswith(
        f"Expected {runs} to be a CSV file with the columns model, input_shape, latency_ms, but it cannot be read as "
        f"one ("
    )
