"""Reads convolutions and poolings of aten, with their arguments expanded to all axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from latency_nas.kernel import AttrValue

__all__ = ["Attrs", "Read", "adaptive_pool", "conv", "conv_transpose", "convolution", "pool"]

Attrs = dict[str, AttrValue]
Read = tuple[str, Attrs] | None  # None: the op must be decomposed


def _each(values: int | Sequence[int], n_axes: int) -> tuple[int, ...]:
    """A value for each axis; a single one counts for all axes."""
    sizes = (values,) if isinstance(values, int) else tuple(values)
    return sizes * n_axes if len(sizes) == 1 else sizes


def _padding(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """The padding before each axis, then after each axis. For "same", the larger half comes after."""
    if padding == "valid":
        return (0,) * 2 * len(kernel)
    if padding == "same":
        total = [step * (size - 1) for size, step in zip(kernel, dilation, strict=True)]
        return *(size // 2 for size in total), *(size - size // 2 for size in total)
    return _each(padding, len(kernel)) * 2


def conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Read:  # fmt: skip
    """Read a convolution over any number of axes; None for an image without a batch."""
    if x.dim() != weight.dim():
        return None
    kernel = tuple(weight.shape[2:])
    n_axes = len(kernel)
    dilation = _each(dilation, n_axes)
    return f"conv{n_axes}d", {
        "kernel": kernel,
        "stride": _each(stride, n_axes),
        "pad": _padding(padding, kernel, dilation),
        "dilation": dilation,
        "group": groups,
        "bias": int(bias is not None),
    }


def conv_transpose(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1,
) -> Read:  # fmt: skip
    """Read a transposed convolution; None for an image without a batch."""
    read = conv(x, weight, bias, stride, padding, dilation, groups)
    if read is None:
        return None
    return read[0].replace("conv", "conv_transpose"), read[1] | {"output_pad": _each(output_padding, weight.dim() - 2)}


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> Read:  # fmt: skip
    """Read `aten.convolution`, which may be transposed."""
    if transposed:
        return conv_transpose(x, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(x, weight, bias, stride, padding, dilation, groups)


def pool(kind: str, n_axes: int) -> Callable[..., Read]:
    """A reader of a pooling over `n_axes` axes; `kind` is ``"max"`` or ``"avg"``."""

    def read(x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, *rest: Any, **named: Any) -> Read:
        if x.dim() != n_axes + 2:
            return None
        dilation = (*rest, 1)[0] if kind == "max" else 1  # an average pooling has `ceil_mode` there
        ceil = named.get("ceil_mode", (*rest, False, False)[1 if kind == "max" else 0])
        attrs: Attrs = {
            "type": kind,
            "kernel": _each(kernel, n_axes),
            "stride": _each(stride or kernel, n_axes),
            "pad": _each(padding, n_axes) * 2,
        }
        if set(_each(dilation, n_axes)) != {1}:
            attrs["dilation"] = _each(dilation, n_axes)
        return f"pool{n_axes}d", attrs | ({"ceil": 1} if ceil else {})

    return read


def adaptive_pool(kind: str) -> Callable[..., Read]:
    """A reader of an adaptive pooling. It has a window if this is the same everywhere."""

    def read(x: Tensor, size: Sequence[int]) -> Read:
        n_axes = len(size)
        sources = x.shape[-n_axes:]
        if x.dim() != n_axes + 2 or any(source % target for source, target in zip(sources, size, strict=True)):
            return f"adaptive_pool{n_axes}d", {"type": kind}
        window = tuple(source // target for source, target in zip(sources, size, strict=True))
        return f"pool{n_axes}d", {"type": kind, "kernel": window, "stride": window, "pad": (0,) * 2 * n_axes}

    return read
