"""The aten ops that a torch module dispatches, in this library's vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from latency_nas.kernel import AttrValue

__all__ = ["DTYPES", "Attrs", "is_identity", "read_op"]

aten = torch.ops.aten

DTYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int8: "int8",
    torch.uint8: "int8",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.bool: "bool",
    torch.float64: "fp32",  # engines for phones have no double; exporters narrow it
}

Attrs = dict[str, AttrValue]
_Read = tuple[str, Attrs]


def _pair(values: Sequence[int], rank: int) -> tuple[int, ...]:
    return tuple(values) * rank if len(values) == 1 else tuple(values)


def _both_sides(padding: Sequence[int], rank: int) -> tuple[int, ...]:
    return _pair(padding, rank) * 2


def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> _Read:  # fmt: skip
    rank = weight.dim() - 2
    attrs: Attrs = {
        "kernel": tuple(weight.shape[2:]),
        "stride": _pair(stride, rank),
        "pad": _both_sides(padding, rank),
        "dilation": _pair(dilation, rank),
        "group": groups,
        "bias": int(bias is not None),
    }
    if transposed:
        attrs["output_pad"] = _pair(output_padding, rank)
    return f"conv{'_transpose' if transposed else ''}{rank}d", attrs


def _max_pool(
    x: Tensor, kernel: Any, stride: Any = (), padding: Any = (0,), dilation: Any = (1,), ceil_mode: bool = False
) -> _Read:
    if set(dilation) != {1}:
        return "aten.max_pool2d_dilated", {}
    return _pool("max", kernel, stride, padding, ceil_mode)


def _avg_pool(x: Tensor, kernel: Any, stride: Any = (), padding: Any = (0,), ceil_mode: bool = False, *_: Any) -> _Read:
    return _pool("avg", kernel, stride, padding, ceil_mode)


def _pool(kind: str, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> _Read:
    attrs: Attrs = {
        "type": kind,
        "kernel": _pair(kernel, 2),
        "stride": _pair(stride or kernel, 2),
        "pad": _both_sides(padding, 2),
    }
    return "pool2d", attrs | ({"ceil": 1} if ceil_mode else {})


def _mean(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False, **_: Any) -> _Read:
    """A global average pool is a mean, too: torch itself makes one of it, also where it exports ONNX."""
    axes = tuple(sorted(dim % x.dim() for dim in (dims or range(x.dim()))))
    return "reduce_mean", {"axes": axes, "keepdim": int(keepdim)}


def _hardtanh(x: Tensor, low: float = -1.0, high: float = 1.0) -> _Read:
    return ("relu6", {}) if (low, high) == (0, 6) else ("aten.hardtanh", {})


def _binary(op: str) -> Callable[..., _Read]:
    def read(x: Any, other: Any, **_: Any) -> _Read:
        return op, {} if isinstance(x, Tensor) and isinstance(other, Tensor) else {"scalar": 1}

    return read


def _plain(op: str, **attrs: int) -> Callable[..., _Read]:
    fixed: Attrs = dict(attrs)
    return lambda *_, **__: (op, dict(fixed))


def _transpose(x: Tensor, first: int, second: int) -> _Read:
    perm = list(range(x.dim()))
    perm[first], perm[second] = perm[second], perm[first]
    return "transpose", {"perm": tuple(perm)}


# aten op -> a function of its arguments that gives the op and its attributes
_READ: dict[Any, Callable[..., _Read]] = {
    aten.convolution.default: _convolution,
    aten._native_batch_norm_legit_no_training.default: _plain("batch_norm"),
    aten.native_batch_norm.default: _plain("batch_norm"),
    aten.cudnn_batch_norm.default: _plain("batch_norm"),
    aten.native_layer_norm.default: _plain("layer_norm"),
    aten.addmm.default: _plain("linear", bias=1),
    aten.mm.default: _plain("linear", bias=0),
    aten.bmm.default: _plain("matmul"),
    aten.relu.default: _plain("relu"),
    aten.relu_.default: _plain("relu"),
    aten.hardtanh.default: _hardtanh,
    aten.hardtanh_.default: _hardtanh,
    aten.hardswish.default: _plain("hard_swish"),
    aten.hardswish_.default: _plain("hard_swish"),
    aten.hardsigmoid.default: _plain("hard_sigmoid"),
    aten.hardsigmoid_.default: _plain("hard_sigmoid"),
    aten.sigmoid.default: _plain("sigmoid"),
    aten.sigmoid_.default: _plain("sigmoid"),
    aten.silu.default: _plain("swish"),
    aten.silu_.default: _plain("swish"),
    aten.tanh.default: _plain("tanh"),
    aten.gelu.default: _plain("gelu"),
    aten._softmax.default: lambda x, dim, *_: ("softmax", {"axis": dim % x.dim()}),
    aten.add.Tensor: _binary("add"),
    aten.add_.Tensor: _binary("add"),
    aten.sub.Tensor: _binary("sub"),
    aten.sub_.Tensor: _binary("sub"),
    aten.mul.Tensor: _binary("mul"),
    aten.mul_.Tensor: _binary("mul"),
    aten.div.Tensor: _binary("div"),
    aten.div_.Tensor: _binary("div"),
    aten.mean.dim: _mean,
    aten.avg_pool2d.default: _avg_pool,
    aten.max_pool2d_with_indices.default: _max_pool,
    aten.cat.default: lambda tensors, dim=0: ("concat", {"axis": dim % tensors[0].dim()}),
    aten.view.default: _plain("reshape"),
    aten._unsafe_view.default: _plain("reshape"),
    aten.unsqueeze.default: _plain("reshape"),
    aten.squeeze.dim: _plain("reshape"),
    aten.squeeze.dims: _plain("reshape"),
    aten.permute.default: lambda x, dims: ("transpose", {"perm": tuple(dim % x.dim() for dim in dims)}),
    aten.transpose.int: _transpose,
    aten.t.default: lambda x: _transpose(x, 0, 1),
}

# ops whose output is their input, for a deployed network
_IDENTITY = frozenset({
    aten.alias.default, aten.clone.default, aten.contiguous.default, aten.detach.default, aten.dropout.default,
    aten.lift_fresh.default, aten.lift_fresh_copy.default,
})  # fmt: skip


def read_op(func: Any, args: Any, kwargs: Any) -> tuple[str, Attrs]:
    """The op and attributes of an aten call; one that is not known stays as itself, ``aten.name``."""
    read = _READ.get(func)
    return read(*args, **kwargs) if read else (str(func.overloadpacket), {})


def is_identity(func: Any) -> bool:
    """Whether a deployed network has nothing in its place."""
    return func in _IDENTITY
