"""MNN: conversion, sessions, and per-op times."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from latency_nas.engine import fuse
from latency_nas.engine.mnn.converter import convert
from latency_nas.engine.mnn.device_side import Network
from latency_nas.engine.mnn.mnn_engine import MNN
from latency_nas.engine.serving import RunnerError
from latency_nas.errors import MeasureError
from latency_nas.graph.onnx.writer import save_onnx
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import n_macs
from latency_nas.measure.meter import measure_networks
from latency_nas.measure.yardstick import yardstick_graph
from tests.mnn_network import executed_ops
from tests.networks import SNIPPETS, Snippet


@pytest.fixture(scope="module")
def yardstick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(yardstick_graph(), tmp_path_factory.mktemp("mnn") / "yardstick.mnn")


def test_the_yardstick_never_changes() -> None:
    graph = yardstick_graph()
    by_hand = [3 * 9 * 32 * 32**2, 9 * 32 * 32**2, 32 * 64 * 32**2, 25 * 64 * 16**2]
    by_hand += [64 * 96 * 16**2, 96 * 9 * 48 * 16**2, 9 * 48 * 16**2, 48 * 160 * 8**2]
    assert [n_macs(graph.kernel(node)) for node in graph.nodes] == by_hand
    assert [graph.values[node.outputs[0]].shape for node in graph.nodes][-1] == (1, 160, 8, 8)


@pytest.mark.parametrize("name", [name for name in SNIPPETS if name != "norm alone"])
def test_written_models_are_valid_onnx_of_the_same_shapes(name: str, tmp_path: Path) -> None:
    graph = read_torch(Snippet(SNIPPETS[name]), input_shape=(1, 8, 8, 8))
    model = onnx.load(save_onnx(graph, tmp_path / "m.onnx"))
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    shapes = {
        info.name: tuple(d.dim_value for d in info.type.tensor_type.shape.dim) for info in inferred.graph.value_info
    }
    for node in graph.nodes:
        assert shapes[node.name] == graph.values[node.outputs[0]].shape


def test_an_rms_norm_is_written_as_ops_that_mnn_joins(tmp_path: Path) -> None:
    graph = read_torch(nn.RMSNorm(24), input_shape=(1, 10, 24))
    network = MNN().write(graph, tmp_path / "norm.mnn")
    MNN().check_ops(Network(str(network)).executed(), fuse(graph, "mnn"), "norm")
    assert [op.type for op in executed_ops(network)] == ["LayerNorm"]


def test_an_op_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    graph = read_torch(Snippet(lambda net, x: torch.roll(net.a(x), 1)), input_shape=(1, 8, 8, 8))
    with pytest.raises(MeasureError) as caught:
        save_onnx(graph, tmp_path / "m.onnx")
    listed, _, rest = str(caught.value).removeprefix("Expected ops out of ").partition(", but the model has ")
    ops = listed.split(", ")
    assert ops == sorted(ops)
    assert {"conv2d", "lstm", "softmax", "where"} < set(ops)
    assert rest == "roll (at /roll)."


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "bad.onnx"
    source.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(MeasureError, match=r"^MNN 3\.6\.1 could not convert .*bad\.onnx.*\.$"):
        convert(source, tmp_path / "bad.mnn")


_CONVERT = """
import sys
from pathlib import Path
from torch import nn
from latency_nas.graph.torch.reader import read_torch
from latency_nas.engine.mnn.converter import convert
name, width = sys.argv[1], int(sys.argv[2])
graph = read_torch(nn.Sequential(nn.Linear(2048, width), nn.ReLU(), nn.Linear(width, 500)), input_shape=(1, 2048))
files = [convert(graph, Path(f"{name}.mnn")).read_bytes() for _ in range(8)]
different = [sum(map(int.__ne__, file[::97], files[0][::97])) if len(file) == len(files[0]) else -1 for file in files]
print(max(different), min(different))  # all but an identifier is the same
"""


def test_processes_that_convert_in_one_folder_do_not_interfere(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", _CONVERT, f"net{width}", str(width)] for width in (900, 910)]
    start = functools.partial(subprocess.Popen, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    processes = [start(command) for command in commands]
    for process in processes:
        largest, smallest = map(int, process.communicate()[0].split())
        assert process.returncode == 0
        assert (smallest, largest < 10) == (0, True)


def test_op_times_add_up_to_the_whole(yardstick: Path) -> None:
    network = Network(str(yardstick))
    network.run_ms(20)
    whole, ops = np.median(network.run_ms(40)), np.median(network.profile_ms(40), axis=0)
    assert len(ops) == len(network.executed()) == 10
    assert 0.1 < ops.sum() / whole < 10  # of one unit; how near, `benchmarks/metering.py` says


def test_nothing_is_printed(yardstick: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Network(str(yardstick)).run_ms(1)
    convert(yardstick_graph(), yardstick.with_name("again.mnn"))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "Expected `threads` to be a positive integer, but got 0."),
        ({"precision": "int4"}, "Expected `precision` to be one of fp32, fp16, int8, but got 'int4'."),
        ({"power_mode": "max"}, "Expected `power_mode` to be one of normal, high, low, but got 'max'."),
    ],
)
def test_options_out_of_range_are_refused(yardstick: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(RunnerError) as caught:
        Network(str(yardstick), **options)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_a_file_that_is_no_mnn_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "bad.mnn"
    source.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(RunnerError) as caught:
        Network(str(source))
    assert str(caught.value) == f"MNN 3.6.1 could not open {source}: it is missing, truncated or no MNN model."


def test_layers_of_one_shape_have_weights_of_their_own(tmp_path: Path) -> None:
    """MNN would share equal ones among them, and run other convolutions for it."""
    layers = [layer for _ in range(3) for layer in (nn.Conv2d(48, 48, 1, bias=False), nn.Sigmoid())]
    graph = read_torch(nn.Sequential(*layers), input_shape=(1, 48, 16, 16))
    model = onnx.load(save_onnx(graph, tmp_path / "m.onnx"))
    weights = [onnx.numpy_helper.to_array(item) for item in model.graph.initializer]
    assert len({weight.tobytes() for weight in weights}) == len(weights) == 3
    executed = executed_ops(convert(graph, tmp_path / "m.mnn"))
    assert executed == MNN().executed_ops(fuse(graph, "MNN"))


def test_weights_lie_beside_a_model_and_follow_from_its_seed(tmp_path: Path) -> None:
    def weights(seed: int) -> list[np.ndarray]:
        model = onnx.load(save_onnx(yardstick_graph(), tmp_path / "m.onnx", seed=seed))
        return [onnx.numpy_helper.to_array(item) for item in model.graph.initializer]

    first, again, others = weights(3), weights(3), weights(4)
    assert all(map(np.array_equal, first, again))
    assert not any(map(np.array_equal, first, others))
    assert all(np.isfinite(item).all() and item.std() > 0 for item in first)
    assert (tmp_path / "m.onnx").stat().st_size < 10_000 < (tmp_path / "m.weights").stat().st_size


def test_a_network_that_mnn_quantised_is_measured_as_int8(tmp_path: Path) -> None:
    """Quantised by MNN's own tool, in a process of its own, since it ends with a crash now and then."""
    layers = (nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, 1, 1))
    plain = convert(read_torch(nn.Sequential(*layers), input_shape=(1, 3, 48, 48)), tmp_path / "plain.mnn")
    (tmp_path / "images").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    wanted = {"format": "RGB", "mean": [127.5] * 3, "normal": [1 / 127.5] * 3, "width": 48, "height": 48}
    wanted |= {"path": f"{tmp_path / 'images'}/", "used_image_num": 4, "batch_size": 2, "quant_bits": 8}
    wanted |= {"feature_quantize_method": "EMA", "weight_quantize_method": "MAX_ABS"}
    (tmp_path / "wanted.json").write_text(json.dumps(wanted))
    arguments = ["mnnquant", str(plain), str(tmp_path / "int8.mnn"), str(tmp_path / "wanted.json")]
    command = [sys.executable, "-c", f"import _tools; _tools.mnnquant({arguments})"]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    (times,), _ = measure_networks([tmp_path / "int8.mnn"], precision="int8", rounds=2, n_runs=2)
    assert times.latency_ms > 0
    executed = executed_ops(tmp_path / "int8.mnn", "int8")
    assert sum(op.type.startswith("Convolution") and "INT8" in op.type for op in executed) == 3
    with pytest.raises(MeasureError) as caught:
        measure_networks([plain], precision="int8", rounds=1)
    assert str(caught.value) == (
        f"Expected a quantised network for `precision` int8, but MNN runs no int8 op of {plain}: quantise it with "
        f"MNN's own mnnquant first, or measure with fp32."
    )
