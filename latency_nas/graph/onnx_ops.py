"""The ops of ONNX, opsets 9 to 22, in this library's vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import InputMismatchError
from latency_nas.kernel import AttrValue, Shape

__all__ = ["IDENTITY", "Call", "Step", "read_call"]

Attrs = dict[str, AttrValue]


@dataclass(frozen=True, slots=True)
class Step:
    """One node that an ONNX node is read as: its op, its attributes, its shape where more steps follow."""

    op: str
    attrs: Attrs
    inputs: tuple[int, ...] | None = None  # positions among the inputs of the ONNX node; all where None
    shape: Shape = ()


@dataclass(frozen=True, slots=True)
class Call:
    """An ONNX node with what is known of its tensors.

    Args:
        op: its type.
        attrs: its attributes as Python values.
        shapes: of its inputs; None where one is left out.
        outputs: shapes of its outputs.
        constants: the values of those inputs that are small constants, by position.
        constant: whether each input is known before the model runs.
        opset: of the model.
    """

    op: str
    attrs: Mapping[str, Any]
    shapes: tuple[Shape | None, ...]
    outputs: tuple[Shape, ...]
    constants: Mapping[int, NDArray[Any]]
    constant: tuple[bool, ...]
    opset: int

    def has(self, position: int) -> bool:
        """Whether that input is given."""
        return position < len(self.shapes) and self.shapes[position] is not None

    def shape(self, position: int = 0) -> Shape:
        """The shape of an input that must be there."""
        shape = self.shapes[position] if position < len(self.shapes) else None
        if shape is None:
            raise ValueError(f"input {position} is missing")
        return shape

    def integers(self, name: str, position: int) -> list[int] | None:
        """A list that newer opsets give as an input and older ones as an attribute."""
        if name in self.attrs:
            value = self.attrs[name]
            return [int(value)] if isinstance(value, int) else list(map(int, value))
        if not self.has(position):
            return None
        if position not in self.constants:
            raise ValueError(f"its `{name}` depends on values")
        return [int(value) for value in self.constants[position].reshape(-1)]

    def number(self, name: str, position: int) -> float | None:
        """A number that newer opsets give as an input and older ones as an attribute."""
        if name in self.attrs:
            return float(self.attrs[name])
        known = self.constants.get(position)
        return float(known.reshape(-1)[0]) if known is not None and known.size == 1 else None


def _axis(axis: int, shape: Shape) -> int:
    if not -len(shape) <= axis < max(1, len(shape)):
        raise ValueError(f"axis {axis} is not one of {len(shape)}")
    return axis % max(1, len(shape))


def _window(call: Call, kernel: Shape, *, transposed: bool = False) -> Attrs:
    """Kernel, stride, dilation and padding, the last also where it is only said to keep the size."""
    n_axes = len(kernel)
    stride, dilation = (tuple(call.attrs.get(name, (1,) * n_axes)) for name in ("strides", "dilations"))
    pad = tuple(call.attrs.get("pads", (0,) * 2 * n_axes))
    auto, fixed = call.attrs.get("auto_pad", "NOTSET"), call.attrs.get("output_shape")
    if auto in {"SAME_UPPER", "SAME_LOWER"} or fixed:
        source, target = call.shape()[2:], call.outputs[0][2:]
        large, small = (target, source) if transposed else (source, target)
        extra = tuple(call.attrs.get("output_padding", (0,) * n_axes)) if transposed else (0,) * n_axes
        total = [
            max(0, (n - 1) * s + (k - 1) * d + 1 + e - m)
            for n, s, k, d, e, m in zip(small, stride, kernel, dilation, extra, large, strict=True)
        ]
        less, more = [size // 2 for size in total], [size - size // 2 for size in total]
        pad = (*more, *less) if auto == "SAME_LOWER" else (*less, *more)
    return {"kernel": kernel, "stride": stride, "dilation": dilation, "pad": pad}


def _check_width(given: int, taken: int) -> None:
    if given != taken:
        raise InputMismatchError(f"its weights take {taken} channels and it is given {given}")


def _conv(call: Call) -> Step:
    quantised, group = call.op == "QLinearConv", int(call.attrs.get("group", 1))
    weight, bias = (3, 8) if quantised else (1, 2)
    if not call.constant[weight]:
        raise ValueError("its weights are not in the file")
    kernel = call.shape(weight)[2:]
    transposed = call.op == "ConvTranspose"
    _check_width(call.shape()[1], call.shape(weight)[0 if transposed else 1] * (1 if transposed else group))
    attrs = _window(call, kernel, transposed=transposed)
    attrs |= {"group": group, "bias": int(call.has(bias))}
    if transposed:
        attrs["output_pad"] = tuple(call.attrs.get("output_padding", (0,) * len(kernel)))
    return Step(f"conv{'_transpose' if transposed else ''}{len(kernel)}d", attrs)


def _pool(call: Call) -> Step:
    kind = "max" if "Max" in call.op else "avg"
    spatial = call.shape()[2:]
    if call.op.startswith("Global"):
        ones: Attrs = {"stride": (1,) * len(spatial), "pad": (0,) * 2 * len(spatial)}
        return Step(f"pool{len(spatial)}d", {"type": kind, "kernel": spatial, **ones, "global": 1})
    attrs = _window(call, tuple(call.attrs["kernel_shape"]))
    if set(attrs["dilation"]) == {1}:  # type: ignore[arg-type]
        del attrs["dilation"]
    if call.attrs.get("ceil_mode"):
        attrs["ceil"] = 1
    return Step(f"pool{len(spatial)}d", {"type": kind, **attrs})


def _matmul(call: Call) -> Step:
    """Weights on the right make it a linear layer; a constant on the left stays a matmul of one input."""
    left, right = (0, 3) if call.op == "QLinearMatMul" else (0, 1)
    if min(len(call.shape(left)), len(call.shape(right))) < 2:
        return Step(f"onnx.{call.op}", {})
    if call.constant[right]:
        _check_width(call.shape(left)[-1], call.shape(right)[-2])
        known = len(call.shape(right)) == 2
        return Step("linear", {"bias": 0}) if known else Step(f"onnx.{call.op}", {})
    return Step(f"onnx.{call.op}" if call.constant[left] and len(call.shape(left)) > 2 else "matmul", {})


def _gemm(call: Call) -> Step:
    _check_width(
        call.shape()[-2 if call.attrs.get("transA") else -1], call.shape(1)[-1 if call.attrs.get("transB") else -2]
    )
    weights_known = call.constant[1] and (not call.has(2) or call.constant[2]) and not call.attrs.get("transA")
    return Step("linear", {"bias": int(call.has(2))}) if weights_known else Step("onnx.Gemm", {})


def _layer_norm(call: Call) -> Step:
    axis = _axis(call.attrs.get("axis", -1), call.shape())
    op = "layer_norm" if call.op == "LayerNormalization" else "rms_norm"
    return Step(op, {} if axis == len(call.shape()) - 1 else {"axis": axis})


def _clip(call: Call) -> Step:
    ends = call.number("min", 1), call.number("max", 2)
    unbounded = not (call.has(2) or "max" in call.attrs)
    return Step("relu6" if ends == (0, 6) else "relu" if ends[0] == 0 and unbounded else "clip", {})


def _softmax(call: Call) -> Step:
    axis = call.attrs.get("axis", -1 if call.opset >= 13 else 1)
    return Step({"Softmax": "softmax", "LogSoftmax": "log_softmax"}[call.op], {"axis": _axis(axis, call.shape())})


def _reduce(call: Call) -> Step:
    rank, axes = len(call.shape()), call.integers("axes", 1)
    listed = axes or ([] if call.attrs.get("noop_with_empty_axes") else range(rank))
    axes = sorted(_axis(axis, call.shape()) for axis in listed)
    return Step(_REDUCTIONS[call.op], {"axes": tuple(axes), "keepdim": int(call.attrs.get("keepdims", 1))})


def _binary(call: Call) -> Step:
    if len(call.shapes) != 2 and call.op in {"Max", "Min", "Sum"}:
        return Step(f"onnx.{call.op}", {})
    return Step(_BINARY[call.op], _scalar(call))


def _scalar(call: Call) -> Attrs:
    numbers = [known and prod(shape or ()) == 1 for known, shape in zip(call.constant, call.shapes, strict=True)]
    return {"scalar": 1} if any(numbers) else {}


def _slice(call: Call) -> Step:
    starts, ends = call.integers("starts", 1) or [], call.integers("ends", 2) or []
    axes = call.integers("axes", 3) or list(range(len(starts)))
    steps = call.integers("steps", 4) or [1] * len(starts)
    axes = [_axis(axis, call.shape()) for axis in axes]
    sizes = [call.shape()[axis] for axis in axes]
    firsts = [min(max(s + n if s < 0 else s, 0), n) for s, n in zip(starts, sizes, strict=True)]
    if len(ends) != len(starts) or len(steps) != len(starts):
        raise ValueError("its starts, ends and steps do not fit each other")
    attrs: Attrs = {"axes": tuple(axes), "starts": tuple(firsts)}
    return Step("slice", attrs | ({"steps": tuple(steps)} if set(steps) != {1} else {}))


def _pad(call: Call) -> Step:
    rank, pads = len(call.shape()), call.integers("pads", 1) or []
    axes = [_axis(axis, call.shape()) for axis in call.integers("axes", 3) or range(rank)]
    if len(pads) != 2 * len(axes):
        raise ValueError("its pads do not fit its axes")
    full = [0] * 2 * rank
    for position, axis in enumerate(axes):
        full[axis], full[axis + rank] = pads[position], pads[position + len(axes)]
    return Step("pad", {"mode": str(call.attrs.get("mode", "constant")), "pads": tuple(full)})


def _gather(call: Call) -> Step | list[Step]:
    axis, index = _axis(call.attrs.get("axis", 0), call.shape()), call.constants.get(1)
    if call.constant[0] and axis == 0 and len(call.shape()) == 2:
        return Step("embedding", {})
    if index is not None and index.size == call.shape()[axis] and (index.reshape(-1) == np.arange(index.size)).all():
        return Step("reshape", {})
    if index is None or index.size != 1 or call.constant[0]:
        return Step("gather", {"axis": axis})
    size, first = call.shape()[axis], int(index.reshape(-1)[0])
    one = Step("slice", {"axes": (axis,), "starts": (first % max(1, size),)}, (0,), _with(call.shape(), axis, 1))
    return [one] if call.shapes[1] else [one, Step("reshape", {})]


def _with(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _transpose(call: Call) -> Step:
    perm = call.attrs.get("perm", range(len(call.shape()))[::-1])
    return Step("transpose", {"perm": tuple(perm)})


def _depth_to_space(call: Call) -> list[Step]:
    (n, c, h, w), b = call.shape(), int(call.attrs["blocksize"])
    if call.op == "SpaceToDepth":
        shape, perm = (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4)
    elif call.attrs.get("mode") == "CRD":
        shape, perm = (n, c // b**2, b, b, h, w), (0, 1, 4, 2, 5, 3)
    else:
        shape, perm = (n, b, b, c // b**2, h, w), (0, 3, 4, 1, 5, 2)
    moved = tuple(shape[axis] for axis in perm)
    return [Step("reshape", {}, (0,), shape), Step("transpose", {"perm": perm}, None, moved), Step("reshape", {})]


def _top_k(call: Call) -> Step:
    (k, *_) = call.integers("k", 1) or [0]
    return Step("topk", {"k": k, "axis": _axis(call.attrs.get("axis", -1), call.shape())})


def _argmax(call: Call) -> Step:
    axis = _axis(call.attrs.get("axis", 0), call.shape())
    return Step("argmax", {"axis": axis, "keepdim": int(call.attrs.get("keepdims", 1))})


def _resize(call: Call) -> Step:
    return Step("resize", {"mode": str(call.attrs.get("mode", "nearest"))})


def _on_axis(op: str, default: int) -> Callable[[Call], Step]:
    return lambda call: Step(op, {"axis": _axis(call.attrs.get("axis", default), call.outputs[0])})


_UNARY = {
    "Relu": "relu", "LeakyRelu": "leaky_relu", "PRelu": "prelu", "Elu": "elu", "Selu": "selu", "Mish": "mish",
    "HardSwish": "hard_swish", "HardSigmoid": "hard_sigmoid", "Sigmoid": "sigmoid", "Tanh": "tanh", "Gelu": "gelu",
    "Softplus": "softplus", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Reciprocal": "reciprocal", "Erf": "erf",
    "Sin": "sin", "Cos": "cos", "Abs": "abs", "Neg": "neg", "Sign": "sign", "Floor": "floor", "Ceil": "ceil",
    "Round": "round", "Not": "logical_not", "BatchNormalization": "batch_norm", "CumSum": "cumsum",
    "InstanceNormalization": "instance_norm", "QuantizeLinear": "quantize", "DequantizeLinear": "dequantize",
    "Cast": "cast", "Expand": "expand", "Tile": "tile", "Reshape": "reshape", "Flatten": "reshape",
    "Squeeze": "reshape", "Unsqueeze": "reshape",
}  # fmt: skip
_BINARY = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Mod": "mod", "Max": "maximum",
    "Min": "minimum", "Sum": "add", "Equal": "equal", "Greater": "greater", "GreaterOrEqual": "greater_equal",
    "Less": "less", "LessOrEqual": "less_equal", "And": "logical_and", "Or": "logical_or",
}  # fmt: skip
_REDUCTIONS = {f"Reduce{name}": f"reduce_{name.lower()}" for name in ("Mean", "Sum", "Max", "Min", "Prod")}

_READ: dict[str, Callable[[Call], Step | list[Step]]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "QLinearConv"), _conv),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"), _pool),
    **dict.fromkeys(("MatMul", "QLinearMatMul"), _matmul),
    "Gemm": _gemm,
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _layer_norm),
    "GroupNormalization": lambda call: Step("group_norm", {"group": int(call.attrs["num_groups"])}),
    **{name: (lambda call, op=op: Step(op, {})) for name, op in _UNARY.items()},  # type: ignore[misc]
    **dict.fromkeys(_BINARY, _binary),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "Where": lambda call: Step("where", _scalar(call)),
    "Clip": _clip,
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    "ArgMax": _argmax,
    "TopK": _top_k,
    "Concat": _on_axis("concat", 0),
    "Split": lambda call: Step("split", {"axis": _axis(call.attrs.get("axis", 0), call.shape())}),
    "Slice": _slice,
    "Pad": _pad,
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "Transpose": _transpose,
    "Gather": _gather,
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _depth_to_space),
}

# ops whose output is their first input, for a deployed network
IDENTITY = frozenset({"Identity", "Dropout"})


def read_call(call: Call) -> Sequence[Step]:
    """What an ONNX node is read as; one that is not known stays as itself, ``onnx.Name``.

    Raises:
        ValueError: if an attribute or an input does not fit the op.
    """
    read = _READ.get(call.op)
    steps = read(call) if read else Step(f"onnx.{call.op}", {})
    return [steps] if isinstance(steps, Step) else steps
