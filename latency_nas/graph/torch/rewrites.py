"""Rewrites aten ops by other ops, as torch's own exporter and the engines decompose them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from latency_nas.graph.torch.activations import ACTIVATIONS
from latency_nas.graph.torch.attention import encoder_layer, multi_head_attention, scaled_attention
from latency_nas.graph.torch.recurrent import read_recurrent
from latency_nas.graph.torch.statistics import STATISTICS
from latency_nas.graph.torch.unfolded import read_windows

__all__ = ["SEPARATE", "WHOLE", "rewrite_of"]


def _baddbmm(bias: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    product = left @ right
    return (bias if beta == 1 else bias * beta) + (product if alpha == 1 else product * alpha)


def _add_scaled(x: Tensor, other: Any, *, alpha: float = 1) -> Tensor:
    total: Tensor = x + other * alpha
    return total


def _pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    *batch, c, h, w = x.shape
    parts = x.reshape(-1, c // factor**2, factor, factor, h, w).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(*batch, c // factor**2, h * factor, w * factor)


def _pixel_unshuffle(x: Tensor, factor: int) -> Tensor:
    *batch, c, h, w = x.shape
    parts = x.reshape(-1, c, h // factor, factor, w // factor, factor).permute(0, 1, 3, 5, 2, 4)
    return parts.reshape(*batch, c * factor**2, h // factor, w // factor)


def _channel_shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, *spatial = x.shape
    return x.reshape(n, groups, c // groups, *spatial).transpose(1, 2).reshape(x.shape)


def _select(x: Tensor, dim: int, index: int) -> Tensor:
    return x.narrow(dim, index % x.shape[dim], 1).squeeze(dim)


def _unbind(x: Tensor, dim: int = 0) -> list[Tensor]:
    return [_select(x, dim, index) for index in range(x.shape[dim])]


def _stack(tensors: list[Tensor], dim: int = 0) -> Tensor:
    return torch.cat([tensor.unsqueeze(dim) for tensor in tensors], dim)


def _extreme(reduce: Callable[..., Tensor], find: Callable[..., Tensor]) -> Callable[..., Any]:
    def rewrite(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
        axes = tuple(range(x.dim())) if dim is None else dim
        value = reduce(x, axes, keepdim)
        return value if dim is None else (value, find(x, dim, keepdim))

    return rewrite


def _glu(x: Tensor, dim: int = -1) -> Tensor:
    kept, gate = x.chunk(2, dim)
    return kept * torch.sigmoid(gate)


def _addcmul(x: Tensor, first: Tensor, second: Tensor, *, value: float = 1) -> Tensor:
    product = first * second
    return x + (product if value == 1 else product * value)


def _norm(x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:  # noqa: A002
    """A norm of vectors by the ops that it consists of."""
    axes = tuple(range(x.dim())) if dim is None else dim
    if ord in (math.inf, -math.inf):
        return (torch.amax if ord > 0 else torch.amin)(x.abs(), axes, keepdim)
    if ord == 0:
        return (x != 0).sum(axes, keepdim)
    if ord == 2:
        return (x * x).sum(axes, keepdim).sqrt()
    total: Tensor = x.abs().sum(axes, keepdim) if ord == 1 else (x.abs() ** ord).sum(axes, keepdim) ** (1 / ord)
    return total


def _sort(x: Tensor, dim: int = -1, descending: bool = False, **_: Any) -> Any:
    """Sort by the op that torch's own exporter has for it."""
    return x.topk(x.shape[dim], dim, descending)


