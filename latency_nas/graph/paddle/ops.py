"""Reads Paddle's operators into this library's vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from latency_nas.graph.paddle.program import PaddleOp
from latency_nas.kernel import AttrValue, Shape

__all__ = [
    "RANDOM",
    "SIDE_SLOTS",
    "Attrs",
    "channels_last",
    "is_identity",
    "made_by",
    "operands",
    "paddings",
    "read_op",
]

Attrs = dict[str, AttrValue]
_Read = tuple[str, Attrs]
# function of the operator, its inputs' shapes and its output's shape
_Reader = Callable[[PaddleOp, Sequence[Shape], Shape], _Read]

# operators whose output is their input in a deployed network
_IDENTITY = frozenset({"assign", "dropout", "share_data", "share_data_", "memcpy", "print"})

# operators whose output is no constant, although their inputs are
RANDOM = frozenset({"uniform_random", "gaussian_random", "uniform", "gaussian", "randint", "bernoulli"})

# outputs that in most programs only training or gradients read; PIR's results without a slot are `Result`
SIDE_SLOTS = frozenset({
    "XShape", "MeanOut", "VarianceOut", "SavedMean", "SavedVariance", "ReserveSpace", "Mean", "Variance", "Mask",
    "InputShape", "OutScale", "OutState", "OutAccum", "Reserve", "DropoutState",
    *(f"Result{position}" for position in range(1, 8)),
})  # fmt: skip

# order of slots among an operator's inputs; other slots follow in the file's order
_SLOT_ORDER = {slot: place for place, slot in enumerate(("Input", "Ids", "Condition", "X", "Filter", "Y", "W"))}


def operands(op: PaddleOp) -> list[str]:
    """Names of the variables that an operator reads, activations before weights."""
    if len(op.inputs) == 1:
        return [name for names in op.inputs.values() for name in names]
    slots = sorted(op.inputs, key=lambda slot: _SLOT_ORDER.get(slot, len(_SLOT_ORDER)))
    return [name for slot in slots for name in op.inputs[slot]]


def made_by(op: PaddleOp) -> list[str]:
    """Names of the variables that an operator makes, indices after what they are of, whatever the file's order."""
    slots = sorted(op.outputs, key="Indices".__eq__)
    return [name for slot in slots if slot not in SIDE_SLOTS for name in op.outputs[slot]]


def _integers(value: object, name: str) -> tuple[int, ...]:
    values = value if isinstance(value, tuple) else (value,)
    if not {*map(type, values)} <= {int, bool}:
        raise TypeError(f"`{name}` is not made of integers")
    return tuple(map(int, values))


