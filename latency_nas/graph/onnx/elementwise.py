"""Writes elementwise ops as ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import helper

from latency_nas.graph import Node
from latency_nas.graph.onnx.model_parts import ModelParts

__all__ = ["ELEMENTWISE"]

_UNARY = {
    "relu": "Relu", "leaky_relu": "LeakyRelu", "elu": "Elu", "selu": "Selu", "hard_swish": "HardSwish",
    "sigmoid": "Sigmoid", "tanh": "Tanh", "gelu": "Gelu", "softplus": "Softplus", "exp": "Exp", "log": "Log",
    "sqrt": "Sqrt", "reciprocal": "Reciprocal", "erf": "Erf", "sin": "Sin", "cos": "Cos", "abs": "Abs", "neg": "Neg",
    "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "round": "Round", "matmul": "MatMul",
}  # fmt: skip
_BINARY = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "maximum": "Max", "minimum": "Min",
    "equal": "Equal", "greater": "Greater", "greater_equal": "GreaterOrEqual", "less": "Less",
    "less_equal": "LessOrEqual", "logical_and": "And", "logical_or": "Or", "logical_xor": "Xor",
}  # fmt: skip


def _unary(writer: ModelParts, node: Node) -> None:
    writer.emit(node, _UNARY[node.op], writer.activations(node))


def _number(writer: ModelParts, node: Node) -> float:
    """The number that an op reads: of a power the exponent, since engines have ways of their own for some."""
    stated = (writer.graph.values[index].number for index in node.inputs)
    return next((number for number in stated if number is not None), 3.0) if node.op == "pow" else 0.5


def _binary(writer: ModelParts, node: Node) -> None:
    operands = writer.operands(node)
    if node.attrs.get("scalar"):
        number = writer.tensor(f"{node.name}.scalar", np.array(_number(writer, node), np.float32))
        constants = [writer.graph.values[index].constant for index in node.inputs]
        operands = [number if is_constant else name for is_constant, name in zip(constants, operands, strict=True)]
        operands += [number] * (len(operands) == 1)
    writer.emit(node, _BINARY[node.op], operands)


def _swish(writer: ModelParts, node: Node) -> None:
    (x,) = writer.activations(node)
    writer.nodes.append(helper.make_node("Sigmoid", [x], [f"{node.name}.gate"], name=f"{node.name}.gate"))
    writer.emit(node, "Mul", [x, f"{node.name}.gate"])


def _mish(writer: ModelParts, node: Node) -> None:
    """Write x * tanh(softplus(x)): MNN has no Mish of ONNX."""
    (x,) = writer.activations(node)
    soft, gate = f"{node.name}.soft", f"{node.name}.gate"
    writer.nodes.append(helper.make_node("Softplus", [x], [soft], name=soft))
    writer.nodes.append(helper.make_node("Tanh", [soft], [gate], name=gate))
    writer.emit(node, "Mul", [x, gate])


def _relu6(writer: ModelParts, node: Node) -> None:
    bounds = [writer.tensor(f"{node.name}.{value}", np.float32(value)) for value in (0, 6)]  # type: ignore[arg-type]
    writer.emit(node, "Clip", [*writer.activations(node), *bounds])


def _rsqrt(writer: ModelParts, node: Node) -> None:
    """Write 1 / sqrt(x), which MNN joins."""
    root = f"{node.name}.root"
    writer.nodes.append(helper.make_node("Sqrt", writer.activations(node), [root], name=root))
    writer.emit(node, "Reciprocal", [root])


# op -> function that writes it
ELEMENTWISE: dict[str, Callable[[ModelParts, Node], None]] = {
    "relu6": _relu6,
    "swish": _swish,
    "mish": _mish,
    "rsqrt": _rsqrt,
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_BINARY, _binary),
}
