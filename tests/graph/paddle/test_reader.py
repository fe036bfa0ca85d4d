"""Paddle's two formats: kernels by each and by Paddle-Lite's own optimiser, in int8, and what bad files say."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from latency_nas import ResourceCounter
from latency_nas.engine import fuse
from latency_nas.engine.paddle_lite.lowering import lower_lite
from latency_nas.errors import GraphError, InputMismatchError
from latency_nas.graph import OpGraph
from latency_nas.graph.paddle.proto import ProgramDesc
from latency_nas.graph.paddle.reader import read_paddle
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import OPS, n_macs
from latency_nas.table.formats.paddleslim.keys import parse_paddleslim_key
from tests.paddle_zoo import OPEN_SHAPES, OWN, QUANTISED, SUMS, TWINS, export
from tests.zoo import ZOO

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SMALL = ("mobilenet_v2", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1")
NETWORKS = (*(name for name in OWN if name != "activations"), *SMALL)
SUFFIXES = (".pdmodel", ".json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("paddle", reason="exports need paddlepaddle")
    return export(
        tmp_path_factory.mktemp("paddle"),
        *NETWORKS,
        QUANTISED,
        SUMS,
        *OPEN_SHAPES,
        *(f"{name}-open" for name in OPEN_SHAPES),
    )


def macs(graph: OpGraph) -> int:
    return sum(n_macs(call.kernel) for call in fuse(graph, "Paddle-Lite"))


def keys(graph: OpGraph) -> Counter[str]:
    return Counter(call.kernel.key for call in fuse(graph, "Paddle-Lite"))


@pytest.mark.parametrize("name", NETWORKS)
def test_both_formats_give_the_same_kernels(folder: Path, name: str) -> None:
    files = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    older, newer = (keys(read_paddle(file, folder / f"{name}.pdiparams")) for file in files)
    assert older == newer


@pytest.mark.parametrize("name", OPEN_SHAPES)
def test_open_sizes_follow_from_the_input(folder: Path, name: str) -> None:
    """What the program computes from its input's shape is what a program of that shape says."""
    fixed = [keys(read_paddle(folder / f"{name}{suffix}")) for suffix in SUFFIXES]
    assert {key.split()[0] for key in fixed[0]} <= {*OPS, "paddle.scale"}
    opened = [keys(read_paddle(folder / f"{name}-open{suffix}", input_shape=OPEN_SHAPES[name])) for suffix in SUFFIXES]
    assert fixed[0] == fixed[1] == opened[0] == opened[1]


