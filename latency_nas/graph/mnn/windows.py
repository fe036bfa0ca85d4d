"""Attributes of MNN's convolutions and poolings, in the vocabulary of kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latency_nas.graph.mnn.model_file import MnnOp
from latency_nas.kernel import AttrValue, Shape

__all__ = ["Attrs", "conv_attrs", "pool_attrs"]

Attrs = dict[str, AttrValue]

_VALID, _SAME = 1, 2  # `PadMode` and `PoolPadType` of the schema


def _same(source: Shape, target: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Shape:
    """The padding by which a window gives the output's size, the smaller half first."""
    total = [
        max(0, (n_out - 1) * s + (k - 1) * d + 1 - n_in)
        for n_in, n_out, k, s, d in zip(source, target, kernel, stride, dilation, strict=True)
    ]
    return (*[size // 2 for size in total], *[size - size // 2 for size in total])


def _pad(
    fields: Mapping[str, Any], mode: int, source: Shape, target: Shape, window: tuple[Shape, Shape, Shape]
) -> Shape:
    """The padding before each axis, then after each."""
    if mode == _SAME:
        return _same(source, target, *window)
    if mode == _VALID:
        return (0,) * 2 * len(source)
    pads = tuple(fields["pads"])
    return pads if pads or "padX" not in fields else (fields["padY"], fields["padX"]) * 2


def conv_attrs(op: MnnOp, source: Shape, target: Shape) -> Attrs | None:
    """The attributes of a convolution; None if the op is none.

    Args:
        op: Op of the file.
        source: Height and width of the input.
        target: Height and width of the output.
    """
    fields = op.attributes.get("common")
    if fields is None:
        return None
    transposed = op.type.startswith("Deconvolution")
    kernel, stride, dilation = ((fields[f"{name}Y"], fields[f"{name}X"]) for name in ("kernel", "stride", "dilate"))
    ends = (target, source) if transposed else (source, target)
    attrs: Attrs = {
        "kernel": kernel,
        "stride": stride,
        "dilation": dilation,
        "pad": _pad(fields, fields["padMode"], *ends, (kernel, stride, dilation)),
        "group": fields["group"],
        "bias": int(_has_bias(op)),
    }
    if transposed:
        attrs["output_pad"] = tuple(fields["outPads"]) or (0, 0)
    if act := "relu" if fields["relu"] else "relu6" if fields["relu6"] else "":
        attrs["act"] = act
    return attrs


def _has_bias(op: MnnOp) -> bool:
    """Whether a bias is not zero. One that lies in another file counts as not zero."""
    quantised = op.attributes["symmetricQuan"] or {"bias": ()}
    if any(op.attributes["bias"]) or any(quantised["bias"]):
        return True
    return not op.attributes["bias"] and op.attributes["external"][2:3] > (0,)


def pool_attrs(op: MnnOp, source: Shape, target: Shape) -> Attrs | None:
    """The attributes of a pooling; None if the op is none, or pools along other axes.

    Args:
        op: Op of the file.
        source: Sizes of the input along the axes that are pooled.
        target: Those of the output.
    """
    fields, n_axes = op.attributes, len(source)
    if "isGlobal" not in fields:
        return None
    attrs: Attrs = {"type": "avg" if fields["type"] else "max"}
    if fields["isGlobal"]:
        return attrs | {"kernel": source, "stride": (1,) * n_axes, "pad": (0,) * 2 * n_axes, "global": 1}
    if op.type == "Pooling":
        kernel, stride = ((fields[f"{name}Y"], fields[f"{name}X"]) for name in ("kernel", "stride"))
    else:
        kernel, stride = tuple(fields["kernels"]), tuple(fields["strides"])
    if not len(kernel) == len(stride) == n_axes == len(target):
        return None
    pad = _pad(fields, fields["padType"], source, target, (kernel, stride, (1,) * n_axes))
    if len(pad) == n_axes:  # the same before and after
        pad *= 2
    attrs |= {"kernel": kernel, "stride": stride, "pad": pad}
    return attrs | ({"ceil": 1} if fields.get("ceilModel") else {})
