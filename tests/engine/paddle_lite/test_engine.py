"""Paddle-Lite as a measured engine: its x86 build, really run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from latency_nas.engine import Target, fuse, get_engine
from latency_nas.errors import GraphError, MeasureError
from latency_nas.graph import OpGraph, Value
from latency_nas.graph.paddle.reader import read_paddle
from latency_nas.graph.paddle.writer import write_paddle
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import Kernel, n_macs
from latency_nas.measure.device.runner import LocalRunner, RepetitionOptions
from latency_nas.measure.kernel_graph import kernel_graph
from latency_nas.measure.meter import measure_networks, measure_table
from latency_nas.measure.yardstick import yardstick_graph

LITE = get_engine("paddle-lite")
FAST = RepetitionOptions(n_runs=3, profile=False)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.deep = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.Hardswish(), nn.Conv2d(16, 16, 1))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))

    def forward(self, x):  # type: ignore[no-untyped-def]
        y = self.stem(x)
        return self.head(y + self.deep(y))


@pytest.fixture(scope="module")
def graph() -> OpGraph:
    return read_torch(Small().eval(), input_shape=(1, 3, 64, 64))


@pytest.fixture
def runner(lite_python: Path) -> Iterator[LocalRunner]:
    with LocalRunner(LITE, python=str(lite_python)) as opened:
        yield opened


@pytest.fixture
def yardstick(tmp_path: Path) -> Path:
    return LITE.write(yardstick_graph(), tmp_path / "yardstick.zip")


def alone(kernel: Kernel) -> OpGraph:
    return kernel_graph(kernel, LITE, Target())


def test_what_is_written_is_read_back_with_the_same_kernels(graph: OpGraph, tmp_path: Path) -> None:
    program, weights = write_paddle(graph)
    path = tmp_path / "net.pdmodel"
    path.write_bytes(program)
    path.with_suffix(".pdiparams").write_bytes(weights)
    back = read_paddle(path, path.with_suffix(".pdiparams"))
    keys = [[call.kernel.key for call in fuse(item, "Paddle-Lite")] for item in (graph, back)]
    assert keys[0] == keys[1]


def test_kernel_alone_is_that_kernel(graph: OpGraph) -> None:
    for call in fuse(graph, "Paddle-Lite"):
        assert [made.kernel for made in fuse(alone(call.kernel), "Paddle-Lite")] == [call.kernel]


@pytest.mark.usefixtures("runner")
def test_table_and_whole_network(graph: OpGraph) -> None:
    kernels = [call.kernel for call in fuse(graph, "Paddle-Lite")]
    table = measure_table([*kernels, *kernels], engine=LITE, device="Example machine", rounds=2)
    (whole,), drift = measure_networks([graph], engine=LITE, rounds=2, yardstick_ms=table.datasheet.yardstick_ms)
    sheet = table.datasheet
    assert (sheet.engine, sheet.engine_version, sheet.method, sheet.threads) == (
        "Paddle-Lite",
        "2.13rc0",
        "measured",
        1,
    )
    assert set(table) == set(kernels)
    assert all(table[kernel].latency_ms > 0 for kernel in kernels)
    assert whole.latency_ms > 0
    assert drift.n_repetitions >= 2
    total_ms = sum(table[kernel].latency_ms for kernel in kernels)
    assert 0.02 < total_ms / whole.latency_ms < 50  # of one unit; a kernel alone pays for a program of its own


def replaced(path: Path, **members: bytes) -> Path:
    """The archive with other members."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (content | {f"model.{suffix}": data for suffix, data in members.items()}).items():
            archive.writestr(name, data)
    return path