def test_open_sizes_of_another_input(folder: Path) -> None:
    """Twice the batch is twice the work, and windows are padded to whole ones."""
    files = [folder / f"swin-open{suffix}" for suffix in SUFFIXES]
    one, two = ([macs(read_paddle(file, input_shape=(n, 3, 72, 64))) for file in files] for n in (1, 2))
    assert two == [2 * n for n in one]
    padded, whole = ([macs(read_paddle(file, input_shape=(1, 3, height, 64))) for file in files] for height in (72, 80))
    n_patches, n_merged = 2 * 16, 2 * 16 // 4  # of 4 x 4 pixels, in the 8 rows between
    assert [more - less for more, less in zip(whole, padded, strict=True)] == [
        n_patches * 32 * 3 * 16 + n_merged * 128 * 64
    ] * 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_recurrent_layers_are_those_of_torch(folder: Path, suffix: str) -> None:
    """One kernel a layer; the last states, which the network gives too, are parts of the sequence."""
    made = [call.kernel.key for call in fuse(read_paddle(folder / f"recogniser{suffix}"), "Paddle-Lite")]
    layers = nn.LSTM(32, 24, 2, bidirectional=True), nn.GRU(48, 24, 2), nn.RNN(24, 24, bidirectional=True)
    twins = [read_torch(layer, torch.ones(32, 2, layer.input_size)) for layer in layers]
    expected = [graph.kernel(node).key for graph in twins for node in graph.nodes if node.op in ("lstm", "gru", "rnn")]
    assert [key for key in made if key.startswith(("lstm", "gru", "rnn"))] == expected
    assert [key for key in made if key.startswith(("slice", "concat"))] == [
        *["slice [32,2,24] -> [1,2,24] axes=[0] starts=[31] dtype=fp32"] * 2,
        "concat [1,2,24] [1,2,24] -> [2,2,24] axis=0 dtype=fp32",
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sums_are_additions_and_vectors_are_matrices(folder: Path, suffix: str) -> None:
    made = [call.kernel.key for call in fuse(read_paddle(folder / f"sums{suffix}"), "Paddle-Lite")]
    assert [key for key in made if "conv2d" not in key] == [
        *["add [1,8,16,16] [1,8,16,16] -> [1,8,16,16] dtype=fp32"] * 2,
        "linear [1,8,16,16] -> [1,8,16,1] bias=0 dtype=fp32",
        "reshape [1,8,16,1] -> [1,8,16] dtype=fp32",
        "slice [1,8,16,16] -> [16] axes=[0,1,2] starts=[0,0,0] dtype=fp32",
        "reshape [16] -> [16,1] dtype=fp32",
        "matmul [1,8,16,16] [16,1] -> [1,8,16,1] dtype=fp32",
        "reshape [1,8,16,1] -> [1,8,16] dtype=fp32",
        "matmul [1,16] [1,8,16,16] -> [1,8,1,16] dtype=fp32",
        "reshape [1,8,1,16] -> [1,8,16] dtype=fp32",
    ]


def test_stale_shapes_are_not_believed(folder: Path, tmp_path: Path) -> None:
    """Tools that edit a program leave the shapes between its operators as they were."""
    program = ProgramDesc.FromString((folder / "resnet18.pdmodel").read_bytes())
    block = program.blocks[0]
    made = {name for op in block.ops for slot in op.outputs for name in slot.arguments if op.type != "feed"}
    for variable in block.vars:
        if variable.name in made and not variable.persistable:
            sizes = variable.type.dense_tensor.tensor.dims
            sizes[:] = [7 * size for size in sizes]
    path = tmp_path / "stale.pdmodel"
    path.write_bytes(program.SerializeToString())
    assert keys(read_paddle(path)) == keys(read_paddle(folder / "resnet18.pdmodel"))


@pytest.mark.parametrize("name", [name for name in SMALL if name in TWINS])
def test_both_formats_have_the_parameters_of_the_torch_network(folder: Path, name: str) -> None:
    """Running statistics, which Paddle keeps among its parameters, are none."""
    n_params = sum(parameter.numel() for parameter in ZOO[TWINS[name]][0]().parameters())
    counter = ResourceCounter("params", engine="Paddle-Lite")
    assert [counter.predict(folder / f"{name}{suffix}").value for suffix in SUFFIXES] == [n_params, n_params]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_quantised_programs_compute_in_int8(folder: Path, suffix: str) -> None:
    """And are found in a table by PaddleSlim's keys, which know neither activation nor bias."""
    made = [call.kernel for call in fuse(read_paddle(folder / f"{QUANTISED}{suffix}"), "Paddle-Lite")]
    conv = "act=relu bias=1 dilation=[1,1] group={} kernel=[{},{}] pad=[{},{},{},{}] stride=[1,1] dtype=int8"
    assert [kernel.key for kernel in made] == [
        "quantize [1,3,16,16] -> [1,3,16,16] dtype=int8",
        f"conv2d [1,3,16,16] -> [1,8,16,16] {conv.format(1, 3, 3, 1, 1, 1, 1)}",
        f"conv2d [1,8,16,16] -> [1,8,16,16] {conv.format(8, 3, 3, 1, 1, 1, 1)}",
        f"conv2d [1,8,16,16] -> [1,16,16,16] {conv.format(1, 1, 1, 0, 0, 0, 0)}",
        "pool2d [1,16,16,16] -> [1,16,1,1] global=1 kernel=[16,16] pad=[0,0,0,0] stride=[1,1] type=avg dtype=fp32",
        "reshape [1,16,1,1] -> [1,16] dtype=fp32",
        "quantize [1,16] -> [1,16] dtype=int8",
        "linear [1,16] -> [1,10] bias=1 dtype=int8",
    ]
    for kernel, key in zip(
        made[1:4],
        (
            "conv2d in=(1, 3, 16, 16) weight=(8, 3, 3, 3) out=(1, 8, 16, 16) pad=1 stride=1 group=1",
            "depthwise_conv2d in=(1, 8, 16, 16) weight=(8, 1, 3, 3) out=(1, 8, 16, 16) pad=1 stride=1 group=8",
            "conv2d in=(1, 8, 16, 16) weight=(16, 8, 1, 1) out=(1, 16, 16, 16) pad=0 stride=1 group=1",
        ),
        strict=True,
    ):
        assert kernel.without(("act", "bias")) == parse_paddleslim_key(f"{key} dilation=1 quant=True bit_length=8")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("lite_python")
def test_opt_makes_these_kernels(folder: Path, name: str) -> None:
    model = folder / f"{name}.pdmodel"
    assert keys(read_paddle(model)) == Counter(call.kernel.key for call in lower_lite(model))


@pytest.mark.parametrize(
    ("suffix", "lacks"),
    [
        (".pdmodel", "(protobuf), but it holds no operators"),
        (".json", "(JSON), but it is truncated or something else (Expecting value: line 1 column 1 (char 0))"),
    ],
)
def test_truncated_anywhere(folder: Path, tmp_path: Path, suffix: str, lacks: str) -> None:
    data = (folder / f"gates{suffix}").read_bytes()
    path = tmp_path / f"cut{suffix}"
    for tenth in range(10):
        path.write_bytes(data[: len(data) * tenth // 10])
        with pytest.raises(GraphError) as caught:
            read_paddle(path)
        assert str(path) in str(caught.value)
    path.write_bytes(b"")
    with pytest.raises(GraphError) as caught:
        read_paddle(path)
    assert str(caught.value) == f"Expected {path} to be a Paddle program {lacks}."


@pytest.mark.parametrize(
    ("suffix", "kind", "reason"),
    [
        (".pdmodel", "protobuf", "Error parsing message with type 'latency_nas.paddle.ProgramDesc'"),
        (".json", "JSON", "'utf-16-le' codec can't decode byte 0x01 in position 254: truncated data"),
    ],
)
def test_random_bytes(tmp_path: Path, suffix: str, kind: str, reason: str) -> None:
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(bytes(range(255, 0, -1)))
    with pytest.raises(GraphError) as caught:
        read_paddle(path)
    text = str(caught.value).replace(": Wire format was corrupt", "")  # which not every version of protobuf adds
    assert text == f"Expected {path} to be a Paddle program ({kind}), but it is truncated or something else ({reason})."


def test_files_that_are_missing(folder: Path, tmp_path: Path) -> None:
    model, weights = tmp_path / "none.json", tmp_path / "none.pdiparams"
    with pytest.raises(GraphError) as caught:
        read_paddle(model)
    assert str(caught.value) == (
        f"Expected a Paddle program at {model}, but it cannot be read (No such file or directory)."
    )
    model = folder / "gates.json"
    with pytest.raises(GraphError) as caught:
        read_paddle(model, weights)
    assert str(caught.value) == (
        f"Expected the weights of {model} at {weights}, but they cannot be read (No such file or directory)."
    )
    weights.write_bytes(b"12345")
    with pytest.raises(GraphError) as caught:
        read_paddle(model, weights)
    assert str(caught.value) == (
        f"Expected {weights} to hold the 4208 bytes of weights that {model} names, but it has 5 bytes: "
        f"it is truncated or belongs to another model."
    )


def test_open_sizes(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "resnet18.json").read_text())

    def opened(item: object) -> object:
        if isinstance(item, list):
            return [-1, 3, -1, -1] if item == [1, 3, 64, 64] else [opened(part) for part in item]
        return {key: opened(part) for key, part in item.items()} if isinstance(item, dict) else item

    path = tmp_path / "open.json"
    path.write_text(json.dumps(opened(content)))
    with pytest.raises(GraphError) as caught:
        read_paddle(path)
    assert str(caught.value) == (
        f"Expected the input 'x' of {path} to have fixed sizes, but they are (-1, 3, -1, -1): give `input_shape`."
    )
    with pytest.raises(InputMismatchError) as caught:
        read_paddle(path, input_shape=(1, 4, 64, 64))
    assert str(caught.value) == (
        f"Expected `input_shape` to fit the input 'x' of {path}, whose shape is (-1, 3, -1, -1), "
        f"but got (1, 4, 64, 64)."
    )
    with pytest.raises(InputMismatchError) as caught:
        read_paddle(path, input_shape={"y": (1, 3, 64, 64)})
    assert str(caught.value) == (
        f"Expected `input_shape` to fit the inputs of {path} ('x' of shape (-1, 3, -1, -1)), one shape or a shape for "
        "each by name, but got {'y': (1, 3, 64, 64)}."
    )
    by_name = read_paddle(path, input_shape={"x": (1, 3, 64, 64)})
    assert by_name.nodes == read_paddle(path, input_shape=(1, 3, 64, 64)).nodes


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_programs_are_read_or_refused(folder: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from fuzz_paddle import fuzz

    files = [(folder / f"{name}{suffix}").read_bytes() for name in ("encoder", "gates", "head", "residuals", "unet")]
    report = fuzz(suffix, files, 400, seed=7)
    assert ", 0 crashes, " in report, report
