"""Reading ONNX: the same kernels as from torch, programs in int8, and what is said of a file that cannot be read."""

from __future__ import annotations

import io
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from fuzz_onnx import SOUND, fuzz
from onnx import numpy_helper, parser, version_converter
from torch import Tensor, nn
from torch.nn import functional

from latency_nas.engine import fuse
from latency_nas.errors import GraphError, InputMismatchError
from latency_nas.graph.onnx.reader import read_onnx
from latency_nas.graph.reader import read_model
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import n_macs, n_params
from tests.zoo import ZOO, example_input

pytestmark = pytest.mark.usefixtures("exporter_tables_read_once")

HEAD = '<ir_version: 9, opset_import: ["": 18]>'
RELUS = HEAD + "g (float[N, 8] x) => (float[N, 8] y) { a = Relu(x)\n y = Relu(a) }"
BOTH_OPEN = HEAD + (
    "g (float[N, 8] x, int64[N, M] ids, float scale) => (float[N, 8] y, int64[N, M] z)"
    "{ y = Mul(x, scale)\n z = Identity(ids) }"
)
CONV = HEAD + (
    "g (float[1, 3, 8, 8] x) => (float[1, 4, 6, 6] y) <int64[4] s = {4, 3, 3, 3}>"
    "{ w = ConstantOfShape(s)\n y = Conv(x, w) }"
)


def model(text: str) -> onnx.ModelProto:
    return parser.parse_model(text if text.startswith("<") else HEAD + text)


def exported(network: nn.Module, example: Tensor, *, opset: int | None = None) -> bytes:
    """By torch's exporter, or for an older opset by the one before it."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):  # else the exporter drops those that are zero
            nn.init.uniform_(parameter)
    target = io.BytesIO()
    options = {"dynamo": True, "verbose": False} if opset is None else {"dynamo": False, "opset_version": opset}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), (example,), target, **options)
    return target.getvalue()


def kernels(graph: object) -> list[str]:
    return [str(call.kernel) for call in fuse(graph, "MNN")]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["U-Net with resize", "ViT-Ti/16"])
def test_torch_and_its_exported_onnx_give_the_same_kernels(name: str) -> None:
    network = ZOO[name][0]()
    read = read_onnx(exported(network, example_input(name)))
    assert kernels(read) == kernels(read_torch(network, example_input(name)))


class Spelt(nn.Module):
    """What older opsets have no op for."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.gelu(self.linear(self.norm(x)))
        x = functional.hardswish(x) + functional.silu(x)
        return functional.relu6(x).clamp(-1, 1)


def test_what_older_exporters_spell_out_is_put_together() -> None:
    network, example = Spelt(), torch.zeros(2, 5, 16)
    read = read_onnx(exported(network, example, opset=13))
    ops = ["layer_norm", "linear", "gelu", "hard_swish", "swish", "add", "relu6", "clip"]
    ours = read_torch(network, example)
    assert [node.op for node in read.nodes] == [node.op for node in ours.nodes] == ops
    ran, wanted = kernels(read), kernels(ours)
    place = next(number for number, kernel in enumerate(wanted) if kernel.startswith("hard_swish"))
    spelt = [kernel.split()[0] for kernel in ran[place : place + 4]]
    assert spelt == ["mul", "add", "relu6", "mul"], "MNN does not join x * hard_sigmoid(x)"
    assert ran[:place] + ran[place + 4 :] == wanted[:place] + wanted[place + 1 :]


def test_attention_module_and_lstm() -> None:
    network = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    example = torch.zeros(1, 4, 16)
    assert kernels(read_onnx(exported(network, example))) == kernels(read_torch(network, example))