def test_no_time_is_refused(runner: LocalRunner, yardstick: Path, tmp_path: Path) -> None:
    """A program that does nothing takes as little as one that is made for another processor: about a microsecond."""
    graph = read_torch(Small().eval(), input_shape=(1, 3, 512, 512))
    value = Value(shape=(1, 3, 512, 512))
    program, weights = write_paddle(OpGraph(values=(value,), nodes=(), inputs=(0,), outputs=(0,)))
    path = replaced(LITE.write(graph, tmp_path / "net.zip"), pdmodel=program, pdiparams=weights)
    min_ms = sum(n_macs(graph.kernel(node)) for node in graph.nodes) / 1e9
    with pytest.raises(MeasureError) as caught:
        runner.repeat(path, yardstick, FAST, describe=False, min_ms=min_ms)
    assert str(caught.value) == (
        f"Expected net.zip to take more than {min_ms:.6f} ms, as its multiply-accumulates do on any processor, "
        f"but Paddle-Lite took less: it is made for another processor, or did not run."
    )


def test_optimised_program_for_a_phone_is_refused(tmp_path: Path) -> None:
    phone = tmp_path / "phone.nb"
    phone.write_bytes(b"")
    with pytest.raises(GraphError) as caught:
        LITE.write(phone, tmp_path / "phone.zip")
    assert str(caught.value) == f"Expected a Paddle program, .pdmodel or .json, but got {phone}."


def test_crash_is_an_error_of_one_program(runner: LocalRunner, yardstick: Path, graph: OpGraph, tmp_path: Path) -> None:
    good, bad = (LITE.write(graph, tmp_path / f"{name}.zip") for name in ("good", "bad"))
    replaced(bad, pdiparams=b"")
    with pytest.raises(MeasureError) as caught:
        runner.repeat(bad, yardstick, FAST, describe=False)
    assert str(caught.value) == "Paddle-Lite crashed on bad: The device side ended (exit status -6) before it answered."
    assert runner.repeat(good, yardstick, FAST, describe=False)["whole_ms"][0] > 0


def test_weights_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "alone.pdmodel"
    path.write_bytes(write_paddle(yardstick_graph())[0])
    with pytest.raises(GraphError) as caught:
        LITE.write(path, tmp_path / "copy.zip")
    weights = path.with_suffix(".pdiparams")
    assert str(caught.value) == f"Expected the weights of {path} at {weights}, but they are not there."


def test_kernels_that_cannot_be_measured_alone(tmp_path: Path) -> None:
    resize = Kernel.of("resize", [(1, 3, 4, 4)], [(1, 3, 8, 8)], mode="nearest")
    with pytest.raises(MeasureError) as caught:
        LITE.write(alone(resize), tmp_path / "kernel_0.zip")
    ops = (
        "abs, add, batch_norm, clip, concat, conv2d, conv_transpose2d, div, exp, floor, gelu, hard_sigmoid, "
        "hard_swish, leaky_relu, linear, log, matmul, maximum, minimum, mod, mul, paddle.dropout, paddle.scale, "
        "pool2d, pow, "
        "reduce_mean, relu, relu6, reshape, rsqrt, shuffle_channel, sigmoid, softmax, split, sqrt, sub, swish, tanh, "
        "transpose"
    )
    assert str(caught.value) == f"Expected ops out of {ops}, but the model has resize (at resize)."
    folded = Kernel.of("add", [(1, 8), (1, 8)], [(1, 8)], act="tanh")
    with pytest.raises(MeasureError) as caught:
        alone(folded)
    assert str(caught.value) == (
        "No network is known for which Paddle-Lite runs add [1,8] [1,8] -> [1,8] act=tanh dtype=fp32 alone, "
        "but add [1,8] [1,8] -> [1,8] dtype=fp32; tanh [1,8] -> [1,8] dtype=fp32."
    )


def test_no_networks_and_no_rounds(graph: OpGraph) -> None:
    with pytest.raises(MeasureError) as caught:
        measure_networks([], engine=LITE)
    assert str(caught.value) == "Expected at least one network to measure, but got none."
    with pytest.raises(MeasureError) as caught:
        measure_networks([graph], engine=LITE, rounds=0)
    assert str(caught.value) == "Expected `rounds` to be a positive integer, but got 0."