def _clamp(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """A clamp to tensors."""
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def _remainder(x: Any, other: Any) -> Any:
    """A remainder of floats with the sign of the divisor. Engines have an op for one of integers."""
    rounded = _divide(x, other, rounding_mode="floor")
    return rounded if rounded is NotImplemented else x - rounded * other


def _divide(x: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """A division of floats whose result is rounded. One of integers is an op."""
    floats = (isinstance(item, float) or (isinstance(item, Tensor) and item.is_floating_point()) for item in (x, other))
    if rounding_mode is not None and not any(floats):
        return NotImplemented
    quotient = x / other
    return quotient if rounding_mode is None else quotient.floor() if rounding_mode == "floor" else quotient.trunc()


def _adaptive_avg_pool(x: Tensor, size: list[int]) -> Tensor:
    """A pooling to one pixel is a mean, as in torch's own exporter."""
    if all(each == 1 for each in size):
        return x.mean((-2, -1), keepdim=True)
    pooled: Tensor = torch.ops.aten._adaptive_avg_pool2d(x, size)
    return pooled


# name of an aten op, or of an overload -> its rewrite; "add.alpha" is an addition with a scaled second term
_REWRITES: dict[str, Callable[..., Any]] = {
    "scaled_dot_product_attention": scaled_attention,
    "_native_multi_head_attention": multi_head_attention,
    "_transformer_encoder_layer_fwd": encoder_layer,
    "baddbmm": _baddbmm,
    "add.alpha": _add_scaled,
    "sub.alpha": lambda x, other, *, alpha=1: x - other * alpha,
    "addmm": _baddbmm,
    "addcmul": _addcmul,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "native_channel_shuffle": _channel_shuffle,
    "select": _select,
    "unbind": _unbind,
    "stack": _stack,
    **{f"max.{kind}": _extreme(torch.amax, torch.argmax) for kind in ("default", "dim")},
    **{f"min.{kind}": _extreme(torch.amin, torch.argmin) for kind in ("default", "dim")},
    "adaptive_avg_pool2d": _adaptive_avg_pool,
    "mv": lambda x, vector: (x @ vector.unsqueeze(-1)).squeeze(-1),
    "dot": lambda x, other: (x * other).sum(),
    "outer": lambda x, other: x.unsqueeze(-1) * other,
    "glu": _glu,
    **STATISTICS,
    **ACTIVATIONS,
    "clamp.Tensor": _clamp,
    "clamp_min.Tensor": _clamp,
    "clamp_max.Tensor": lambda x, high: _clamp(x, None, high),
    "remainder": _remainder,
    "linalg_vector_norm": _norm,
    "sort": _sort,
    "floor_divide": lambda x, other: _divide(x, other, rounding_mode="floor"),
    **{f"div.{kind}_mode": _divide for kind in ("Tensor", "Scalar")},
}

# ops that are nodes of their own, not what torch makes of them -> function of the op, its arguments, and one that adds
# a node; it gives None for a form that it does not know
WHOLE: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), read_recurrent),
    **dict.fromkeys(("unfold", "im2col"), read_windows),
}

# ops that are rewritten for constants, too: their results share memory, but are written to as if they did not
SEPARATE: dict[str, Callable[..., Any]] = {
    "unsafe_chunk": lambda x, *args: [part.clone() for part in x.chunk(*args)],
    "unsafe_split": lambda x, *args: [part.clone() for part in x.split(*args)],
    "unsafe_split_with_sizes": lambda x, *args: [part.clone() for part in x.split(*args)],
}


def rewrite_of(name: str, func: Any, kwargs: Mapping[str, Any]) -> Callable[..., Any] | None:
    """The function that computes a call by other ops; None if the call stays, or writes to a given tensor.

    The function gives `NotImplemented` where arguments of that kind have an op of their own.

    Args:
        name: Name of the aten op.
        func: Its overload. One that works in place writes the result into its first argument.
        kwargs: Named arguments.
    """
    scaled = f"{name}.alpha" if kwargs.get("alpha", 1) != 1 else ""
    found = _REWRITES.get(scaled) or _REWRITES.get(f"{name}.{func._overloadname}") or _REWRITES.get(name)
    if found is None or "out" in kwargs:
        return None
    return found if func.overloadpacket.__name__ == name else _in_place(found)


def _in_place(rewrite: Callable[..., Any]) -> Callable[..., Any]:
    """The rewrite of an op that writes its result into its first argument."""

    def run(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        made = rewrite(x, *args, **kwargs)
        return made if made is NotImplemented else x.copy_(made)

    return run
