"""Reads the aten ops that a torch module dispatches into this library's vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from latency_nas.graph.torch.windows import Attrs, Read, adaptive_pool, conv, conv_transpose, convolution, pool
from latency_nas.kernel import AttrValue

__all__ = [
    "DTYPES", "IDENTITY", "SHAPE_ONLY", "Attrs", "filled", "full_name", "is_random", "name_of", "operands", "read_op",
]  # fmt: skip

DTYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int8: "int8",
    torch.uint8: "int8",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.int16: "int16",
    torch.bool: "bool",
    torch.float64: "fp32",  # engines for phones have no double, so exporters narrow it
}


def _reduce(op: str) -> Callable[..., Read]:
    """A reader of a reduction. A global average pool is a mean, too, as in torch's own ONNX exporter."""

    def read(x: Tensor, dims: Any = None, keepdim: bool = False, **_: Any) -> Read:
        listed = [dims] if isinstance(dims, int) else dims or range(x.dim())
        return op, {"axes": tuple(sorted(dim % x.dim() for dim in listed)), "keepdim": int(keepdim)}

    return read


def _argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Read:
    return "argmax", {} if dim is None else {"axis": dim % x.dim(), "keepdim": int(keepdim)}


def _layer_norm(op: str) -> Callable[..., Read]:
    def read(x: Tensor, normalized_shape: Sequence[int], *_: Any, **__: Any) -> Read:
        return op, {"axis": x.dim() - len(normalized_shape)} if len(normalized_shape) > 1 else {}

    return read


def _clamp(x: Tensor, low: Any = None, high: Any = None) -> Read:
    return ("relu", {}) if (low, high) == (0, None) else ("relu6", {}) if (low, high) == (0, 6) else ("clip", {})


def _on_axis(op: str) -> Callable[..., Read]:
    return lambda x, dim, *_, **__: (op, {"axis": dim % max(1, x.dim())})


def _plain(op: str, **attrs: AttrValue) -> Callable[..., Read]:
    fixed: Attrs = dict(attrs)
    return lambda *_, **__: (op, dict(fixed))


def _transpose(x: Tensor, first: int = 0, second: int = 1) -> Read:
    if x.dim() < 2:
        return "reshape", {}
    perm = list(range(x.dim()))
    perm[first], perm[second] = perm[second], perm[first]
    return "transpose", {"perm": tuple(perm)}


