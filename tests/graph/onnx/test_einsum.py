"""`Einsum` as other ops: the same numbers as NumPy's, and as many multiply-accumulates as its letters say."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from latency_nas.graph.onnx.composites import rewritten
from latency_nas.graph.onnx.model import OnnxModel
from latency_nas.graph.onnx.reader import read_onnx
from latency_nas.kernel import n_macs

SIZES = {"b": 2, "s": 3, "t": 4, "d": 6, "h": 5, "k": 7}
EQUATIONS = [
    "bsd,dhk->bshk", "bshk,bthk->bhst", "bhst,bthk->bshk", "bsd,bsd->bsd", "bs,bt->bst", "bsd->bds", "bsd->b", "sd,dt",
    "bsd,bd->bs", "dhk,bsd->bhsk", "bd,dk,kh->bh", "bshk,tk->bsht", "s,t->", "bsd,bsd->",
]  # fmt: skip


def einsum(equation: str, *, constants: int = 0) -> onnx.ModelProto:
    """A model whose last operands are constants."""
    terms = equation.partition("->")[0].split(",")
    names = [f"x{number}" for number in range(len(terms))]
    shapes = {name: [SIZES[letter] for letter in term] for name, term in zip(names, terms, strict=True)}
    weights = names[len(names) - constants :]
    graph = helper.make_graph(
        [helper.make_node("Einsum", names, ["y"], equation=equation)], "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in names if name not in weights],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.ones(shapes[name], np.float32), name) for name in weights],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


@pytest.mark.parametrize("equation", EQUATIONS)
def test_it_computes_what_numpy_does(equation: str) -> None:
    proto, rng = einsum(equation), np.random.default_rng(0)
    shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in proto.graph.input}
    inputs = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    model = OnnxModel(name="net", proto=proto, opset=18)
    model.tensors = {name: (array.shape, TensorProto.FLOAT) for name, array in inputs.items()}
    nodes = rewritten(model, proto.graph.node[0])
    assert nodes is not None
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in model.constants.items())
    (found,) = ReferenceEvaluator(proto).run(None, inputs)
    np.testing.assert_allclose(found, np.einsum(equation, *inputs.values()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "letters"),
    [("bsd,dhk->bshk", "bsdhk"), ("bshk,bthk->bhst", "bshkt"), ("bhst,bthk->bshk", "bshkt"), ("bs,bt->bst", "bst")],
)
def test_its_products_are_counted(equation: str, letters: str) -> None:
    graph = read_onnx(einsum(equation))
    assert sum(n_macs(graph.kernel(node)) for node in graph.nodes) == np.prod([SIZES[letter] for letter in letters])


def test_a_product_with_weights_is_a_linear_layer() -> None:
    graph = read_onnx(einsum("bsd,dhk->bshk", constants=1))
    assert [str(graph.kernel(node)) for node in graph.nodes] == [
        "linear [2,3,6] -> [2,3,35] bias=0 dtype=fp32", "reshape [2,3,35] -> [2,3,5,7] dtype=fp32",
    ]  # fmt: skip


def test_a_diagonal_keeps_its_name() -> None:
    assert [node.op for node in read_onnx(einsum("bss->bs")).nodes] == ["onnx.Einsum"]
