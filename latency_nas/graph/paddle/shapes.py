"""Infers the shapes of a Paddle operator's results from those of its operands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from latency_nas.graph.paddle.folding import has_open_sizes
from latency_nas.graph.paddle.layer_shapes import LAYER_SHAPES, Rule, broadcast
from latency_nas.graph.paddle.ops import RANDOM, channels_last
from latency_nas.graph.paddle.program import PaddleOp
from latency_nas.kernel import Shape

__all__ = ["infer_shapes", "why_not_inferred"]


def _same(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    return [shapes[0]]


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


def _expand(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    wanted = op.attrs["shape"]
    source = (1,) * (len(wanted) - len(shapes[0])) + shapes[0]
    return [tuple(old if new == -1 else new for old, new in zip(source, wanted, strict=True))]


def _tile(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    times = tuple(op.attrs["repeat_times"])
    rank = max(len(shapes[0]), len(times))
    source, times = ((1,) * (rank - len(item)) + item for item in (shapes[0], times))
    return [tuple(size * n for size, n in zip(source, times, strict=True))]


def _stated(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    return [tuple(op.attrs["shape"])]


def _unstack(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    axis, source = int(op.attrs.get("axis", 0)) % len(shapes[0]), shapes[0]
    return [(*source[:axis], *source[axis + 1 :])] * source[axis]


def _gather(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    axis = int(op.attrs.get("axis", op.attrs.get("dim", 0))) % len(shapes[0])
    return [(*shapes[0][:axis], *shapes[1], *shapes[0][axis + 1 :])]


def _flatten_to_matrix(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    axis = int(op.attrs.get("axis", 1))
    return [(prod(shapes[0][:axis]), prod(shapes[0][axis:]))]


def _top_k(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    return [_replaced(shapes[0], int(op.attrs.get("axis", -1)), int(op.attrs["k"]))] * 2


def _argmax(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    if op.attrs.get("flatten"):
        return [()]
    axis = int(op.attrs["axis"]) % len(shapes[0])
    kept = (1,) if op.attrs.get("keepdims") else ()
    return [(*shapes[0][:axis], *kept, *shapes[0][axis + 1 :])]


_RULES: Mapping[str, Rule] = {
    **LAYER_SHAPES,
    **dict.fromkeys((
        "assign", "dropout", "relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "mish", "hard_swish",
        "hard_sigmoid", "sigmoid", "swish", "silu", "tanh", "gelu", "softplus", "softsign", "clip", "exp", "log",
        "log1p", "log2", "expm1", "sqrt", "rsqrt", "reciprocal", "erf", "sin", "cos", "tan", "asin", "acos", "atan",
        "sinh", "cosh", "asinh", "acosh", "atanh", "trunc", "celu", "hard_shrink", "softshrink", "logsigmoid", "abs",
        "sign", "floor", "ceil", "round", "logical_not", "isnan_v2", "isinf_v2", "scale", "pow", "square", "cast",
        "softmax", "log_softmax", "cumsum", "batch_norm", "sync_batch_norm", "layer_norm", "group_norm",
        "instance_norm", "shuffle_channel", "channel_shuffle", "quantize_linear", "dequantize_linear", "fill_any_like",
        "full_like", "fill_zeros_like", "roll", "flip", "tril_triu", "increment", "fetch", "share_data", "set_value",
    ), _same),
    **{f"elementwise_{op}": broadcast for op in ("add", "sub", "mul", "div", "pow", "mod", "max", "min", "floordiv")},
    **dict.fromkeys(("equal", "not_equal", "greater_than", "greater_equal", "less_than", "less_equal"), broadcast),
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor", "where", "sum"), broadcast),
    **dict.fromkeys(("reshape", "reshape2"), _reshape),
    "flatten_contiguous_range": _flatten,
    **dict.fromkeys(("flatten", "flatten2"), _flatten_to_matrix),
    **dict.fromkeys(("squeeze", "squeeze2"), _squeeze),
    **dict.fromkeys(("unsqueeze", "unsqueeze2"), _unsqueeze),
    **dict.fromkeys(("transpose", "transpose2"), _transpose),
    "concat": _concat,
    "split": _split,
    "stack": _stack,
    **dict.fromkeys(("unstack", "unbind"), _unstack),
    **dict.fromkeys(("slice", "strided_slice"), _slice),
    **dict.fromkeys(("gather", "index_select"), _gather),
    "take_along_axis": lambda op, shapes: [shapes[1]],
    **{f"reduce_{op}": _reduce for op in ("mean", "sum", "max", "min", "prod")},
    "arg_max": _argmax,
    "top_k_v2": _top_k,
    "expand_v2": _expand,
    "expand_as_v2": lambda op, shapes: [tuple(op.attrs.get("target_shape") or shapes[1])],
    "tile": _tile,
    "lookup_table_v2": lambda op, shapes: [(*shapes[0], shapes[1][-1])],
    "shape": lambda op, shapes: [(len(shapes[0]),)],
    **dict.fromkeys(("fill_constant", "full", "assign_value", "assign_value_", *RANDOM), _stated),
    "full_int_array": lambda op, shapes: [(len(op.attrs["value"]),)],
}  # fmt: skip


def why_not_inferred(op: PaddleOp) -> str:
    """Why the shapes of an operator's results are not inferred; empty if they are.

    Args:
        op: Operator, with numbers that are known as attributes.
    """
    rule = _RULES.get(op.type)
    if rule is None:
        return "there is no rule for its shape"
    if channels_last(op):
        return "channels are last"
    if rule is not _same and has_open_sizes(op):
        return "its shape follows from values that are known only as the program runs"
    return ""


def infer_shapes(op: PaddleOp, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """The shapes of an operator's results.

    Args:
        op: Operator for which `why_not_inferred` gives no reason.
        shapes: Shapes of its operands, in the order of `operands`.

    Raises:
        LookupError: if it lacks an attribute.
        TypeError, ValueError, ArithmeticError: if its attributes or operands do not fit each other.
    """
    return _RULES[op.type](op, shapes)
