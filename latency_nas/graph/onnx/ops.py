"""Reads the ops of ONNX, opsets 9 to 22, into this library's vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod

import numpy as np
import onnx

from latency_nas.errors import InputMismatchError
from latency_nas.graph.onnx.call import Attrs, Call, Step, axis_of
from latency_nas.graph.onnx.layers import LAYERS
from latency_nas.graph.onnx.moves import MOVES

__all__ = ["IDENTITY", "read_call"]


def _layer_norm(call: Call) -> Step:
    axis = axis_of(call.attrs.get("axis", -1), call.shape())
    op = "layer_norm" if call.op == "LayerNormalization" else "rms_norm"
    return Step(op, {} if axis == len(call.shape()) - 1 else {"axis": axis})


def _clip(call: Call) -> Step | list[Step]:
    """Read a clip: an activation with known bounds, a maximum and a minimum with others."""
    for name in call.inputs[1:]:
        if name and name not in call.weights:
            return _computed_clip(call)
    ends = call.number("min", 1), call.number("max", 2)
    unbounded = not (call.has(2) or "max" in call.attrs)
    return Step("relu6" if ends == (0, 6) else "relu" if ends[0] == 0 and unbounded else "clip", {})


def _computed_clip(call: Call) -> list[Step]:
    ops = [op for op, position in (("maximum", 1), ("minimum", 2)) if call.has(position)]
    n = 1 + len(ops)
    return [Step(op, {}, (n + place - 1 if place else 0, place + 1), call.outputs[0]) for place, op in enumerate(ops)]


def _softmax(call: Call) -> Step | list[Step]:
    """Read a softmax over an axis. Before opset 13 it goes over that axis and all after it, as one."""
    op, given = _SOFTMAX[call.op], call.attrs.get("axis", -1 if call.opset >= 13 else 1)
    shape, axis = call.shape(), axis_of(given, call.shape())
    if call.opset >= 13 or given == -1:
        return Step(op, {"axis": axis})
    rows = prod(shape[:axis]), prod(shape[axis:])
    return [Step("reshape", {}, (0,), rows), Step(op, {"axis": 1}, None, rows), Step("reshape", {})]


def _reduce(call: Call) -> Step:
    rank, axes = len(call.shape()), call.integers("axes", 1)
    listed = axes or ([] if call.attrs.get("noop_with_empty_axes") else range(rank))
    axes = sorted(axis_of(axis, call.shape()) for axis in listed)
    return Step(_REDUCTIONS[call.op], {"axes": tuple(axes), "keepdim": int(call.attrs.get("keepdims", 1))})


def _binary(call: Call) -> Step | list[Step]:
    """Read an op of two operands, or a chain of them where the node takes more."""
    op, n = _BINARY[call.op], len(call.shapes)
    _check_broadcast(call)
    if n == 1:
        return Step("reshape", {})  # the operand itself
    if n == 2:
        return Step(op, _scalar(call))
    made, steps = call.shape(), []
    for position in range(1, n):
        made = np.broadcast_shapes(made, call.shape(position))
        steps.append(Step(op, {}, (0 if position == 1 else n + position - 2, position), made))
    return steps


def _check_broadcast(call: Call) -> None:
    """Refuse an output of another shape than that of the operands together."""
    target = call.outputs[0]
    if set(call.shapes) == {target}:
        return
    made = np.broadcast_shapes(*[call.shape(position) for position in range(len(call.shapes))])
    if made != target:
        raise InputMismatchError(f"its inputs make {list(made)}, and the file says {list(target)}")


def _scalar(call: Call) -> Attrs:
    numbers = (shape for name, shape in zip(call.inputs, call.shapes, strict=True) if name in call.weights)
    return {"scalar": 1} if any(prod(shape or ()) == 1 for shape in numbers) else {}


def _top_k(call: Call) -> Step:
    (k, *_) = call.integers("k", 1) or [0]
    return Step("topk", {"k": k, "axis": axis_of(call.attrs.get("axis", -1), call.shape())})


def _argmax(call: Call) -> Step:
    axis = axis_of(call.attrs.get("axis", 0), call.shape())
    return Step("argmax", {"axis": axis, "keepdim": int(call.attrs.get("keepdims", 1))})


def _concat(call: Call) -> Step:
    ranks = {len(call.shape(position)) for position in range(len(call.shapes))}
    if ranks != {len(call.outputs[0])} or ranks == {0}:
        raise ValueError("its inputs and its output differ in the number of axes")
    return Step("concat", {"axis": axis_of(call.attrs.get("axis", 0), call.outputs[0])})


_UNARY = {
    "Relu": "relu", "LeakyRelu": "leaky_relu", "PRelu": "prelu", "Elu": "elu", "Selu": "selu", "Mish": "mish",
    "HardSwish": "hard_swish", "HardSigmoid": "hard_sigmoid", "Sigmoid": "sigmoid", "Tanh": "tanh", "Gelu": "gelu",
    "Softplus": "softplus", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Reciprocal": "reciprocal", "Erf": "erf",
    "Sin": "sin", "Cos": "cos", "Abs": "abs", "Neg": "neg", "Sign": "sign", "Floor": "floor", "Ceil": "ceil",
    "Round": "round", "Not": "logical_not", "BatchNormalization": "batch_norm", "CumSum": "cumsum",
    "InstanceNormalization": "instance_norm", "QuantizeLinear": "quantize", "DequantizeLinear": "dequantize",
    "DynamicQuantizeLinear": "quantize",
    "Cast": "cast", "IsNaN": "is_nan", "IsInf": "is_inf", "Tan": "tan", "Asin": "asin",
    "Acos": "acos", "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh", "Asinh": "asinh", "Acosh": "acosh",
    "Atanh": "atanh", "Celu": "celu", "Softsign": "softsign", "ThresholdedRelu": "threshold", "Swish": "swish",
    "BitwiseNot": "logical_not",
}  # fmt: skip
# ops that read only their first input: the others say which shape it takes
_RESHAPED = {
    "Expand": "expand", "Tile": "tile", "Reshape": "reshape", "Flatten": "reshape", "Squeeze": "reshape",
    "Unsqueeze": "reshape",
}  # fmt: skip
_BINARY = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Mod": "mod", "Max": "maximum",
    "Min": "minimum", "Sum": "add", "Equal": "equal", "Greater": "greater", "GreaterOrEqual": "greater_equal",
    "Less": "less", "LessOrEqual": "less_equal", "And": "logical_and", "Or": "logical_or",
    "Xor": "logical_xor", "BitwiseAnd": "logical_and", "BitwiseOr": "logical_or", "BitwiseXor": "logical_xor",
}  # fmt: skip
_SOFTMAX = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}
_REDUCTIONS = {f"Reduce{name}": f"reduce_{name.lower()}" for name in ("Mean", "Sum", "Max", "Min", "Prod")}

_READ: dict[str, Callable[[Call], Step | list[Step]]] = {
    **LAYERS,
    **MOVES,
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"), _layer_norm),
    "GroupNormalization": lambda call: Step("group_norm", {"group": int(call.attrs["num_groups"])}),
    **{name: (lambda call, op=op: Step(op, {})) for name, op in _UNARY.items()},  # type: ignore[misc]
    **{name: (lambda call, op=op: Step(op, {}, (0,))) for name, op in _RESHAPED.items()},  # type: ignore[misc]
    **dict.fromkeys(_BINARY, _binary),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "Where": lambda call: Step("where", _scalar(call)),
    "Clip": _clip,
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("ArgMax", "ArgMin"), _argmax),
    "TopK": _top_k,
    "Concat": _concat,
}

# ops whose output is their first input in a deployed network
IDENTITY = frozenset({"Identity", "Dropout"})


@lru_cache(maxsize=1024)
def _misfit(op: str, opset: int, n_inputs: int, n_outputs: int) -> str:
    """The reason why an op cannot have so many inputs or outputs; nothing if it can, or if the opset lacks the op."""
    if not onnx.defs.has(op, max_inclusive_version=opset):
        return ""
    schema = onnx.defs.get_schema(op, opset)
    if not schema.min_input <= n_inputs <= schema.max_input:
        return f"it takes {schema.min_input} to {schema.max_input} inputs, and it has {n_inputs}"
    if not n_outputs <= schema.max_output:
        return f"it makes at most {schema.max_output} outputs, and it has {n_outputs}"
    return ""


def read_call(call: Call) -> Sequence[Step]:
    """The steps that an ONNX node is read as. An unknown node becomes ``onnx.Name``.

    Raises:
        ValueError: if an attribute or an input does not fit the op.
    """
    if problem := _misfit(call.op, call.opset, len(call.shapes), len(call.outputs)):
        raise ValueError(problem)
    read = _READ.get(call.op)
    steps = read(call) if read else Step(f"onnx.{call.op}", {})
    return [steps] if isinstance(steps, Step) else steps
