"""Ops that are made of others: their multiply-accumulates by formula, their types, and the ops that they become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from latency_nas import ResourceCounter
from latency_nas.errors import GraphError
from latency_nas.graph import OpGraph
from latency_nas.graph.onnx.composites import rewritten
from latency_nas.graph.onnx.model import OnnxModel
from latency_nas.graph.onnx.reader import read_onnx
from latency_nas.kernel import n_macs

B, S, H = 2, 6, 16  # batch, steps, features


def model(
    node: onnx.NodeProto, inputs: dict[str, tuple[int, ...]], weights: dict[str, Any], *, opset: int = 18,
    kinds: dict[str, int] | None = None, outputs: Sequence[str] = ("y",),
) -> onnx.ModelProto:  # fmt: skip
    """A model of one node. A weight is a shape of floats, or an array."""
    arrays = {name: np.zeros(w, np.float32) if isinstance(w, tuple) else w for name, w in weights.items()}
    values = [
        helper.make_tensor_value_info(name, (kinds or {}).get(name, TensorProto.FLOAT), shape)
        for name, shape in inputs.items()
    ]
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(
        [node], "g", values, results, [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    )
    versions = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=versions)


def microsoft(op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, domain="com.microsoft", **attrs)


def ops(graph: OpGraph) -> list[str]:
    return [node.op for node in graph.nodes]


def macs(graph: OpGraph) -> int:
    return sum(n_macs(graph.kernel(node)) for node in graph.nodes)


def shapes(graph: OpGraph) -> list[tuple[int, ...]]:
    return [graph.values[index].shape for index in graph.outputs]


X = {"x": (B, S, H)}


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize(
    ("node", "weights", "expected"),
    [
        (microsoft("Gelu", ["x"]), {}, ["gelu"]),
        (microsoft("FastGelu", ["x", "b"]), {"b": (H,)}, ["add", "gelu"]),
        (microsoft("BiasGelu", ["x", "b"]), {"b": (H,)}, ["add", "gelu"]),
        (microsoft("FusedMatMul", ["x", "w"], transB=1, alpha=0.5), {"w": (4, H)}, ["linear", "mul"]),
        (microsoft("SkipLayerNormalization", ["x", "x", "w", "b"]), {"w": (H,), "b": (H,)}, ["add", "layer_norm"]),
        (microsoft("SkipSimplifiedLayerNormalization", ["x", "x", "w"]), {"w": (H,)}, ["add", "rms_norm"]),
        (helper.make_node("LayerNormalization", ["x", "w", "b"], ["y"]), {"w": (H,), "b": (H,)}, ["layer_norm"]),
        (helper.make_node("SimplifiedLayerNormalization", ["x", "w"], ["y"]), {"w": (H,)}, ["rms_norm"]),
        (helper.make_node("LpNormalization", ["x"], ["y"], p=1), {}, ["abs", "reduce_sum", "div"]),
        (helper.make_node("Mean", ["x", "x"], ["y"]), {}, ["add", "div"]),
    ],
    ids=lambda value: getattr(value, "op_type", None),
)
def test_ops_of_one_input(node: onnx.NodeProto, weights: dict[str, Any], expected: list[str], opset: int) -> None:
    graph = read_onnx(model(node, X, weights, opset=opset))
    assert ops(graph) == expected
    assert shapes(graph) == [(B, S, 4 if "FusedMatMul" in node.op_type else H)]


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("ReduceL1", ["abs", "reduce_sum"]), ("ReduceL2", ["mul", "reduce_sum", "sqrt"]),
        ("ReduceSumSquare", ["mul", "reduce_sum"]), ("ReduceLogSum", ["reduce_sum", "log"]),
        ("ReduceLogSumExp", ["exp", "reduce_sum", "log"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("opset", [11, 13, 18])
def test_reductions_of_every_opset(op: str, expected: list[str], opset: int) -> None:
    by_attribute = opset < 18
    inputs, attrs = (["x"], {"axes": [2]}) if by_attribute else (["x", "axes"], {})
    weights = {} if by_attribute else {"axes": np.array([2])}
    graph = read_onnx(model(helper.make_node(op, inputs, ["y"], **attrs), X, weights, opset=opset))
    assert (ops(graph), shapes(graph)) == (expected, [(B, S, 1)])


@pytest.mark.parametrize("extra", [{}, {"unidirectional": 1}, {"qkv_hidden_sizes": [16, 16, 32]}], ids=str)
def test_attention_of_one_product(extra: dict[str, Any]) -> None:
    values = extra.get("qkv_hidden_sizes", [H, H, H])[2]
    weights = {"w": (H, 2 * H + values), "b": (2 * H + values,)}
    node = microsoft("Attention", ["x", "w", "b", "mask"], num_heads=4, **extra)
    graph = read_onnx(model(node, {**X, "mask": (B, S)}, weights, kinds={"mask": TensorProto.INT32}))
    assert shapes(graph) == [(B, S, values)]
    assert macs(graph) == B * S * H * (2 * H + values) + B * S * S * (H + values)
    assert ops(graph).count("softmax") == 1
    assert not any(op.startswith("onnx") for op in ops(graph))


def test_attention_across_two_sequences_and_with_a_past() -> None:
    given = {"q": (B, S, H), "k": (B, 9, H), "v": (B, 9, H), "pk": (B, 4, 3, 4), "pv": (B, 4, 3, 4)}
    node = microsoft("MultiHeadAttention", ["q", "k", "v", "b", "", "", "pk", "pv"], ["y", "nk", "nv"], num_heads=4)
    graph = read_onnx(model(node, given, {"b": (3 * H,)}, outputs=["y", "nk", "nv"]))
    assert shapes(graph) == [(B, S, H), (B, 4, 12, 4), (B, 4, 12, 4)]
    assert macs(graph) == B * S * 12 * 2 * H
    split = microsoft("MultiHeadAttention", ["q", "k", "v"], num_heads=4)
    heads = {"q": (B, S, H), "k": (B, 4, 9, 4), "v": (B, 4, 9, 4)}
    assert macs(read_onnx(model(split, heads, {}))) == B * S * 9 * 2 * H


def test_embeddings_and_their_norm() -> None:
    weights = {"words": (100, H), "places": (50, H), "kinds": (2, H), "g": (H,), "c": (H,)}
    node = microsoft("EmbedLayerNormalization", ["ids", "", "words", "places", "", "g", "c", "mask"], ["y", "n"])
    ids = {"ids": (B, S), "mask": (B, S)}
    kinds = dict.fromkeys(ids, TensorProto.INT32)
    graph = read_onnx(model(node, ids, weights, kinds=kinds, outputs=["y", "n"]))
    assert ops(graph) == ["embedding", "add", "layer_norm", "reduce_sum"]
    assert shapes(graph) == [(B, S, H), (B,)]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (microsoft("FusedConv", ["x", "w", "b"], activation="Relu", pads=[1] * 4), ["conv2d", "relu"]),
        (microsoft("FusedConv", ["x", "w", "b", "z"], activation="Clip", activation_params=[0.0, 6.0], pads=[1] * 4),
         ["conv2d", "add", "relu6"]),
    ],
)  # fmt: skip
def test_fused_convolutions(node: onnx.NodeProto, expected: list[str]) -> None:
    graph = read_onnx(model(node, {"x": (1, 3, 8, 8), "z": (1, 4, 8, 8)}, {"w": (4, 3, 3, 3), "b": (4,)}))
    assert ops(graph) == expected
    assert macs(graph) == 4 * 3 * 9 * 64


def test_a_convolution_of_channels_that_come_last() -> None:
    node = microsoft("NhwcConv", ["x", "w", "b"], pads=[1] * 4, group=2)
    for weight in ((4, 2, 3, 3), (4, 3, 3, 2)):
        graph = read_onnx(model(node, {"x": (1, 8, 8, 4)}, {"w": weight, "b": (4,)}))
        assert ops(graph) == ["transpose", "conv2d", "transpose"]
        assert shapes(graph) == [(1, 8, 8, 4)]
        assert macs(graph) == 4 * 2 * 9 * 64


INT8 = {"s": np.float32(0.1), "z": np.uint8(3), "s4": np.ones(4, np.float32), "z4": np.zeros(4, np.uint8)}


@pytest.mark.parametrize(
    ("node", "weights", "expected"),
    [
        (microsoft("QLinearAdd", ["x", "s", "z", "x", "s", "z", "s", "z"]), {}, [("add", "int8")]),
        (microsoft("QLinearSigmoid", ["x", "s", "z", "s", "z"]), {}, [("sigmoid", "int8")]),
        (microsoft("QLinearConcat", ["s", "z", "x", "s", "z", "x", "s", "z"], axis=1), {}, [("concat", "int8")]),
        (microsoft("QLinearGlobalAveragePool", ["x", "s", "z", "s", "z"]), {}, [("pool2d", "int8")]),
        (helper.make_node("ConvInteger", ["x", "w", "z", "z4"], ["y"]), {"w": np.zeros((4, 3, 3, 3), np.uint8)},
         [("conv2d", "int8")]),
        (helper.make_node("QLinearConv", ["x", "s", "z", "w", "s4", "z4", "s", "z"], ["y"]),
         {"w": np.zeros((4, 3, 3, 3), np.uint8)}, [("conv2d", "int8")]),
    ],
    ids=lambda value: getattr(value, "op_type", None),
)  # fmt: skip
def test_quantised_ops_compute_in_int8(
    node: onnx.NodeProto, weights: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    graph = read_onnx(model(node, {"x": (1, 3, 8, 8)}, {**INT8, **weights}, kinds={"x": TensorProto.UINT8}))
    kernels = [graph.kernel(each) for each in graph.nodes]
    assert [(kernel.op, kernel.dtype) for kernel in kernels] == expected
    counted = ResourceCounter("params").predict(graph).value
    assert counted == sum(prod(array.shape) for array in weights.values())


@pytest.mark.parametrize(
    ("node", "kind", "expected"),
    [
        (microsoft("QGemm", ["x", "s", "z", "w", "s4", "z4", "c", "s", "z"]), TensorProto.UINT8, ["linear int8"]),
        (microsoft("QGemm", ["x", "s", "z", "w", "s4", "z4", "c"]), TensorProto.UINT8, ["linear int8", "cast fp32"]),
        (microsoft("MatMulIntegerToFloat", ["x", "w", "s", "s4", "z", "z4", "b"]), TensorProto.UINT8,
         ["linear int8", "cast fp32", "add fp32"]),
        (microsoft("DynamicQuantizeMatMul", ["x", "w", "s4", "z4"]), TensorProto.FLOAT,
         ["quantize int8", "linear int8", "cast fp32"]),
    ],
)  # fmt: skip
def test_quantised_products(node: onnx.NodeProto, kind: int, expected: list[str]) -> None:
    weights = {**INT8, "w": np.zeros((H, 4), np.uint8), "c": np.zeros(4, np.int32), "b": np.ones(4, np.float32)}
    graph = read_onnx(model(node, {"x": (B, H)}, weights, kinds={"x": kind}))
    kernels = [graph.kernel(each) for each in graph.nodes]
    assert [f"{kernel.op} {kernel.dtype}" for kernel in kernels] == expected
    assert macs(graph) == B * H * 4
    assert shapes(graph) == [(B, 4)]


def test_a_quantised_lstm_is_an_lstm_in_int8() -> None:
    weights = {"w": np.zeros((2, 8, 64), np.int8), "r": np.zeros((2, 16, 64), np.int8), "b": (2, 128), **INT8}
    inputs = ["x", "w", "r", "b", "", "", "", "", "s", "z", "s", "z"]
    node = microsoft("DynamicQuantizeLSTM", inputs, ["y"], hidden_size=16, direction="bidirectional")
    source = model(node, {"x": (S, B, 8)}, weights)
    graph = read_onnx(source)
    kernel = graph.kernel(graph.nodes[0])
    assert str(kernel) == f"lstm [{S},{B},8] -> [{S},{B},32] directions=2 hidden=16 dtype=int8"
    assert ops(graph)[1:] == ["reshape", "transpose"]
    assert shapes(graph) == [(S, 2, B, 16)]
    assert ResourceCounter("params").predict(graph).value == 2 * 64 * (8 + 16 + 2)


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("directions", [1, 2])
def test_recurrent_layers_of_all_layouts(op: str, gates: int, layout: int, directions: int) -> None:
    """With the lengths of the sequences and the first states as inputs."""
    hidden, direction = 16, {1: "reverse", 2: "bidirectional"}[directions]
    first = (B, directions, hidden) if layout else (directions, B, hidden)
    inputs = {"x": (B, S, 8) if layout else (S, B, 8), "lengths": (B,), "h": first}
    weights = {"w": (directions, gates * hidden, 8), "r": (directions, gates * hidden, hidden)}
    node = helper.make_node(
        op, ["x", "w", "r", "", "lengths", "h"], ["y", "last"], hidden_size=hidden, layout=layout, direction=direction
    )
    graph = read_onnx(model(node, inputs, weights, kinds={"lengths": TensorProto.INT32}, outputs=["y", "last"]))
    assert macs(graph) == S * B * directions * gates * hidden * (8 + hidden)
    assert shapes(graph) == [(B, S, directions, hidden) if layout else (S, directions, B, hidden), first]
    (layer,) = [graph.kernel(node) for node in graph.nodes if node.op == op.lower()]
    assert layer.inputs == ((S, B, 8),)


def test_a_form_that_is_not_known_keeps_its_name() -> None:
    node = microsoft("FusedConv", ["x", "w"], activation="Cubist")
    source = model(node, {"x": (1, 3, 8, 8)}, {"w": (4, 3, 3, 3)})
    source.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4, 6, 6)))
    assert ops(read_onnx(source)) == ["onnx.com.microsoft.FusedConv"]


FUNCTIONS = """<ir_version: 9, opset_import: ["": 18, "f": 1]>
g (float[2, 3] x, bool c) => (float[2, 3] y) { z = f.outer <slope: float = 0.5> (x)
  y = If (c) <then_branch = g1 () => (float[2, 3] a) { a = f.outer <slope: float = 0.25> (z) },
              else_branch = g2 () => (float[2, 3] b) { b = Tanh(z) }> }