def _slice(x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Read:
    size = x.shape[dim]
    first = min(max((start or 0) + (size if (start or 0) < 0 else 0), 0), size)
    attrs: Attrs = {"axes": (dim % x.dim(),), "starts": (first,)}
    return "slice", attrs | ({"steps": (step,)} if step != 1 else {})


def _pad(mode: str) -> Callable[..., Read]:
    def read(x: Tensor, pad: Sequence[int], *_: Any) -> Read:
        """Read a padding. Torch lists pairs of (before, after), that of the last axis first."""
        unpadded = (0,) * (x.dim() - len(pad) // 2)
        return "pad", {"mode": mode, "pads": (*unpadded, *pad[-2::-2], *unpadded, *pad[::-2])}

    return read


_UNARY = {
    "relu": "relu", "relu6": "relu6", "leaky_relu": "leaky_relu", "prelu": "prelu", "_prelu_kernel": "prelu",
    "elu": "elu", "selu": "selu", "mish": "mish", "hardswish": "hard_swish", "hardsigmoid": "hard_sigmoid",
    "sigmoid": "sigmoid", "silu": "swish", "tanh": "tanh", "gelu": "gelu", "softplus": "softplus", "exp": "exp",
    "log": "log", "sqrt": "sqrt", "rsqrt": "rsqrt", "reciprocal": "reciprocal", "erf": "erf", "sin": "sin",
    "cos": "cos", "abs": "abs", "neg": "neg", "sign": "sign", "floor": "floor", "ceil": "ceil", "round": "round",
    "logical_not": "logical_not", "bitwise_not": "logical_not", "isnan": "is_nan", "isinf": "is_inf", "tan": "tan",
    "asin": "asin", "acos": "acos", "atan": "atan", "sinh": "sinh", "cosh": "cosh", "asinh": "asinh", "acosh": "acosh",
    "atanh": "atanh", "trunc": "trunc", "expm1": "expm1", "exp2": "exp2", "log1p": "log1p", "log2": "log2",
    "celu": "celu", "softsign": "softsign", "tril": "trilu", "triu": "trilu",
}  # fmt: skip
_BINARY = {
    "add": "add", "sub": "sub", "rsub": "sub", "mul": "mul", "div": "div", "pow": "pow", "remainder": "mod",
    "fmod": "mod", "maximum": "maximum", "minimum": "minimum", "eq": "equal", "ne": "not_equal", "gt": "greater",
    "ge": "greater_equal", "lt": "less", "le": "less_equal", "logical_and": "logical_and",
    "logical_or": "logical_or", "logical_xor": "logical_xor", "bitwise_and": "logical_and", "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor", "where": "where",
}  # fmt: skip
_SAME_DATA = ("view", "reshape", "_unsafe_view", "unsqueeze", "squeeze", "flatten", "unflatten", "view_as")
_SCATTERS = (
    "index_put",
    "_index_put_impl",
    "index_add",
    "index_copy",
    "index_fill",
    "scatter",
    "scatter_add",
    "scatter_reduce",
    "masked_scatter",
    "slice_scatter",
    "select_scatter",
    "col2im",
)
_RESIZE = {
    "linear": ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "_upsample_bilinear2d_aa"),
    "cubic": ("upsample_bicubic2d", "_upsample_bicubic2d_aa"),
    "nearest": tuple(f"{kind}{n}d" for kind in ("upsample_nearest", "_upsample_nearest_exact") for n in (1, 2, 3)),
}

# name of an op, as in `name_of` -> function of its arguments that gives the op and its attributes
_READ: dict[str, Callable[..., Read]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), conv),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), conv_transpose),
    "convolution": convolution,
    "_convolution": lambda *args: convolution(*args[:9]),
    **{f"max_pool{n}d": pool("max", n) for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": pool("max", n) for n in (2, 3)},
    **{f"avg_pool{n}d": pool("avg", n) for n in (1, 2, 3)},
    **{f"_adaptive_avg_pool{n}d": adaptive_pool("avg") for n in (2, 3)},
    **{f"adaptive_max_pool{n}d": adaptive_pool("max") for n in (2, 3)},
    "batch_norm": lambda x, weight, bias, mean, *_: None if mean is None else ("batch_norm", {}),
    "_native_batch_norm_legit_no_training": _plain("batch_norm"),
    "cudnn_batch_norm": _plain("batch_norm"),
    "layer_norm": _layer_norm("layer_norm"),
    "native_layer_norm": _layer_norm("layer_norm"),
    "rms_norm": _layer_norm("rms_norm"),
    "_fused_rms_norm": _layer_norm("rms_norm"),
    "group_norm": lambda x, groups, *_, **__: ("group_norm", {"group": groups}),
    "native_group_norm": lambda x, w, b, n, c, size, groups, eps: ("group_norm", {"group": groups}),
    "instance_norm": lambda x, weight, bias, mean, var, of_input, *_: (
        ("instance_norm" if of_input else "batch_norm", {})
    ),
    **{name: _plain(op) for name, op in _UNARY.items()},
    **{name: _plain(op) for name, op in _BINARY.items()},
    "masked_fill": _plain("where"),
    "hardtanh": lambda x, low=-1.0, high=1.0: _clamp(x, low, high),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _plain("clip"),
    **dict.fromkeys(("softmax", "_softmax", "_safe_softmax"), _on_axis("softmax")),
    **dict.fromkeys(("log_softmax", "_log_softmax"), _on_axis("log_softmax")),
    "floor_divide": _plain("div"),
    "cumsum": _on_axis("cumsum"),
    "mean": _reduce("reduce_mean"),
    "sum": _reduce("reduce_sum"),
    "amax": _reduce("reduce_max"),
    "amin": _reduce("reduce_min"),
    "prod": _reduce("reduce_prod"),
    "argmax": _argmax,
    "topk": lambda x, k, dim=-1, *_: ("topk", {"k": k, "axis": dim % x.dim()}),
    "cat": lambda tensors, dim=0: ("concat", {"axis": dim % max(tensor.dim() for tensor in tensors)}),
    "split": lambda x, size, dim=0: ("split" if x.shape[dim] % size else "chunk", {"axis": dim % x.dim()}),
    "split_with_sizes": lambda x, _, dim=0: ("split", {"axis": dim % x.dim()}),
    "slice": _slice,
    "constant_pad_nd": _pad("constant"),
    **{f"reflection_pad{n}d": _pad("reflect") for n in (1, 2, 3)},
    **{f"replication_pad{n}d": _pad("edge") for n in (1, 2, 3)},
    **{name: _plain("resize", mode=mode) for mode, names in _RESIZE.items() for name in names},
    **dict.fromkeys(_SAME_DATA, _plain("reshape")),
    "permute": lambda x, dims: ("transpose", {"perm": tuple(dim % x.dim() for dim in dims)}),
    "transpose": _transpose,
    "t": _transpose,
    "expand": _plain("expand"),
    "repeat": _plain("tile"),
    "index_select": lambda x, dim, _: ("gather", {"axis": dim % x.dim()}),
    **dict.fromkeys(("gather", "index"), _plain("index")),
    **dict.fromkeys(_SCATTERS, _plain("scatter")),
    "roll": _plain("roll"),
    "flip": lambda x, dims: ("flip", {"axes": tuple(sorted(dim % x.dim() for dim in dims))}),
    "copy": lambda to, source, *_, **__: ("expand" if to.dtype == source.dtype else "cast", {}),
    "grid_sampler_2d": _plain("grid_sample"),
    "grid_sampler_3d": _plain("grid_sample"),
    "embedding": _plain("embedding"),
    "_to_copy": _plain("cast"),
    "quantize_per_tensor": _plain("quantize"),
    "dequantize": _plain("dequantize"),
    **{f"quantized_decomposed::{op}_per_{part}": _plain(op)
       for op in ("quantize", "dequantize") for part in ("tensor", "channel", "token", "channel_group")},
}  # fmt: skip

