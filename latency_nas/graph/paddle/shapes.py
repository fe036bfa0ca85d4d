"""Infers the shapes that a Paddle program leaves open, from those of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from latency_nas.graph.paddle.ops import channels_last, paddings
from latency_nas.graph.paddle.program import PaddleOp
from latency_nas.kernel import Shape

__all__ = ["infer_shapes"]

_Rule = Callable[[PaddleOp, Sequence[Shape]], Sequence[Shape]]


def _same(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    return [shapes[0]]


def _broadcast(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    """Broadcast as numpy does, except that `axis` may state the place of the smaller operand's sizes."""
    x, *others = shapes
    for y in others:
        axis = int(op.attrs.get("axis", -1))
        if axis >= 0 and len(y) < len(x):
            y = y + (1,) * (len(x) - axis - len(y))
        rank = max(len(x), len(y))
        x, y = ((1,) * (rank - len(shape)) + shape for shape in (x, y))
        if any(a != b and 1 not in (a, b) for a, b in zip(x, y, strict=True)):
            raise ValueError(f"{x} and {y} do not fit each other")
        x = tuple(max(a, b) if a and b else 0 for a, b in zip(x, y, strict=True))
    return [x]


def _windows(sizes: Shape, kernel: Shape, stride: Shape, pad: Shape, dilation: Shape, *, ceil: bool = False) -> Shape:
    rank = len(kernel)
    spans = [
        size + pad[axis] + pad[rank + axis] - dilation[axis] * (kernel[axis] - 1) - 1 for axis, size in enumerate(sizes)
    ]
    return tuple((-(-span // s) if ceil else span // s) + 1 for span, s in zip(spans, stride, strict=True))


def _conv(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    source, weight = shapes[:2]
    kernel, stride, dilation = weight[2:], op.attrs["strides"], op.attrs["dilations"]
    pad = paddings(op, source, kernel, stride)
    return [(source[0], weight[0], *_windows(source[2:], kernel, stride, pad, dilation))]


def _conv_transpose(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    source, weight = shapes[:2]
    kernel, stride, dilation = weight[2:], op.attrs["strides"], op.attrs["dilations"]
    pad, rank = paddings(op, source, kernel, stride), len(kernel)
    extra = op.attrs.get("output_padding") or (0,) * rank
    spans = [
        dilation[axis] * (kernel[axis] - 1) + 1 + extra[axis] - pad[axis] - pad[rank + axis] for axis in range(rank)
    ]
    sizes = tuple((size - 1) * s + span for size, s, span in zip(source[2:], stride, spans, strict=True))
    return [(source[0], weight[1] * op.attrs["groups"], *(op.attrs.get("output_size") or sizes))]


def _pool(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    source, kernel = shapes[0], op.attrs["ksize"]
    if op.attrs.get("global_pooling"):
        return [(*source[:2], *(1,) * len(kernel))]
    if op.attrs.get("adaptive"):
        return [(*source[:2], *kernel)]
    stride, ones = op.attrs["strides"], (1,) * len(kernel)
    pad = paddings(op, source, kernel, stride)
    return [(*source[:2], *_windows(source[2:], kernel, stride, pad, ones, ceil=bool(op.attrs.get("ceil_mode"))))]


def _matmul(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    x, y = shapes
    x = (*x[:-2], x[-1], x[-2]) if op.attrs.get("trans_x", op.attrs.get("transpose_X")) else x
    y = (*y[:-2], y[-1], y[-2]) if op.attrs.get("trans_y", op.attrs.get("transpose_Y")) else y
    if x[-1] != y[-2]:
        raise ValueError(f"{x} and {y} do not fit each other")
    return [(*_broadcast(op, [x[:-2], y[:-2]])[0], x[-2], y[-1])]


def _reshape(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    """In a reshape, 0 keeps a size, and -1 is the size that remains."""
    wanted = [shapes[0][axis] if size == 0 else size for axis, size in enumerate(op.attrs["shape"])]
    rest = prod(size for size in wanted if size != -1)
    return [tuple(prod(shapes[0]) // rest if size == -1 else size for size in wanted)]


def _flatten(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    source = shapes[0]
    start, stop = (int(op.attrs[name]) % len(source) for name in ("start_axis", "stop_axis"))
    return [(*source[:start], prod(source[start : stop + 1]), *source[stop + 1 :])]


def _squeeze(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    source = shapes[0]
    axes = {axis % len(source) for axis in op.attrs["axes"]} or set(range(len(source)))
    return [tuple(size for axis, size in enumerate(source) if axis not in axes or size != 1)]


def _unsqueeze(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    result = list(shapes[0])
    for axis in op.attrs["axes"]:
        result.insert(axis if axis >= 0 else len(result) + 1 + axis, 1)
    return [tuple(result)]


def _transpose(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    return [tuple(shapes[0][axis] for axis in op.attrs["axis"])]


def _replaced(shape: Shape, axis: int, size: int) -> Shape:
    axis %= len(shape)
    return (*shape[:axis], size, *shape[axis + 1 :])


def _concat(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    axis = int(op.attrs["axis"])
    return [_replaced(shapes[0], axis, sum(shape[axis] for shape in shapes))]


def _split(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    axis, sections = int(op.attrs["axis"]), list(op.attrs.get("sections") or ())
    whole, n_equal = shapes[0][axis], len(op.outputs["Out"])
    sections = sections or [whole // n_equal] * n_equal
    rest = whole - sum(size for size in sections if size != -1)
    return [_replaced(shapes[0], axis, rest if size == -1 else size) for size in sections]


def _stack(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    axis = int(op.attrs["axis"]) % (len(shapes[0]) + 1)
    return [(*shapes[0][:axis], len(shapes), *shapes[0][axis:])]


def _slice(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    result = list(shapes[0])
    steps = op.attrs.get("strides") or (1,) * len(op.attrs["axes"])
    for axis, start, end, step in zip(op.attrs["axes"], op.attrs["starts"], op.attrs["ends"], steps, strict=True):
        result[axis] = len(range(*slice(start, end, step).indices(shapes[0][axis])))
    gone = set(op.attrs.get("decrease_axis") or ())
    return [tuple(size for axis, size in enumerate(result) if axis not in gone)]


def _reduce(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    source, dims = shapes[0], op.attrs.get("dim") or ()
    dims = dims if isinstance(dims, tuple) else (dims,)
    axes = range(len(source)) if op.attrs.get("reduce_all") or not dims else {axis % len(source) for axis in dims}
    if op.attrs.get("keep_dim"):
        return [tuple(1 if axis in axes else size for axis, size in enumerate(source))]
    return [tuple(size for axis, size in enumerate(source) if axis not in axes)]


def _resize(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    source, factors = shapes[0], op.attrs.get("scale") or ()
    factors = factors if isinstance(factors, tuple) else (factors,)
    wanted = (int(op.attrs.get("out_h", -1)), int(op.attrs.get("out_w", -1)))
    if min(wanted) > 0:
        return [(*source[:2], *wanted)]
    if not factors or min(factors) <= 0:
        raise ValueError("it states neither a size nor a factor")
    return [(*source[:2], int(source[2] * factors[0]), int(source[3] * factors[-1]))]


def _pad(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    pads, rank = op.attrs["paddings"], len(shapes[0])
    return [
        tuple(
            size + (pads[2 * (rank - 1 - axis)] + pads[2 * (rank - 1 - axis) + 1] if axis > 1 else 0)
            for axis, size in enumerate(shapes[0])
        )
    ]


def _expand(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    wanted = op.attrs["shape"]
    source = (1,) * (len(wanted) - len(shapes[0])) + shapes[0]
    return [tuple(old if new == -1 else new for old, new in zip(source, wanted, strict=True))]


_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys((
        "assign", "dropout", "relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "mish", "hard_swish",
        "hard_sigmoid", "sigmoid", "swish", "silu", "tanh", "gelu", "softplus", "clip", "exp", "log", "sqrt", "rsqrt",
        "reciprocal", "erf", "sin", "cos", "abs", "sign", "floor", "ceil", "round", "logical_not", "scale", "pow",
        "square", "cast", "softmax", "log_softmax", "cumsum", "batch_norm", "layer_norm", "group_norm", "instance_norm",
        "shuffle_channel", "channel_shuffle", "quantize_linear", "dequantize_linear", "fetch",
    ), _same),
    **{f"elementwise_{op}": _broadcast for op in ("add", "sub", "mul", "div", "pow", "mod", "max", "min")},
    **dict.fromkeys(("equal", "not_equal", "greater_than", "greater_equal", "less_than", "less_equal"), _broadcast),
    **dict.fromkeys(("logical_and", "logical_or", "where"), _broadcast),
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "conv3d"), _conv),
    **dict.fromkeys(("conv2d_transpose", "depthwise_conv2d_transpose", "conv3d_transpose"), _conv_transpose),
    **dict.fromkeys(("pool2d", "pool3d"), _pool),
    **dict.fromkeys(("matmul", "matmul_v2", "bmm"), _matmul),
    **dict.fromkeys(("reshape", "reshape2"), _reshape),
    "flatten_contiguous_range": _flatten,
    **dict.fromkeys(("squeeze", "squeeze2"), _squeeze),
    **dict.fromkeys(("unsqueeze", "unsqueeze2"), _unsqueeze),
    **dict.fromkeys(("transpose", "transpose2"), _transpose),
    "concat": _concat,
    "split": _split,
    "stack": _stack,
    **dict.fromkeys(("slice", "strided_slice"), _slice),
    **{f"reduce_{op}": _reduce for op in ("mean", "sum", "max", "min", "prod")},
    **{f"{mode}_interp_v2": _resize for mode in ("bilinear", "nearest", "bicubic")},
    "pad3d": _pad,
    "expand_v2": _expand,
    "tile": lambda op, shapes: [tuple(s * n for s, n in zip(shapes[0], op.attrs["repeat_times"], strict=True))],
    "lookup_table_v2": lambda op, shapes: [(*shapes[0], shapes[1][-1])],
    "shape": lambda op, shapes: [(len(shapes[0]),)],
}  # fmt: skip


# operators whose output's shape may depend on a tensor
_STATED = frozenset({
    "reshape", "reshape2", "slice", "strided_slice", "expand_v2", "tile", "pad3d", "split",
    *(f"{mode}_interp_v2" for mode in ("bilinear", "nearest", "bicubic")),
})  # fmt: skip


def infer_shapes(op: PaddleOp, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """The shapes of an operator's outputs.

    Args:
        op: Operator of a program.
        shapes: Shapes of its operands, in the order of `operands`.

    Raises:
        LookupError: if there is no rule for the operator, or it lacks an attribute.
        TypeError, ValueError, ArithmeticError: if its attributes or operands do not fit each other.
    """
    if op.type not in _RULES:
        raise LookupError("there is no rule for its shape")
    if channels_last(op):
        raise ValueError("channels are last")
    if op.type in _STATED and len(shapes) > 1:
        raise ValueError("its shape is computed as the program runs: save the program with a fixed input shape")
    return _RULES[op.type](op, shapes)