<opset_import: ["": 18, "f": 1], domain: "f"> outer <slope> (x) => (y) { i = Constant <value_ints = [1]> ()
 m = ReduceMean(x, i)
 s = Sub(x, m)
 y = f.inner <alpha: float = @slope> (s) }
<opset_import: ["": 18], domain: "f"> inner <alpha> (x) => (y) { y = LeakyRelu <alpha: float = @alpha> (x) }"""


def test_functions_of_the_file_are_written_out() -> None:
    """Nested, with attributes by reference, and also within a branch."""
    graph = read_onnx(parser.parse_model(FUNCTIONS))
    assert ops(graph) == ["reduce_mean", "sub", "leaky_relu", "tanh", "reduce_mean", "sub", "leaky_relu", "branch"]


def test_a_function_of_another_opset_is_converted() -> None:
    text = (
        '<ir_version: 9, opset_import: ["": 18, "f": 1]> g (float[2, 3] x) => (float[2, 3] y) { y = f.mean(x) }'
        '<opset_import: ["": 13], domain: "f"> mean (x) => (y) { y = ReduceMean <axes = [1]> (x) }'
    )
    assert ops(read_onnx(parser.parse_model(text))) == ["reduce_mean"]


@pytest.mark.parametrize(
    ("bodies", "message"),
    [
        (["y = f.f0(x)"], "Expected functions of the given ONNX model that do not call themselves, but `f0` does."),
        (
            [f"z = f.f{number + 1}(x)\n y = f.f{number + 1}(z)" for number in range(20)] + ["y = Relu(x)"],
            "Expected the functions of the given ONNX model to write out at most 50000 nodes, but they do more.",
        ),
        (
            [f"y = f.f{number + 1}(x)" for number in range(101)] + ["y = Relu(x)"],
            "Expected functions of the given ONNX model that are at most 100 deep, but `f100` is deeper.",
        ),
    ],
    ids=["a circle", "doubling", "a chain"],
)
def test_functions_that_would_not_end(bodies: list[str], message: str) -> None:
    text = '<ir_version: 9, opset_import: ["": 18, "f": 1]> g (float[2, 3] x) => (float[2, 3] y) { y = f.f0(x) }'
    for number, body in enumerate(bodies):
        text += f'<opset_import: ["": 18, "f": 1], domain: "f"> f{number} (x) => (y) {{ {body} }}\n'
    with pytest.raises(GraphError) as caught:
        read_onnx(parser.parse_model(text))
    assert str(caught.value) == message


@pytest.mark.parametrize(("kind", "dtype"), [(TensorProto.FLOAT16, "fp16"), (TensorProto.BFLOAT16, "bf16")])
def test_models_of_half_precision(kind: int, dtype: str) -> None:
    x = helper.make_tensor_value_info("x", kind, (1, 3, 8, 8))
    half = helper.make_tensor("half", kind, (), [0.5])
    weight = helper.make_tensor("w", kind, (4, 3, 3, 3), np.zeros(108))
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Mul", ["a", "half"], ["b"]),
             helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT)]  # fmt: skip
    graph = helper.make_graph(nodes, "g", [x], [helper.make_empty_tensor_value_info("y")], [weight, half])
    read = read_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    kernels = [read.kernel(node) for node in read.nodes]
    assert [f"{kernel.op} {kernel.dtype}" for kernel in kernels] == [f"conv2d {dtype}", f"mul {dtype}", "cast fp32"]


def _with_sizes_beside(path: Path, location: str) -> Path:
    """A model that reshapes to sizes in another file."""
    sizes = onnx.TensorProto(name="s", data_type=TensorProto.INT64, dims=[2], data_location=TensorProto.EXTERNAL)
    sizes.external_data.add(key="location", value=location)
    text = (
        '<ir_version: 9, opset_import: ["": 18]> g (float[2, 8] x, int64[2] s) => (float[N, M] y) { y = Reshape(x, s) }'
    )
    source = parser.parse_model(text)
    del source.graph.input[1]
    source.graph.initializer.append(sizes)
    path.write_bytes(source.SerializeToString())
    return path


def test_data_beside_the_file_is_read_from_its_folder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    for folder in (tmp_path, tmp_path / "models"):
        (folder / "sizes.bin").write_bytes(np.array([4, 4], np.int64).tobytes())
    inside = _with_sizes_beside(tmp_path / "models/net.onnx", "sizes.bin")
    assert shapes(read_onnx(inside)) == [(4, 4)]
    monkeypatch.chdir(tmp_path)
    for source in (inside.read_bytes(), _with_sizes_beside(tmp_path / "models/out.onnx", "../sizes.bin")):
        with pytest.raises(GraphError, match="does not: it depends on values, on data that is not in the file"):
            read_onnx(source)


def numbers(node: onnx.NodeProto, inputs: dict[str, Any]) -> Any:
    """What the nodes compute that a node is rewritten to, by onnx's own evaluator."""
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in arrays.items()}
    source = model(node, {name: array.shape for name, array in arrays.items()}, {}, kinds=kinds)
    read = OnnxModel(name="net", proto=source, opset=18)
    read.tensors = {name: (array.shape, kinds[name]) for name, array in arrays.items()}
    nodes = rewritten(read, node)
    assert nodes is not None
    del source.graph.node[:]
    source.graph.node.extend(nodes)
    source.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in read.constants.items())
    return ReferenceEvaluator(source).run(None, arrays)[0]


