"""Finds the constants of an ONNX file that are parameters, as far as the file shows.

An initializer or a Constant is a parameter if a node reads it as a weight. These are not parameters: integers, except
quantised weights; running statistics, scales and zero points; single numbers that are added, multiplied or compared,
since these are usually literals in the model's code.

Limitation: other buffers, such as a table of positions that is added, cannot be distinguished from parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import onnx

from latency_nas.graph.parameters import ParameterPart
from latency_nas.kernel import Shape

__all__ = ["parameters_of"]

# op -> positions of inputs that are not weights, although they may be floats
_NO_WEIGHTS: dict[str, frozenset[int]] = {
    "BatchNormalization": frozenset({3, 4}),
    "QuantizeLinear": frozenset({1, 2}),
    "DequantizeLinear": frozenset({1, 2}),
    "QLinearConv": frozenset({1, 2, 4, 5, 6, 7}),
    "QLinearMatMul": frozenset({1, 2, 4, 5, 6, 7}),
    "ConvInteger": frozenset({2, 3}),
    "MatMulInteger": frozenset({2, 3}),
    "Resize": frozenset({1, 2, 3}),
    "Upsample": frozenset({1}),
}

# ops that may have a weight of a single number
_OF_ANY_LENGTH = frozenset({
    "Conv", "ConvTranspose", "QLinearConv", "ConvInteger", "Gemm", "MatMul", "QLinearMatMul", "MatMulInteger", "Gather",
    "PRelu", "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization",
    "RMSNormalization", "LSTM", "GRU", "RNN",
})  # fmt: skip

_INT32_BIASES = frozenset({("QLinearConv", 8), ("Gemm", 2), ("DequantizeLinear", 0)})
_TYPES = onnx.TensorProto
_WEIGHTS = frozenset({
    _TYPES.FLOAT, _TYPES.FLOAT16, _TYPES.BFLOAT16, _TYPES.DOUBLE, _TYPES.INT8, _TYPES.UINT8, _TYPES.INT4, _TYPES.UINT4,
})  # fmt: skip


def parameters_of(
    nodes: Iterable[onnx.NodeProto], tensors: Mapping[str, tuple[Shape, int]], constants: Iterable[str]
) -> dict[str, tuple[ParameterPart, ...]]:
    """The parameters that nodes read, by name, each as a part that holds all of its elements.

    Args:
        nodes: Nodes of a model.
        tensors: Shape and element type of each constant, by name.
        constants: Names of the constants in the file.
    """
    left, found = set(constants), dict[str, tuple[ParameterPart, ...]]()
    for node in nodes:
        for position, name in enumerate(node.input[:]):
            if name in left and _is_weight(node.op_type, position, *tensors[name]):
                left.discard(name)
                found[name] = (ParameterPart(name, (prod(tensors[name][0]),)),)
    return found


def _is_weight(op: str, position: int, shape: Shape, kind: int) -> bool:
    if position in _NO_WEIGHTS.get(op, ()):
        return False
    if kind not in _WEIGHTS:
        return kind == _TYPES.INT32 and (op, position) in _INT32_BIASES
    return op in _OF_ANY_LENGTH or prod(shape) > 1
