"""The vocabulary of ops: the attributes that each has, and what is checked of its shapes."""

from __future__ import annotations

__all__ = ["DTYPES", "MIN_RANKS", "OPS", "SPATIAL_AXES"]

Attributes = tuple[tuple[str, ...], tuple[str, ...]]

_NONE: Attributes = ((), ())
_CONV: Attributes = (("dilation", "group", "kernel", "pad", "stride"), ("act", "bias"))
_CONV_TRANSPOSE: Attributes = (_CONV[0], ("act", "bias", "output_pad"))
_POOL: Attributes = (("kernel", "pad", "stride", "type"), ("ceil", "dilation", "global"))
_REDUCE: Attributes = (("axes",), ("keepdim",))
_BINARY: Attributes = ((), ("act", "scalar"))

# op -> (attributes it must have, attributes it may have). A source that does not record an attribute (PaddleSlim's
# tables know no activation) leaves it out; an op that is not listed here keeps whatever attributes its reader gave it.
OPS: dict[str, Attributes] = {
    # windows; `pad` is what is added before each spatial axis, then what is added after each
    "conv1d": _CONV,
    "conv2d": _CONV,
    "conv3d": _CONV,
    "conv_transpose1d": _CONV_TRANSPOSE,
    "conv_transpose2d": _CONV_TRANSPOSE,
    "conv_transpose3d": _CONV_TRANSPOSE,
    "pool1d": _POOL,
    "pool2d": _POOL,
    "pool3d": _POOL,
    # products; a matmul of one input multiplies it from the left by a constant
    "linear": ((), ("act", "bias")),
    "matmul": _NONE,
    # norms; `axis` is the first axis of those that are normalised, where that is not the last axis
    "batch_norm": ((), ("act",)),
    "layer_norm": ((), ("axis",)),
    "rms_norm": ((), ("axis",)),
    "group_norm": (("group",), ()),
    "instance_norm": _NONE,
    # of two operands; `scalar` is 1 where one is a number
    **dict.fromkeys(("add", "sub", "mul", "div", "pow", "mod", "maximum", "minimum"), _BINARY),
    **dict.fromkeys(("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"), _BINARY),
    **dict.fromkeys(("logical_and", "logical_or"), _BINARY),
    "where": ((), ("scalar",)),
    # of one
    **dict.fromkeys(("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "mish", "hard_swish"), _NONE),
    **dict.fromkeys(("hard_sigmoid", "sigmoid", "swish", "tanh", "gelu", "softplus", "clip"), _NONE),
    **dict.fromkeys(("exp", "log", "sqrt", "rsqrt", "reciprocal", "erf", "sin", "cos"), _NONE),
    **dict.fromkeys(("abs", "neg", "sign", "floor", "ceil", "round", "logical_not"), _NONE),
    "softmax": ((), ("axis",)),
    "log_softmax": ((), ("axis",)),
    "cumsum": ((), ("axis",)),
    # reductions
    **dict.fromkeys(("reduce_mean", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod"), _REDUCE),
    "argmax": ((), ("axis", "keepdim")),
    "topk": (("k",), ("axis",)),
    # what moves data
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
    "shuffle_channel": (("group",), ()),
    "raster": (("source", "target"), ()),
    # between types
    "cast": _NONE,
    "quantize": ((), ("axis",)),
    "dequantize": ((), ("axis",)),
}

# dtype -> bytes of an element
DTYPES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "int64": 8, "int32": 4, "int16": 2, "bool": 1}

# ops that move a window over so many axes, which follow the batch and the channels
SPATIAL_AXES = {f"{op}{n}d": n for op in ("conv", "conv_transpose", "pool") for n in (1, 2, 3)}

# other ops whose work is computed from their sizes, and how many sizes their input and output have at the least
MIN_RANKS = {
    "linear": 1, "matmul": 2, "batch_norm": 2, "layer_norm": 1, "rms_norm": 1, "group_norm": 2, "instance_norm": 2,
    "prelu": 1,
}  # fmt: skip
