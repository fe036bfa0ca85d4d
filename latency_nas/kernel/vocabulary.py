"""The vocabulary of ops: the attributes of each op, and the number of axes of its shapes."""

from __future__ import annotations

__all__ = ["DTYPES", "MIN_RANKS", "OPS", "SPATIAL_AXES", "WITH_SIDE_OUTPUTS"]

Attributes = tuple[tuple[str, ...], tuple[str, ...]]

_NONE: Attributes = ((), ())
_CONV: Attributes = (("dilation", "group", "kernel", "pad", "stride"), ("act", "bias"))
_CONV_TRANSPOSE: Attributes = (_CONV[0], ("act", "bias", "output_pad"))
_POOL: Attributes = (("kernel", "pad", "stride", "type"), ("ceil", "dilation", "global"))
_REDUCE: Attributes = (("axes",), ("keepdim",))
_RECURRENT: Attributes = (("hidden",), ("directions", "projection"))
_BINARY: Attributes = ((), ("act", "scalar"))

# op -> (required attributes, optional attributes). A source that does not record an optional attribute leaves it out:
# PaddleSlim's tables record no activations. An op that is not listed here keeps the attributes that its reader gave it.
OPS: dict[str, Attributes] = {
    # windows; `pad` is the padding before each spatial axis, then the padding after each
    "conv1d": _CONV,
    "conv2d": _CONV,
    "conv3d": _CONV,
    "conv_transpose1d": _CONV_TRANSPOSE,
    "conv_transpose2d": _CONV_TRANSPOSE,
    "conv_transpose3d": _CONV_TRANSPOSE,
    "pool1d": _POOL,
    "pool2d": _POOL,
    "pool3d": _POOL,
    # a pooling to a size that does not divide its input's, so that windows differ
    **dict.fromkeys((f"adaptive_pool{n}d" for n in (1, 2, 3)), (("type",), ())),
    # products; a matmul with one input multiplies it by a constant: from the left, unless `constant` says right
    "linear": ((), ("act", "bias")),
    "matmul": ((), ("constant",)),
    # a layer over a sequence, of shape (steps, batch, features); with two directions, both read it; `projection` is
    # the size to which an LSTM projects its hidden state
    **dict.fromkeys(("lstm", "gru", "rnn"), _RECURRENT),
    # norms; `axis` is the first normalised axis, where that is not the last axis
    "batch_norm": ((), ("act",)),
    "layer_norm": ((), ("axis",)),
    "rms_norm": ((), ("axis",)),
    "group_norm": (("group",), ()),
    "instance_norm": _NONE,
    # two operands; `scalar` is 1 where one of them is a number
    **dict.fromkeys(("add", "sub", "mul", "div", "pow", "mod", "maximum", "minimum"), _BINARY),
    **dict.fromkeys(("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"), _BINARY),
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor"), _BINARY),
    "where": ((), ("scalar",)),
    # one operand
    **dict.fromkeys(("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "mish", "hard_swish"), _NONE),
    **dict.fromkeys(("hard_sigmoid", "sigmoid", "swish", "tanh", "gelu", "softplus", "clip"), _NONE),
    **dict.fromkeys(("exp", "log", "sqrt", "rsqrt", "square", "reciprocal", "erf", "sin", "cos"), _NONE),
    **dict.fromkeys(("abs", "neg", "sign", "floor", "ceil", "round", "logical_not", "is_nan"), _NONE),
    **dict.fromkeys(("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "trunc"), _NONE),
    **dict.fromkeys(("expm1", "exp2", "log1p", "log2", "celu", "softsign", "threshold", "is_inf", "trilu"), _NONE),
    **dict.fromkeys(("hard_shrink", "soft_shrink", "log_sigmoid"), _NONE),
    "softmax": ((), ("axis",)),
    "log_softmax": ((), ("axis",)),
    "cumsum": ((), ("axis",)),
    # reductions
    **dict.fromkeys(("reduce_mean", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod"), _REDUCE),
    "argmax": ((), ("axis", "keepdim")),
    "topk": (("k",), ("axis",)),
    # moves of data
    "concat": (("axis",), ()),
    "stack": (("axis",), ()),
    "split": (("axis",), ()),
    "slice": (("axes", "starts"), ("steps",)),
    "pad": (("mode", "pads"), ()),
    "resize": (("mode",), ()),
    "reshape": _NONE,
    "transpose": (("perm",), ()),
    "expand": _NONE,
    "tile": _NONE,
    "gather": (("axis",), ()),
    "embedding": _NONE,
    "index": _NONE,
    "scatter": _NONE,
    "roll": _NONE,
    "flip": (("axes",), ()),
    "im2col": _NONE,
    # samples between pixels
    "grid_sample": _NONE,
    "shuffle_channel": (("group",), ()),
    "raster": (("source", "target"), ()),
    # between types
    "cast": _NONE,
    "quantize": ((), ("axis",)),
    "dequantize": ((), ("axis",)),
}

# dtype -> bytes per element
DTYPES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "int64": 8, "int32": 4, "int16": 2, "bool": 1}

# op that moves a window -> its number of spatial axes, which follow the batch and the channels
SPATIAL_AXES = {f"{op}{n}d": n for op in ("conv", "conv_transpose", "pool") for n in (1, 2, 3)}

# other op whose work is computed from its shapes -> minimum rank of its first input and output
MIN_RANKS = {
    "linear": 1, "matmul": 2, "lstm": 3, "gru": 3, "rnn": 3, "batch_norm": 2, "layer_norm": 1, "rms_norm": 1,
    "group_norm": 2, "instance_norm": 2, "prelu": 1,
}  # fmt: skip

# ops that may have more outputs than their result: indices, statistics of a norm, a scale. Kernels have the result
# only, which is computed whichever output is read
WITH_SIDE_OUTPUTS = frozenset({
    *(f"{op}{n}d" for op in ("pool", "adaptive_pool") for n in (1, 2, 3)), "batch_norm", "layer_norm", "rms_norm",
    "group_norm", "instance_norm", "topk", "quantize",
})  # fmt: skip