class Recurrent(nn.Module):
    """The output sequence and the last state, as a classifier of sequences uses them."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.layer, self.head = kind(8, 16, **options), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sequence, state = self.layer(x)
        return sequence, self.head((state[0] if isinstance(state, tuple) else state)[-1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2, "batch_first": True}], ids=str)
def test_recurrent_layers(kind: type[nn.RNNBase], options: dict[str, Any]) -> None:
    network, example = Recurrent(kind, **options), torch.zeros(5, 2, 8)
    read = read_torch(network, example)
    ours = [read.kernel(node) for node in read.nodes if node.op in ("lstm", "gru", "rnn")]
    if kind is not nn.RNN:  # which the exporter writes step by step
        graph = read_onnx(exported(network, example))
        assert [graph.kernel(node) for node in graph.nodes if node.op in ("lstm", "gru")] == ours
    weights = sum(p.numel() for name, p in network.layer.named_parameters() if "weight" in name)
    assert sum(map(n_macs, ours)) == 10 * weights  # each of ten steps multiplies each weight once
    assert sum(map(n_params, ours)) == sum(p.numel() for p in network.layer.parameters())


def test_quantised_programs_of_both_forms_compute_in_int8() -> None:
    graph = read_onnx(model(SOUND[2]), input_shape=(1, 3, 8, 8))
    assert [f"{graph.kernel(node).op} {graph.kernel(node).dtype}" for node in graph.nodes[:4]] == [
        "quantize int8", "conv2d int8", "dequantize fp32", "pad fp32",
    ]  # fmt: skip
    qlinear = read_onnx(
        model(
            "g (int8[1, 4, 8, 8] x) => (int8[1, 4, 8, 8] y) <int8[4, 4, 1, 1] w = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, "
            "1, 1, 1, 1}, float s = {0.1}, int8 z = {0}> { y = QLinearConv(x, s, z, w, s, z, s, z) }"
        )
    )
    assert [str(qlinear.kernel(node)) for node in qlinear.nodes] == [
        "conv2d [1,4,8,8] -> [1,4,8,8] bias=0 dilation=[1,1] group=1 kernel=[1,1] pad=[0,0,0,0] stride=[1,1] dtype=int8"
    ]


def test_a_dequantiser_behind_another_is_kept() -> None:
    text = SOUND[2].replace("h = DequantizeLinear(e, scale, point)", "k = DequantizeLinear(e, scale, point)\n"
    "j = Cast <to = 3> (k)\n h = DequantizeLinear(j, scale, point)")  # fmt: skip
    ops = [node.op for node in read_onnx(model(text), input_shape=(1, 3, 8, 8)).nodes]
    assert ops[:5] == ["quantize", "conv2d", "dequantize", "cast", "dequantize"]


def test_constants_are_folded_and_unknown_ops_stay() -> None:
    text = SOUND[1].replace("y = Sub(g, z)", "e2 = Sub(g, z)\n y = Hardmax(e2)")
    ops = [node.op for node in read_onnx(model(text)).nodes]
    assert ops[-3:] == ["reduce_mean", "sub", "onnx.Hardmax"]
    assert not {"onnx.Shape", "gather", "slice", "concat"} & set(ops)
    foreign = model(
        '<ir_version: 9, opset_import: ["": 18, "acme": 1]> g (float[1] x) => (float[1] y) { y = acme.Op(x) }'
    )
    assert [node.op for node in read_onnx(foreign).nodes] == ["onnx.acme.Op"]


def test_weights_beside_the_file_are_not_opened(tmp_path: Path) -> None:
    network = model(CONV)
    weight = onnx.TensorProto(name="w", data_type=1, dims=[4, 3, 3, 3], data_location=onnx.TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="lost.data")
    del network.graph.node[0], network.graph.initializer[:]
    network.graph.initializer.append(weight)
    path = tmp_path / "net.onnx"
    onnx.save(network, path)
    assert [node.op for node in read_model(path).nodes] == ["conv2d"]
    assert read_model(path) == read_model(path.read_bytes()) == read_model(network)


def test_sizes_are_given_by_one_shape_or_by_name() -> None:
    assert read_onnx(model(RELUS), input_shape=(3, 8)) == read_onnx(model(RELUS), input_shape={"x": (3, 8)})
    both = read_onnx(model(BOTH_OPEN), input_shape={"x": (3, 8), "ids": (3, 5)})
    assert [both.values[index].shape for index in both.inputs] == [(3, 8), (3, 5), ()]
    one_open = BOTH_OPEN.replace("N, M", "3, 5")
    assert read_onnx(model(one_open), input_shape=(3, 8)) == both


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        (RELUS, None, "Expected `input_shape` for the input `x` (N, 8) of {}, whose sizes are open."),
        (
            BOTH_OPEN,
            None,
            ("Expected `input_shape` for the inputs `x` (N, 8), `ids` (N, M) of {}, whose sizes are open: give "
            "input_shape={{'x': (...), 'ids': (...)}}, or --input-shape x=... --input-shape ids=...."),
        ),
        (
            BOTH_OPEN,
            (3, 8),
            ("Expected `input_shape` to name inputs of {} (x, ids, scale), but got one shape, (3, 8): give "
            "input_shape={{'x': (...), 'ids': (...)}}, or --input-shape x=... --input-shape ids=...."),
        ),
        (RELUS, (3,), "Expected `input_shape` for the input `x` of {} to have 2 sizes, but got (3,)."),
        (RELUS, {"z": (1, 8)}, "Expected `input_shape` to name inputs of {} (x), but got 'z'."),
        (
            RELUS,
            (0, 8),
            "Expected `input_shape` to be a sequence of positive integers such as (1, 3, 224, 224), but got (0, 8).",
        ),
        (
            CONV,
            (1, 4, 8, 8),
            "Expected Conv `y` of {} to be a valid Conv, but its weights take 3 channels and it is given 4.",
        ),
    ],
)  # fmt: skip
def test_an_input_that_does_not_fit(text: str, shape: tuple[int, ...] | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(model(text), path)
    with pytest.raises(InputMismatchError) as caught:
        read_onnx(path, input_shape=shape)
    assert str(caught.value) == message.format(path)


KINDS = (
    "Expected tensors of {} to be of types FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64, BOOL, FLOAT16, DOUBLE, "
    "UINT32, UINT64, BFLOAT16, UINT4, INT4, but got "
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("a = Relu(x)", "a = Relu(y)"),
            "Expected {} to be free of cycles, but Relu `a` waits for its own output.",
        ),
        (
            ("a = Relu(x)", "a = Mul(x, weight)"),
            "Expected {} to hold all that it reads, but it lacks `weight`, an initializer or input that Mul `a` needs.",
        ),
        (("y = Relu(a)", "b = Relu(a)"), "Expected {} to hold all of its outputs, but nothing makes `y`."),
        (("y = Relu(a)", "a = Relu(x)"), "Expected each tensor of {} once, but Relu `a` makes `a` again."),
        (
            ("g (float[", "g (float8e4m3fn["),
            KINDS + "FLOAT8E4M3FN.",
        ),
        (
            ("a = Relu(x)", "c = Cast <to = 8> (x)\n a = Cast <to = 1> (c)"),
            KINDS + "STRING, at Cast `c`.",
        ),
        (("a = Relu(x)\n y = Relu(a)", ""), "Expected {} to be an ONNX model, but it has no nodes."),
        (
            ("a = Relu(x)", "n = NonZero(x)\n a = Cast <to = 1> (n)"),
            "Expected every shape of {} to follow from its inputs', but that of `n`, made by NonZero `n`, does not: "
            "it depends on values, on data that is not in the file, or the op is not known to onnx "
            + onnx.__version__
            + ".",
        ),
    ],
)
def test_a_model_that_is_unsound(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(model(RELUS.replace("N", "1").replace(*change)), path)
    with pytest.raises(GraphError) as caught:
        read_onnx(path)
    assert str(caught.value) == message.format(path)


def test_files_cut_off_at_every_tenth_and_random_bytes(tmp_path: Path) -> None:
    whole = model(SOUND[0]).SerializeToString()
    path = tmp_path / "net.onnx"
    for data in [*(whole[: len(whole) * tenth // 10] for tenth in range(1, 10)), random.Random(0).randbytes(1000)]:
        path.write_bytes(data)
        with pytest.raises(GraphError) as caught:
            read_onnx(path)
        assert str(caught.value) == f"Expected {path} to be an ONNX model, but it is truncated or of another format."
    path.write_bytes(b"")
    with pytest.raises(GraphError) as caught:
        read_onnx(path)
    assert str(caught.value) == f"Expected {path} to be an ONNX model, but it has no opset."
    with pytest.raises(GraphError) as caught:
        read_onnx(tmp_path / "lost.onnx")
    lost = tmp_path / "lost.onnx"
    assert str(caught.value) == (
        f"Expected {lost} to be an ONNX file, but it cannot be read: No such file or directory."
    )


def test_damaged_models_are_read_or_refused() -> None:
    outcomes, _ = fuzz(2000, seed=1)  # a hang ends the process, which is an outcome
    assert set(outcomes) <= {"read", "GraphError", "InputMismatchError"}, outcomes
    assert sum(outcomes.values()) == 2000


def test_shapes_follow_from_the_inputs_and_not_from_stale_declarations(caplog: pytest.LogCaptureFixture) -> None:
    text = (
        "g (float[1, 3, 64, 64] x) => (float[1, 4, 8, 8] y) <float[4, 3, 3, 3] w, float[1, 4, 8, 8] a>"
        "{ a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w)\n y = Relu(a) }"
    )
    stale = model(text)
    stale.graph.initializer.append(numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "w"))
    graph = read_onnx(stale)
    assert [graph.values[index].shape for index in graph.outputs] == [(1, 4, 32, 32)]
    assert "declares the shape [1, 4, 8, 8] for Conv" in caplog.text


def test_a_reshape_that_is_fixed_for_another_input() -> None:
    text = "g (float[N, 8] x) => (float[2, 4] y) { s = Constant <value_ints = [2, 4]> ()\n y = Reshape(x, s) }"
    with pytest.raises(InputMismatchError, match="fixed for another input shape"):
        read_onnx(model(text), input_shape=(3, 8))


def test_a_clip_to_bounds_that_are_computed() -> None:
    text = "g (float[2, 8] x, float low, float top) => (float[2, 8] y) { a = Clip(x, low, top)\n y = Clip(a, , top) }"
    graph = read_onnx(model(text))
    x, low, top = graph.inputs
    assert [(node.op, node.inputs) for node in graph.nodes] == [
        ("maximum", (x, low)),
        ("minimum", (graph.nodes[0].outputs[0], top)),
        ("minimum", (graph.nodes[1].outputs[0], top)),
    ]


def test_a_slice_backwards_is_a_flip_and_padding_by_nothing_is_idle() -> None:
    text = (
        "g (float[2, 8] x) => (float[2, 8] y) { m = Constant <value_ints = [-1]> ()\n"
        "e = Constant <value_ints = [-9]> ()\n o = Constant <value_ints = [1]> ()\n"
        "z = Constant <value_ints = [0, 0, 0, 0]> ()\n a = Slice(x, m, e, o, m)\n y = Pad(a, z) }"
    )
    graph = read_onnx(model(text))
    assert [(node.op, dict(node.attrs)) for node in graph.nodes] == [("flip", {"axes": (1,)})]


def test_operands_that_do_not_make_what_the_file_says() -> None:
    text = "g (float[2, 8] x, float[1, 1, 8] z) => (float[2, 8] y) { y = Add(x, z) }"
    with pytest.raises(InputMismatchError) as caught:
        read_onnx(model(text))
    assert str(caught.value) == (
        "Expected Add `y` of the given ONNX model to be a valid Add, but its inputs make [1, 2, 8], and the file says "
        "[2, 8]."
    )


def test_sums_of_several_are_chains_of_two() -> None:
    graph = read_onnx(model("g (float[2, 8] x, float[2, 8] v, float[8] w) => (float[2, 8] y) { y = Sum(x, v, w) }"))
    assert [str(graph.kernel(node)) for node in graph.nodes] == [
        "add [2,8] [2,8] -> [2,8] dtype=fp32", "add [2,8] [8] -> [2,8] dtype=fp32",
    ]  # fmt: skip


def test_a_product_of_constants_by_gemm_is_an_addition() -> None:
    text = "g (float[2, 3] x) => (float[2, 3] y) <int64[2] s = {2, 8}, int64[2] t = {8, 3}> {"
    text += "a = ConstantOfShape(s)\n b = ConstantOfShape(t)\n y = Gemm(a, b, x) }"
    graph = read_onnx(model(text))
    assert [str(graph.kernel(node)) for node in graph.nodes] == ["add [2,3] -> [2,3] dtype=fp32"]


def test_products_of_activations_by_gemm() -> None:
    text = "g (float[8, 2] x, float[8, 3] v, float[3] w) => (float[2, 3] y) { y = Gemm <transA = 1> (x, v, w) }"
    graph = read_onnx(model(text))
    assert [node.op for node in graph.nodes] == ["transpose", "matmul", "add"]
    assert n_macs(graph.kernel(graph.nodes[1])) == 2 * 8 * 3


OPSET_9 = """<ir_version: 8, opset_import: ["": 9]>
g (float[1, 8, 8, 8] x) => (float[1, 4] y, float[1, 3] t) <int64[4] ws = {8, 8, 3, 3}, int64[1] bs = {8},
  float[4] up = {1.0, 1.0, 2.0, 2.0}, int64[2] fs = {4, 4}> {
    w = ConstantOfShape(ws)
    b = ConstantOfShape(bs)
    f = ConstantOfShape(fs)
    c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
    n = BatchNormalization (c, b, b, b, b)
    r = Clip <min = 0.0, max = 6.0> (n)
    q = Pad <pads = [0, 0, 1, 1, 0, 0, 1, 1]> (r)
    u = Upsample <mode = "nearest"> (q, up)
    s = Slice <axes = [2, 3], starts = [0, 0], ends = [10, 10]> (u)
    h, k = Split <axis = 1, split = [4, 4]> (s)
    d = Dropout <ratio = 0.5> (h)
    m = ReduceMean <axes = [2, 3], keepdims = 0> (d)
    e = Unsqueeze <axes = [1]> (m)
    g = Squeeze <axes = [1]> (e)
    z = Gemm(g, f, m)
    y = Softmax <axis = 1> (z)
    t, i = TopK <k = 3, axis = 1> (y)
}"""


@pytest.mark.parametrize("opset", [*range(10, 24)])
def test_every_opset_gives_the_same_kernels(opset: int) -> None:
    source = parser.parse_model(OPSET_9)
    first, later = (
        [str(graph.kernel(node)) for node in graph.nodes]
        for graph in map(read_onnx, (source, version_converter.convert_version(source, opset)))
    )
    assert first == later
    assert [kernel.split()[0] for kernel in first] == [
        "conv2d", "batch_norm", "relu6", "pad", "resize", "slice", "split", "reduce_mean", "reshape", "reshape",
        "linear", "add", "softmax", "topk",
    ]  # fmt: skip
