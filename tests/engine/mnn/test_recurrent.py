"""Recurrent layers in MNN: a loop of many ops, which runs as a module and is timed whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from latency_nas.engine import Target, fuse, get_engine
from latency_nas.engine.mnn.converter import convert
from latency_nas.engine.mnn.device_side import Network, opened
from latency_nas.engine.mnn.module_side import Module, has_bodies
from latency_nas.engine.serving import RunnerError
from latency_nas.graph.onnx.writer import save_onnx
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import Kernel
from latency_nas.measure.kernel_graph import kernel_graph
from latency_nas.measure.meter import measure_networks, measure_table
from latency_nas.measure.times import NetworkTimes, entries_of

STEPS, FEATURES, HIDDEN = 12, 8, 16
RELU = Kernel.of("relu", [(1, 8, 16, 16)], [(1, 8, 16, 16)])


def layer(op: str, directions: int = 1) -> Kernel:
    both = {"directions": directions} if directions > 1 else {}
    return Kernel.of(op, [(STEPS, 1, FEATURES)], [(STEPS, 1, directions * HIDDEN)], hidden=HIDDEN, **both)


def written(kernel: Kernel, folder: Path) -> tuple[Path, Path]:
    """The ONNX file and the MNN file of a kernel alone."""
    source = save_onnx(kernel_graph(kernel, get_engine("mnn"), Target()), folder / "m.onnx")
    return source, convert(source, folder / "m.mnn")


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("op", ["lstm", "gru", "rnn"])
def test_layers_are_written_with_the_shapes_of_the_kernel(op: str, directions: int, tmp_path: Path) -> None:
    source, network = written(layer(op, directions), tmp_path)
    inferred = onnx.shape_inference.infer_shapes(onnx.load(source), check_type=True, strict_mode=True)
    shapes = {info.name: [d.dim_value for d in info.type.tensor_type.shape.dim] for info in inferred.graph.value_info}
    assert shapes[op] == [STEPS, 1, directions * HIDDEN]
    ready = opened(str(network))
    assert ready.input_shape == [STEPS, 1, FEATURES]
    assert min(ready.run_ms(2)) > 0


@pytest.mark.parametrize("op", ["lstm", "gru"])
def test_a_module_computes_what_onnx_defines(op: str, tmp_path: Path) -> None:
    source, network = written(layer(op), tmp_path)
    module = opened(str(network))
    assert isinstance(module, Module)
    module.run_ms(1)
    (result,) = module._module.onForward(module._inputs)
    x = np.array(module._values[0], np.float32).reshape(STEPS, 1, FEATURES)
    (expected,) = ReferenceEvaluator(str(source)).run(None, {"input_0": x})
    assert np.abs(np.array(result.read()).reshape(expected.shape) - expected).max() < 1e-4


def test_only_files_with_loops_run_as_modules(tmp_path: Path) -> None:
    plain = get_engine("mnn").write(kernel_graph(RELU, get_engine("mnn"), Target()), tmp_path / "relu.mnn")
    assert isinstance(opened(str(plain)), Network)
    assert opened(str(written(layer("lstm"), tmp_path)[1])).executed() is None
    damaged = tmp_path / "damaged.mnn"
    for content in (b"", b"1234", bytes(range(64))):
        damaged.write_bytes(content)
        assert not has_bodies(str(damaged))
    with pytest.raises(RunnerError, match="is missing, truncated or no MNN model"):
        opened(str(damaged))


def test_a_recurrent_kernel_is_timed_whole_beside_others_op_by_op() -> None:
    kernels = [layer("lstm"), layer("rnn", 2), RELU]  # MNN runs the second as six ops in a session
    table = measure_table(kernels, rounds=1, n_runs=2)
    assert {*table} == {*kernels}
    assert table.datasheet.batch == 1


def test_a_network_with_a_recurrent_layer_is_measured_by_its_kernels() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(FEATURES, HIDDEN), nn.Linear(HIDDEN, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.head(self.rnn(x)[0].relu()))

    graph = read_torch(Net(), input_shape=(STEPS, 1, FEATURES))
    table = measure_table([graph], rounds=1, n_runs=2)
    wanted = {call.kernel for call in fuse(graph, "mnn") if call.kernel.op != "raster"}
    assert layer("lstm") in wanted
    assert wanted <= {*table}
    (times,), _ = measure_networks([graph], rounds=1, n_runs=2)
    assert times.latency_ms > 0


def test_what_was_timed_whole_has_no_callbacks_to_subtract() -> None:
    def times(whole_ms: float, ops_ms: list[float]) -> NetworkTimes:
        values = np.array(ops_ms)
        return NetworkTimes(
            latency_ms=whole_ms, std_ms=None, raw_ms=whole_ms, ops_ms=values, ops_std_ms=values * np.nan, n_samples=1
        )

    networks = [[layer("lstm")], [layer("gru")], [RELU, RELU]]
    rows = entries_of(networks, [times(0.3, [0.3]), times(0.2, [0.2]), times(1.0, [0.6, 0.6])])
    assert [round(entry.latency_ms, 6) for entry in rows.values()] == [0.3, 0.2, 0.5]
