"""Reads ONNX's ops that move data: slices, padding, gathering, transposition, resizing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from latency_nas.graph.onnx.call import Attrs, Call, Step, axis_of
from latency_nas.kernel import Shape

__all__ = ["MOVES"]


def _slice(call: Call) -> Step:
    starts, ends = call.integers("starts", 1) or [], call.integers("ends", 2) or []
    axes = call.integers("axes", 3) or list(range(len(starts)))
    steps = call.integers("steps", 4) or [1] * len(starts)
    axes = [axis_of(axis, call.shape()) for axis in axes]
    sizes = [call.shape()[axis] for axis in axes]
    firsts = [min(max(s + n if s < 0 else s, 0), n) for s, n in zip(starts, sizes, strict=True)]
    if len(ends) != len(starts) or len(steps) != len(starts):
        raise ValueError("its starts, ends and steps do not fit each other")
    if set(steps) == {-1} and call.outputs[0] == call.shape():
        return Step("flip", {"axes": tuple(sorted(axes))})
    attrs: Attrs = {"axes": tuple(axes), "starts": tuple(firsts)}
    return Step("slice", attrs | ({"steps": tuple(steps)} if set(steps) != {1} else {}))


def _pad(call: Call) -> Step:
    rank, pads = len(call.shape()), call.integers("pads", 1) or []
    axes = [axis_of(axis, call.shape()) for axis in call.integers("axes", 3) or range(rank)]
    if len(pads) != 2 * len(axes):
        raise ValueError("its pads do not fit its axes")
    full = [0] * 2 * rank
    for position, axis in enumerate(axes):
        full[axis], full[axis + rank] = pads[position], pads[position + len(axes)]
    return Step("pad", {"mode": str(call.attrs.get("mode", "constant")), "pads": tuple(full)})


def _gather(call: Call) -> Step | list[Step]:
    """Read a gather: an embedding, a reshape or a slice where its index is known, otherwise itself."""
    axis, index = axis_of(call.attrs.get("axis", 0), call.shape()), call.value(1)
    if call.constant(0) and axis == 0 and len(call.shape()) == 2:
        return Step("embedding", {})
    if index is not None and index.size == call.shape()[axis] and (index.reshape(-1) == np.arange(index.size)).all():
        return Step("reshape", {})
    if index is None or index.size != 1 or call.constant(0):
        return Step("gather", {"axis": axis})
    size, first = call.shape()[axis], int(index.reshape(-1)[0])
    one = Step("slice", {"axes": (axis,), "starts": (first % max(1, size),)}, (0,), _with(call.shape(), axis, 1))
    return [one] if call.shapes[1] else [one, Step("reshape", {})]


def _with(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _transpose(call: Call) -> Step:
    perm = call.attrs.get("perm", range(len(call.shape()))[::-1])
    return Step("transpose", {"perm": tuple(perm)})


def _depth_to_space(call: Call) -> list[Step]:
    (n, c, h, w), b = call.shape(), int(call.attrs["blocksize"])
    if call.op == "SpaceToDepth":
        shape, perm = (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4)
    elif call.attrs.get("mode") == "CRD":
        shape, perm = (n, c // b**2, b, b, h, w), (0, 1, 4, 2, 5, 3)
    else:
        shape, perm = (n, b, b, c // b**2, h, w), (0, 3, 4, 1, 5, 2)
    moved = tuple(shape[axis] for axis in perm)
    return [Step("reshape", {}, (0,), shape), Step("transpose", {"perm": perm}, None, moved), Step("reshape", {})]


def _resize(call: Call) -> Step:
    return Step("resize", {"mode": str(call.attrs.get("mode", "nearest"))})


MOVES: Mapping[str, Callable[[Call], Step | list[Step]]] = {
    "Split": lambda call: Step("split", {"axis": axis_of(call.attrs.get("axis", 0), call.shape())}),
    "Slice": _slice,
    "Pad": _pad,
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "Transpose": _transpose,
    "Gather": _gather,
    **dict.fromkeys(("GatherElements", "GatherND"), lambda call: Step("index", {})),
    **dict.fromkeys(("ScatterND", "ScatterElements", "Scatter"), lambda call: Step("scatter", {})),
    "GridSample": lambda call: Step("grid_sample", {}),
    "ReverseSequence": lambda call: Step("flip", {"axes": (int(call.attrs.get("time_axis", 0)),)}),
    "Trilu": lambda call: Step("trilu", {}),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _depth_to_space),
}