# ops whose output is their first input in a deployed network
IDENTITY = frozenset({
    "alias", "clone", "contiguous", "detach", "dropout", "feature_dropout", "alpha_dropout", "native_dropout",
    "lift_fresh", "lift_fresh_copy", "resolve_conj", "resolve_neg",
})  # fmt: skip

# ops that use only the shape of their inputs
SHAPE_ONLY = frozenset({
    "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty", "fill",
    "zero",
})  # fmt: skip

_FILLED = {"zeros_like": 0.0, "new_zeros": 0.0, "zero": 0.0, "ones_like": 1.0, "new_ones": 1.0}
_FILLED_WITH = {"full_like": 1, "new_full": 2, "fill": 1}  # position of the number

_PRODUCTS = frozenset({"linear", "matmul", "mm", "bmm", "addmm"})


def name_of(func: Any) -> str:
    """The name of an op without its overload, as in the tables of this file.

    An op of aten has its bare name, without the underscore of an in-place op. That of another library has the library's
    name before it (``torchvision::nms``), whatever op of aten is called alike.
    """
    name = str(func.overloadpacket.__name__)
    return name.rstrip("_") if func.namespace == "aten" else f"{func.namespace}::{name}"


def full_name(name: str) -> str:
    """The name of an op with that of its library, by which a node calls an op that no table has."""
    return name if "::" in name else f"aten.{name}"


def is_random(func: Any) -> bool:
    """Whether an op draws random numbers: nobody knows its results before the model runs."""
    return torch.Tag.nondeterministic_seeded in func.tags


def filled(name: str, args: Sequence[Any]) -> float | None:
    """The number that an op of `SHAPE_ONLY` fills its result with; None where it is not stated."""
    place = _FILLED_WITH.get(name, len(args))
    number = args[place] if place < len(args) and name in _FILLED_WITH else _FILLED.get(name)
    return float(number) if isinstance(number, int | float) else None


def operands(name: str, args: Sequence[Any]) -> Sequence[Any] | None:
    """The two operands of an op, tensors or numbers, in the order of the vocabulary; None if it has not two."""
    if name not in _BINARY or name == "where" or len(args) < 2:
        return None
    return args[1::-1] if name == "rsub" else args[:2]


def _product(name: str, args: Sequence[Any], constant: Callable[[Tensor], bool]) -> Read:
    """Read a product: linear if weights are on the right, a matmul of one input if a constant is on the left."""
    bias = {"linear": (*args, None, None)[2], "addmm": args[0]}.get(name)
    left, right = args[1:3] if name == "addmm" else args[:2]
    if min(left.dim(), right.dim()) < 2 or (bias is not None and not constant(bias)):
        return None
    if constant(right) and not constant(left):
        return ("linear", {"bias": int(bias is not None)}) if right.dim() == 2 else ("matmul", {"constant": "right"})
    return None if name in {"linear", "addmm"} else ("matmul", {})


def read_op(func: Any, args: Any, kwargs: Any, constant: Callable[[Tensor], bool]) -> tuple[str, Attrs] | None:
    """The op and attributes of an aten call; None if the call must be decomposed.

    Args:
        func: Aten op.
        args: Positional arguments.
        kwargs: Named arguments.
        constant: Function that says whether a tensor is known before the model runs.
    """
    name = name_of(func)
    if name in _PRODUCTS:
        return _product(name, args, constant)
    read = _READ.get(name)
    return read(*args, **kwargs) if read else None