def softmax(scores: Any) -> Any:
    exponents = np.exp(scores - scores.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def heads_of(x: Any) -> Any:
    return x.reshape(B, S, 4, H // 4).transpose(0, 2, 1, 3)


def test_attention_computes_what_its_definition_says() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((B, S, H)).astype(np.float32), rng.standard_normal((H, 3 * H)).astype(np.float32)
    b, mask = rng.standard_normal(3 * H).astype(np.float32), np.array([[1] * S, [1] * (S - 2) + [0] * 2], np.int32)
    query, key, value = (heads_of(part) for part in np.split(x @ w + b, 3, axis=-1))
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(H // 4)
    expected = softmax(np.where(mask[:, None, None], scores, -1e9)) @ value
    expected = expected.transpose(0, 2, 1, 3).reshape(B, S, H)
    node = microsoft("Attention", ["x", "w", "b", "mask"], num_heads=4)
    np.testing.assert_allclose(numbers(node, {"x": x, "w": w, "b": b, "mask": mask}), expected, rtol=1e-3, atol=1e-4)
    parts = {"q": x @ w[:, :H], "k": x @ w[:, H : 2 * H], "v": x @ w[:, 2 * H :], "b": b}
    bias = np.where(mask[:, None, None], 0.0, -1e9).astype(np.float32) * np.ones((1, 1, S, 1), np.float32)
    split = microsoft("MultiHeadAttention", ["q", "k", "v", "b", "", "bias"], num_heads=4)
    np.testing.assert_allclose(numbers(split, {**parts, "bias": bias}), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (microsoft("QuickGelu", ["x"]), lambda x: x / (1 + np.exp(-1.702 * x))),
        (microsoft("FusedMatMul", ["x", "x"], transB=1, alpha=0.5), lambda x: 0.5 * x @ x.transpose(0, 2, 1)),
        (microsoft("FusedMatMul", ["x", "x"], transA=1), lambda x: x.transpose(0, 2, 1) @ x),
        (helper.make_node("ReduceL2", ["x"], ["y"]), lambda x: np.sqrt((x**2).sum(keepdims=True))),
        (helper.make_node("ReduceLogSumExp", ["x"], ["y"]), lambda x: np.log(np.exp(x).sum(keepdims=True))),
        (helper.make_node("LpNormalization", ["x"], ["y"], axis=1, p=1), lambda x: x / abs(x).sum(1, keepdims=True)),
        (helper.make_node("MeanVarianceNormalization", ["x"], ["y"], axes=[0, 2]),
         lambda x: (x - x.mean((0, 2), keepdims=True)) / x.std((0, 2), keepdims=True)),
        (helper.make_node("Mean", ["x", "x", "x"], ["y"]), lambda x: x),
    ],
    ids=lambda value: getattr(value, "op_type", None),
)  # fmt: skip
def test_others_compute_what_their_definitions_say(node: onnx.NodeProto, expected: Callable[[Any], Any]) -> None:
    x = np.random.default_rng(0).standard_normal((B, S, H)).astype(np.float32)
    np.testing.assert_allclose(numbers(node, {"x": x}), expected(x), rtol=1e-3, atol=1e-4)
