"""`If`, `Loop` and `Scan`: what runs, which of their names hide others, and what they cost."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from latency_nas import LatencyEstimator, ResourceCounter
from latency_nas.engine import fuse
from latency_nas.errors import GraphError, InputMismatchError, MissingKernelError
from latency_nas.graph import OpGraph
from latency_nas.graph.branches import decide_branches, open_branches
from latency_nas.graph.onnx.reader import read_onnx

HEAD = '<ir_version: 9, opset_import: ["": 18]>'
ONE = "one = Constant <value_ints = [1]> ()\n"
SMALL = "then_branch = g1 () => (float[1, 8] a) { a = Relu(x) }"
LARGE = "else_branch = g2 () => (float[1, 8] a) { h = MatMul(x, w)\n a = Tanh(h) }"
BY_INPUT = (
    "g (float[1, 8] x, bool c) => (float[1, 8] y) <int64[2] s = {8, 8}> { w = ConstantOfShape(s)\n"
    f"i = If(c) <{SMALL}, {LARGE}>\n y = Sigmoid(i) }}"
)


def model(text: str, **weights: tuple[int, ...]) -> onnx.ModelProto:
    made = parser.parse_model(HEAD + text)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in weights.items()}
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return made


def ops(graph: OpGraph) -> list[str]:
    return [node.op for node in graph.nodes]


def macs(source: Any) -> float:
    return ResourceCounter("macs").predict(source.SerializeToString()).value


@pytest.mark.parametrize(("rows", "expected"), [(1, ["relu", "sigmoid"]), (4, ["linear", "tanh", "sigmoid"])])
def test_a_condition_that_follows_from_shapes_is_its_branch(rows: int, expected: list[str]) -> None:
    """As exporters write a squeeze that depends on a size."""
    text = (
        "g (float[N, 8] x) => (float[N, 8] y) <int64[2] s = {8, 8}> { w = ConstantOfShape(s)\n z = Shape(x)\n"
        + ONE
        + "i = Constant <value_int = 0> ()\n n = Gather(z, i)\n c = Equal(n, one)\n"
        + f"k = If(c) <{SMALL}, {LARGE}>\n y = Sigmoid(k) }}"
    )
    graph = read_onnx(model(text.replace("float[1, 8] a", "float[N, 8] a")), input_shape=(rows, 8))
    assert ops(graph) == expected
    assert open_branches(graph) == ()


def test_a_condition_on_values_is_an_interval() -> None:
    graph = read_onnx(model(BY_INPUT))
    assert open_branches(graph) == ("If `i` on `c`",)
    networks = {decided.decisions: ops(decided.graph) for decided in decide_branches(graph)}
    assert networks == {
        (("If `i` on `c`", False),): ["linear", "tanh", "sigmoid"], (("If `i` on `c`", True),): ["relu", "sigmoid"],
    }  # fmt: skip
    estimate = ResourceCounter("macs").predict(model(BY_INPUT).SerializeToString())
    assert (estimate.low, estimate.high, estimate.value) == (0, 64, 64)
    assert str(estimate).startswith("64 MACs, down to 0 MACs by the condition of If `i` on `c` (")
    with pytest.raises(GraphError) as caught:
        fuse(graph, "MNN")
    assert str(caught.value) == (
        "Expected a network whose ops follow from the shapes of its inputs, but their values decide If `i` on `c`: "
        "`LatencyEstimator.predict` gives the interval of what it can cost, `decide_branches` what can run."
    )


def test_what_computes_a_condition_is_part_of_the_cost() -> None:
    text = BY_INPUT.replace("bool c)", "float[8, 8] t)").replace(
        "i = If", "p = MatMul(t, t)\n r = ReduceSum <keepdims = 0> (p)\n z = Constant <value_float = 0.0> ()\n"
        "c = Greater(r, z)\n i = If"
    )  # fmt: skip
    counted = ResourceCounter("macs").predict(model(text).SerializeToString())
    assert (counted.low, counted.high) == (512, 512 + 64)


def test_conditions_are_combined_once_where_they_are_one() -> None:
    """Two branches on one condition, the second within the first and after it, on a third that is its own."""
    inner = (
        "then_branch = g1 () => (float[1, 8] a) { a = If(d) <then_branch = g3 () => (float[1, 8] b) { b = Abs(x) }, "
    )
    inner += "else_branch = g4 () => (float[1, 8] b) { b = Neg(x) }> }"
    text = BY_INPUT.replace(SMALL, inner).replace("bool c", "bool c, bool d").replace("y = Sigmoid(i)", (
        "j = If(c) <then_branch = g5 () => (float[1, 8] a) { a = Sin(i) }, "
        "else_branch = g6 () => (float[1, 8] a) { a = Cos(i) }>\n y = Sigmoid(j)"
    ))  # fmt: skip
    found = {tuple(ops(decided.graph)) for decided in decide_branches(read_onnx(model(text)))}
    assert found == {
        ("linear", "tanh", "cos", "sigmoid"), ("abs", "sin", "sigmoid"), ("neg", "sin", "sigmoid")
    }  # fmt: skip


def test_names_of_a_branch_hide_those_around_it() -> None:
    """Both branches have a weight `w`, and both name what they make `h`, as the graph around them does."""
    text = (
        "g (float[1, 8] x, bool c) => (float[1, 4] y) { h = Relu(x)\n"
        "y = If(c) <then_branch = g1 () => (float[1, 4] o) { w = Constant <value = float[8, 4] {0}> ()\n"
        "o = MatMul(h, w) }, else_branch = g2 () => (float[1, 4] o) { k = MatMul(h, v)\n o = Relu(k) }> }"
    ).replace(
        "w = Constant <value = float[8, 4] {0}> ()", "s = Constant <value_ints = [8, 4]> ()\n w = ConstantOfShape(s)"
    )
    graph = read_onnx(model(text, v=(8, 4)))
    (no, yes) = (decided.graph for decided in decide_branches(graph))
    assert ops(no) == ["relu", "linear", "relu"]
    assert ops(yes) == ["relu", "linear"]
    assert [node.name for node in yes.nodes] == ["h/relu", "y/o/linear"]
    counted = ResourceCounter("params").predict(model(text, v=(8, 4)).SerializeToString())
    assert counted.high == 32


def test_a_branch_that_cannot_run_is_named(caplog: pytest.LogCaptureFixture) -> None:
    text = (
        "g (float[4, 8] x, bool c) => (float[4, 2] y) <int64[2] s = {8, 2}> { w = ConstantOfShape(s)\n"
        "y = If(c) <then_branch = g1 () => (float[4, 2] a) { a = MatMul(x, w) },"
        "else_branch = g2 () => (float[4, 2] b) { b = MatMul(w, x) }> }"
    )
    with caplog.at_level(logging.WARNING):
        assert ops(read_onnx(model(text))) == ["linear"]
    assert "the second branch of If `y` on `c` cannot run (MatMul `y/b`: its inputs are [8, 2], [4, 8]" in caplog.text


def test_branches_of_different_shapes_are_refused() -> None:
    text = (
        "g (float[4, 8] x, bool c) => (float[N, M] y) {"
        "y = If(c) <then_branch = g1 () => (float[4, 8] a) { a = Relu(x) },"
        "else_branch = g2 () => (float[8, 4] b) { b = Transpose(x) }> }"
    )
    with pytest.raises(GraphError) as caught:
        read_onnx(model(text))
    assert str(caught.value) == (
        "Expected both branches of If `y` on `c` in the given ONNX model to give tensors of one shape, but they give "
        "[8, 4] and [4, 8], and the condition depends on the values of an input."
    )


def test_too_many_conditions_are_refused() -> None:
    names = [f"c{number}" for number in range(7)]
    branches = "".join(
        f"x{number + 1} = If({name}) <then_branch = g1 () => (float[1, 8] a) {{ a = Abs(x{number}) }},"
        f"else_branch = g2 () => (float[1, 8] b) {{ b = Neg(x{number}) }}>\n"
        for number, name in enumerate(names)
    )
    inputs = ", ".join(f"bool {name}" for name in names)
    graph = read_onnx(model(f"g (float[1, 8] x0, {inputs}) => (float[1, 8] x7) {{ {branches} }}"))
    with pytest.raises(GraphError, match=r"^Expected conditions that combine in at most 64 ways, but 7 are open"):
        decide_branches(graph)


LOOP = (
    "g (float[2, 8] x, {inputs}) => (float[2, 8] y, float[N, 2, 8] all) <int64 n = {{5}}, bool go = {{1}}> "
    "{{ {before} y, all = Loop({count}, {start}, x) <body = b "
    "(int64 i, bool c, float[2, 8] h) => (bool c2, float[2, 8] h2, float[2, 8] part) {{ {condition}\n"
    "h2 = MatMul(h, w)\n part = Tanh(h2) }}> }}"
)


def loop(**parts: str) -> onnx.ModelProto:
    given = {"inputs": "float z", "before": "", "count": "n", "start": "", "condition": "c2 = Identity(c)", **parts}
    return model(LOOP.format(**given), w=(8, 8))


def test_a_loop_is_as_many_bodies() -> None:
    graph = read_onnx(loop())
    assert ops(graph).count("linear") == ops(graph).count("tanh") == 5
    assert macs(loop()) == 5 * 2 * 8 * 8
    assert graph.values[graph.outputs[1]].shape == (5, 2, 8)
    assert ResourceCounter("params").predict(loop().SerializeToString()).value == 64  # all copies share one weight


def test_a_trip_count_from_a_shape_or_from_a_condition_on_the_counter() -> None:
    before = "d = Shape(x)\n k = Constant <value_int = 1> ()\n m = Gather(d, k)\n"
    assert macs(loop(before=before, count="m")) == 8 * 2 * 8 * 8
    limit = (
        "three = Constant <value_int = 3> ()\n k = Constant <value_int = 1> ()\n j = Add(i, k)\n c2 = Less(j, three)"
    )
    assert macs(loop(count="", start="go", condition=limit)) == 3 * 2 * 8 * 8


@pytest.mark.parametrize(
    "parts",
    [{"inputs": "int64 m", "count": "m"}, {"condition": "t = ReduceSum <keepdims = 0> (h)\n"
      "u = Constant <value_float = 1.0> ()\n c2 = Less(t, u)"}],
    ids=["the count is an input", "the condition depends on values"],
)  # fmt: skip
def test_an_unknown_trip_count_is_missing_and_named(parts: dict[str, str]) -> None:
    source = loop(**parts)
    source.graph.output[1].type.tensor_type.shape.dim[0].dim_value = 5
    with pytest.raises(MissingKernelError, match=r"onnx\.Loop .*body=[\w+]*MatMul\+[\w+]*Tanh"):
        LatencyEstimator("SD865").predict(source.SerializeToString())
    source.graph.output[1].type.tensor_type.shape.dim[0].dim_param = "N"
    with pytest.raises(
        GraphError, match=r"made by Loop `y` of [\w+]*MatMul\+[\w+]*Tanh, does not: it depends on values"
    ):
        read_onnx(source)


@pytest.mark.parametrize(("body", "keeps"), [("h2 = Relu(h)", True), ("h2 = Concat <axis = 0> (h, h)", False)])
def test_a_loop_that_keeps_shapes_is_followed_by_the_rest(body: str, keeps: bool) -> None:
    text = (
        "g (float[2, 8] x, int64 m) => (float[N, M] y) { h = Loop(m, , x) <body = b (int64 i, bool c, float[R, S] h)"
        f"=> (bool c2, float[R, S] h2) {{ c2 = Identity(c)\n {body} }}>\n y = Tanh(h) }}"
    )
    if not keeps:
        with pytest.raises(GraphError, match=r"made by Loop `h` of Concat\+Identity, does not: it depends on values"):
            read_onnx(model(text))
        return
    graph = read_onnx(model(text))
    assert [str(graph.kernel(node)) for node in graph.nodes] == [
        "onnx.Loop [] [2,8] -> [2,8] body=Identity+Relu dtype=fp32", "tanh [2,8] -> [2,8] dtype=fp32",
    ]  # fmt: skip
    with pytest.raises(MissingKernelError, match=r"have no known count of macs: onnx\.Loop .*body=Identity\+Relu"):
        ResourceCounter("macs").predict(graph)


def test_a_loop_without_an_end_is_refused() -> None:
    with pytest.raises(GraphError, match="to run at most 50000 ops, but `y` exceeds that"):
        read_onnx(loop(count="", start="go"))


SCAN = (
    "g (float[2, 8] h0, float[2, 6, 8] x) => (float[2, 8] h, float[2, 8, 6] all) <int64[2] s = {8, 8}> {"
    "w = ConstantOfShape(s)\n h, all = Scan(h0, x)"
    "<num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [-1],"
    "body = b (float[2, 8] before, float[2, 8] row) => (float[2, 8] after, float[2, 8] out) {"
    "p = MatMul(row, w)\n after = Add(before, p)\n out = Relu(after) }> }"
)


def test_a_scan_is_a_body_for_each_slice() -> None:
    graph = read_onnx(model(SCAN))
    assert macs(model(SCAN)) == 6 * 2 * 8 * 8
    assert ops(graph).count("slice") == ops(graph).count("add") == ops(graph).count("relu") == 6
    assert [graph.values[index].shape for index in graph.outputs] == [(2, 8), (2, 8, 6)]
    starts = [node.attrs["starts"] for node in graph.nodes if node.op == "slice"]
    assert starts == [(step,) for step in range(6)]
    turned = read_onnx(model(SCAN.replace("num_scan", "scan_input_directions = [1], num_scan")))
    assert [node.attrs["starts"] for node in turned.nodes if node.op == "slice"] == starts[::-1]


def test_a_branch_within_a_loop_is_decided_for_each_iteration_or_once_for_all() -> None:
    body = "q = Constant <value_int = 2> ()\n d = Less(i, q)\n c2 = Identity(c)\n"
    body += "r = If(d) <then_branch = g1 () => (float[2, 8] a) { a = Abs(h) }, "
    body += "else_branch = g2 () => (float[2, 8] a) { a = Neg(h) }>"
    text = LOOP.format(inputs="bool z", before="", count="n", start="", condition=body)
    text = text.replace("MatMul(h, w)", "MatMul(r, w)")
    found = ops(read_onnx(model(text, w=(8, 8))))
    assert (found.count("abs"), found.count("neg")) == (2, 3)
    by_value = text.replace("Less(i, q)", "Identity(z)")
    networks = [ops(decided.graph) for decided in decide_branches(read_onnx(model(by_value, w=(8, 8))))]
    assert [(each.count("abs"), each.count("neg")) for each in networks] == [(0, 5), (5, 0)]


def test_a_body_that_lacks_what_its_node_needs_is_refused() -> None:
    source = model(BY_INPUT)
    del source.graph.node[1].attribute[0]
    with pytest.raises(GraphError) as caught:
        read_onnx(source)
    assert str(caught.value) == "Expected If `i` to be a valid If, but it has no `then_branch`."


def test_an_input_that_no_branch_takes_is_an_input_mismatch() -> None:
    text = "g (float[N, 8] x, float[3, 8] z) => (float[N, 8] y) { a = Add(x, z)\n y = Relu(a) }"
    with pytest.raises(
        InputMismatchError, match=r"its inputs are \[2, 8\], \[3, 8\], and onnx .* finds: Incompatible dim"
    ):
        read_onnx(model(text), input_shape={"x": (2, 8)})