def paddings(op: PaddleOp, source: Shape, kernel: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """The padding before each spatial axis, then after each spatial axis."""
    rank, algorithm = len(kernel), op.attrs.get("padding_algorithm", "EXPLICIT")
    if algorithm == "VALID":
        return (0,) * (2 * rank)
    if algorithm == "SAME":
        wanted = [
            max((-(-size // s) - 1) * s + k - size, 0) for size, k, s in zip(source[2:], kernel, stride, strict=True)
        ]
        return (*(total // 2 for total in wanted), *(total - total // 2 for total in wanted))
    pads = _integers(op.attrs["paddings"], "paddings")
    return pads * 2 if len(pads) == rank else (*pads[0::2], *pads[1::2])


def channels_last(op: PaddleOp) -> bool:
    """Whether channels are the last axis, which engines for phones do not support."""
    return str(op.attrs.get("data_format", "NCHW")).endswith("C")


def _conv(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
    kernel, stride = shapes[1][2:], _integers(op.attrs["strides"], "strides")
    attrs: Attrs = {
        "kernel": kernel,
        "stride": stride,
        "pad": paddings(op, shapes[0], kernel, stride),
        "dilation": _integers(op.attrs["dilations"], "dilations"),
        "group": int(op.attrs["groups"]),
        "bias": int("Bias" in op.inputs),
    }
    transposed = "transpose" in op.type
    if transposed:
        attrs["output_pad"] = tuple(op.attrs.get("output_padding") or (0,) * len(kernel))
    if channels_last(op):
        return f"paddle.{op.type}", {}
    return f"conv{'_transpose' if transposed else ''}{len(kernel)}d", attrs


def _pool(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
    source, kind = shapes[0], str(op.attrs["pooling_type"])
    size, stride = _integers(op.attrs["ksize"], "ksize"), _integers(op.attrs["strides"], "strides")
    adaptive = bool(op.attrs.get("adaptive"))
    if channels_last(op) or (adaptive and any(i % o for i, o in zip(source[2:], target[2:], strict=True))):
        return f"paddle.{op.type}", {"type": kind}
    if op.attrs.get("global_pooling") or (adaptive and set(target[2:]) == {1}):
        ones = (1,) * len(size)
        return op.type, {"type": kind, "kernel": source[2:], "stride": ones, "pad": (0,) * (2 * len(size)), "global": 1}
    if adaptive:  # windows of one size, side by side
        size = stride = tuple(i // o for i, o in zip(source[2:], target[2:], strict=True))
        return op.type, {"type": kind, "kernel": size, "stride": stride, "pad": (0,) * (2 * len(size))}
    attrs: Attrs = {"type": kind, "kernel": size, "stride": stride, "pad": paddings(op, source, size, stride)}
    return op.type, attrs | ({"ceil": 1} if op.attrs.get("ceil_mode") else {})


def _pool_with_index(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
    name = op.type.removeprefix("max_").removesuffix("_with_index")
    return _pool(replace(op, type=name, attrs={**op.attrs, "pooling_type": "max"}), shapes, target)


def _reduce(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
    rank = len(shapes[0])
    dims = _integers(op.attrs.get("dim", ()), "dim")
    every = op.attrs.get("reduce_all") or not dims
    axes = tuple(range(rank)) if every else tuple(sorted(dim % rank for dim in dims))
    return op.type, {"axes": axes, "keepdim": int(bool(op.attrs.get("keep_dim")))}


def _axis(op: str, *, name: str = "axis", **attrs: str) -> _Reader:
    """A reader of an operator with an axis; `attrs` are further attributes -> their names in Paddle."""

    def read(paddle_op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
        more = {ours: int(paddle_op.attrs[theirs]) for ours, theirs in attrs.items()}
        rank = len(target) if op == "stack" else len(shapes[0])
        return op, {"axis": int(paddle_op.attrs.get(name, -1)) % rank, **more}

    return read


def _plain(op: str, **attrs: AttrValue) -> _Reader:
    return lambda *_: (op, dict(attrs))


def _scale(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
    """Read a scale: a multiplication or an addition. If it is both, it keeps Paddle's name."""
    factor, offset = op.attrs.get("scale", 1.0), op.attrs.get("bias", 0.0)
    if factor == 1 and offset:
        return "add", {"scalar": 1}
    return ("paddle.scale", {}) if offset else ("mul", {"scalar": 1})


def _matmul(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
    return "matmul", {}  # the reader changes it to `linear` if the second operand is a constant


def _slice(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
    """Read a slice. Axes that it keeps whole are left out, unless these are all."""
    axes, starts = _integers(op.attrs["axes"], "axes"), _integers(op.attrs.get("starts", ()), "starts")
    if not starts:  # computed while the program runs
        return f"paddle.{op.type}", {"axes": axes}
    source = shapes[0]
    ends = _integers(op.attrs["ends"], "ends")
    steps = _integers(op.attrs.get("strides", ()), "strides") or (1,) * len(axes)
    cuts = [
        (axis, start % source[axis] if start < 0 else start, step)
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
        if range(source[axis])[start:end:step] != range(source[axis])
    ]
    axes, starts, steps = zip(*cuts, strict=True) if cuts else (axes, starts, steps)
    attrs: Attrs = {"axes": axes, "starts": starts}
    return "slice", attrs | ({"steps": steps} if set(steps) - {1} else {})


def _pad(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
    """Read a padding. Paddle lists the last axis first: left, right, top, bottom, front, back."""
    pads = _integers(op.attrs["paddings"], "paddings")
    return "pad", {"pads": (*pads[-2::-2], *pads[::-2]), "mode": str(op.attrs.get("mode", "constant"))}


def _resize(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
    return "resize", {"mode": str(op.attrs["interp_method"]).removeprefix("bi")}


def _norm(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
    begin = int(op.attrs.get("begin_norm_axis", len(shapes[0]) - 1))
    return "layer_norm", {} if begin == len(shapes[0]) - 1 else {"axis": begin}


def _argmax(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
    return "argmax", {"axis": int(op.attrs["axis"]) % len(shapes[0]), "keepdim": int(bool(op.attrs.get("keepdims")))}


def _flip(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
    return "flip", {"axes": tuple(sorted(axis % len(shapes[0]) for axis in _integers(op.attrs["axis"], "axis")))}


def _transpose(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
    return "transpose", {"perm": _integers(op.attrs["axis"], "axis")}


def _grouped(kind: str, name: str) -> _Reader:
    def read(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
        return kind, {"group": int(op.attrs[name])}

    return read


_SAME_NAME = (
    "relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "mish", "hard_swish", "hard_sigmoid", "sigmoid", "swish",
    "tanh", "gelu", "softplus", "clip", "exp", "log", "sqrt", "rsqrt", "reciprocal", "erf", "sin", "cos", "abs", "sign",
    "floor", "ceil", "round", "logical_not", "logical_and", "logical_or", "equal", "not_equal", "greater_equal",
    "less_equal", "batch_norm", "instance_norm", "where", "cast", "tile", "roll", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "asinh", "acosh", "atanh", "trunc", "log1p", "log2", "expm1", "celu", "softsign", "hard_shrink",
    "logical_xor",
)  # fmt: skip

_RESHAPES = (
    "reshape2", "squeeze2", "unsqueeze2", "flatten2", "flatten_contiguous_range", "reshape", "squeeze", "unsqueeze",
    "flatten",
)  # fmt: skip

# operator -> function that gives the op and its attributes
_READ: Mapping[str, _Reader] = {
    **{op: _plain(op) for op in _SAME_NAME},
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "conv3d"), _conv),
    **dict.fromkeys(("conv2d_transpose", "depthwise_conv2d_transpose", "conv3d_transpose"), _conv),
    **dict.fromkeys(("pool2d", "pool3d"), _pool),
    **dict.fromkeys(("max_pool2d_with_index", "max_pool3d_with_index"), _pool_with_index),
    **dict.fromkeys(("matmul", "matmul_v2", "mul", "bmm"), _matmul),
    "fc": _plain("linear"),
    **{f"elementwise_{op}": _plain(op) for op in ("add", "sub", "mul", "div", "pow", "mod")},
    "elementwise_max": _plain("maximum"),
    "elementwise_min": _plain("minimum"),
    "greater_than": _plain("greater"),
    "less_than": _plain("less"),
    "silu": _plain("swish"),
    "isnan_v2": _plain("is_nan"),
    "isinf_v2": _plain("is_inf"),
    "softshrink": _plain("soft_shrink"),
    "logsigmoid": _plain("log_sigmoid"),
    "tril_triu": _plain("trilu"),
    "grid_sampler": _plain("grid_sample"),
    "flip": _flip,
    "index_select": _axis("gather", name="dim"),
    "scale": _scale,
    "pow": _plain("pow", scalar=1),
    "square": _plain("pow", scalar=1),
    "layer_norm": _norm,
    "group_norm": _grouped("group_norm", "groups"),
    **{f"reduce_{op}": _reduce for op in ("mean", "sum", "max", "min", "prod")},
    "softmax": _axis("softmax"),
    "log_softmax": _axis("log_softmax"),
    "cumsum": _axis("cumsum"),
    "concat": _axis("concat"),
    "split": _axis("split"),
    "stack": _axis("stack"),
    "gather": _axis("gather"),
    "arg_max": _argmax,
    "top_k_v2": _axis("topk", k="k"),
    "lookup_table_v2": _plain("embedding"),
    **{op: _plain("reshape") for op in _RESHAPES},
    **dict.fromkeys(("transpose", "transpose2"), _transpose),
    "expand_v2": _plain("expand"),
    **dict.fromkeys(("slice", "strided_slice"), _slice),
    "pad3d": _pad,
    **{f"{mode}_interp_v2": _resize for mode in ("bilinear", "nearest", "bicubic")},
    **{f"{mode}_interp": _resize for mode in ("bilinear", "nearest", "bicubic")},
    "shuffle_channel": _grouped("shuffle_channel", "group"),
    "channel_shuffle": _grouped("shuffle_channel", "groups"),
    "quantize_linear": _plain("quantize"),
    "dequantize_linear": _plain("dequantize"),
}


def read_op(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> _Read:
    """The op and attributes of a Paddle operator. An unknown operator becomes ``paddle.name``.

    Args:
        op: Operator of a program.
        shapes: Shapes of its operands, in the order of `operands`.
        target: Shape of its first output.

    Raises:
        LookupError, TypeError, ValueError, ArithmeticError: if an attribute is missing or wrong. The caller adds the
            operator's place.
    """
    read = _READ.get(op.type)
    return read(op, shapes, target) if read else (f"paddle.{op.type}", {})


def is_identity(op: PaddleOp, shapes: Sequence[Shape], target: Shape) -> bool:
    """Whether an operator changes nothing in a deployed network."""
    if op.type == "scale":
        return (op.attrs.get("scale", 1), op.attrs.get("bias", 0)) == (1, 0)
    if op.type == "sum":
        return len(op.inputs["X"]) == 1
    return op.type in _IDENTITY or (op.type in _RESHAPES and [target] == list(shapes))
