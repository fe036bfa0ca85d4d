"""The regions of the ops that only move data: where each part of their outputs lies in their inputs.

References:
    MNN 3.6, ``source/geometry``: ``GeometryComputer::ComputePermuteRegion``, ``GeometryStridedSlice``,
    ``GeometryConcat``, ``GeometrySlice``, ``GeometryReshape``, ``GeometryCrop`` and ``ConvertUtils::broadcastto``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import prod

from latency_nas.engine.mnn.regions import Region, Tensor, box_regions, full
from latency_nas.kernel import AttrValue, Shape

__all__ = ["VIEWS", "broadcast", "renamed"]

_Attrs = Mapping[str, AttrValue]


def strides_of(shape: Shape) -> list[int]:
    """Distances between neighbours along each axis, in elements."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def renamed(tensor: Tensor) -> list[Region]:
    """The regions of a tensor of another shape with the same elements in the same order."""
    return [full(tensor)] if tensor.regions is None else list(tensor.regions)


def _reshape(inputs: Sequence[Tensor], outputs: Sequence[Tensor], _: _Attrs) -> None:
    outputs[0].regions = renamed(inputs[0])


def _transpose(inputs: Sequence[Tensor], outputs: Sequence[Tensor], attrs: _Attrs) -> None:
    """Axes that stay neighbours count as one. Of more than three, the largest are copied at once."""
    shape, strides = inputs[0].shape, strides_of(inputs[0].shape)
    sizes, read, last = list[int](), list[int](), -2
    for axis in _ints(attrs, "perm"):
        if shape[axis] == 1:
            continue
        if axis == last + 1:
            sizes[-1] *= shape[axis]
            read[-1] = strides[axis]
        else:
            sizes.append(shape[axis])
            read.append(strides[axis])
        last = axis
    if not sizes:
        outputs[0].regions = [full(inputs[0])]
        return
    axes = list(zip(sizes, read, strides_of(tuple(sizes)), strict=True))
    if len(axes) > 4 or (len(axes) == 4 and axes[0][0] > sum(size for size, _, _ in axes[1:])):
        axes = _largest_last(axes)
    outputs[0].regions = box_regions(inputs[0], *zip(*axes, strict=True))


def _largest_last(axes: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Exchange axes so that the three largest come last, without changing the order of these more than needed."""
    largest = sorted((size for size, _, _ in axes), reverse=True)[:3]
    end = len(axes) - 1
    for i in reversed(range(len(axes))):
        if axes[i][0] in largest and end >= len(axes) - 3:
            largest.remove(axes[i][0])
            axes[i], axes[end] = axes[end], axes[i]
            end -= 1
    return axes


def _concat(inputs: Sequence[Tensor], outputs: Sequence[Tensor], attrs: _Attrs) -> None:
    axis, shape = _axis(attrs), outputs[0].shape
    outside, inside = prod(shape[:axis]), prod(shape[axis + 1 :])
    at, outputs[0].regions = 0, []
    for tensor in filter(lambda tensor: prod(tensor.shape), inputs):  # torch takes empty ones of any number of axes
        size = tensor.shape[axis]
        outputs[0].regions += box_regions(
            tensor, (outside, size, inside), (size * inside, inside, 1), (shape[axis] * inside, inside, 1),
            write_at=at * inside,
        )  # fmt: skip
        at += size


def _split(inputs: Sequence[Tensor], outputs: Sequence[Tensor], attrs: _Attrs) -> None:
    axis, shape = _axis(attrs), inputs[0].shape
    outside, inside = prod(shape[:axis]), prod(shape[axis + 1 :])
    at = 0
    for output in outputs:
        size = output.shape[axis]
        output.regions = box_regions(
            inputs[0], (outside, size, inside), (shape[axis] * inside, inside, 1), (size * inside, inside, 1),
            read_at=at * inside,
        )  # fmt: skip
        at += size


def _stack(inputs: Sequence[Tensor], outputs: Sequence[Tensor], attrs: _Attrs) -> None:
    """Stack along a new first axis, or take such a stack apart."""
    del attrs
    many, size = (inputs, prod(inputs[0].shape)) if len(inputs) > 1 else (outputs, prod(outputs[0].shape))
    strides, sizes = (size, size, 1), (1, 1, size)
    for position, tensor in enumerate(many):
        if many is inputs:
            regions = outputs[0].regions or []
            outputs[0].regions = regions + box_regions(tensor, sizes, strides, strides, write_at=position * size)
        else:
            tensor.regions = box_regions(inputs[0], sizes, strides, strides, read_at=position * size)


def _slice(inputs: Sequence[Tensor], outputs: Sequence[Tensor], attrs: _Attrs) -> None:
    read = strides_of(inputs[0].shape)
    axes, starts = _ints(attrs, "axes"), _ints(attrs, "starts")
    steps = _ints(attrs, "steps") or (1,) * len(axes)
    at = sum(start * read[axis] for axis, start in zip(axes, starts, strict=True))
    for axis, step in zip(axes, steps, strict=True):
        read[axis] *= step
    outputs[0].regions = box_regions(inputs[0], outputs[0].shape, read, strides_of(outputs[0].shape), read_at=at)


def _flip(inputs: Sequence[Tensor], outputs: Sequence[Tensor], attrs: _Attrs) -> None:
    """One region for each position along the axes before the last that is reversed."""
    shape, axes = inputs[0].shape, _ints(attrs, "axes")
    read, write, at, outer = strides_of(shape), strides_of(shape), 0, max(axes)
    for axis in axes:
        at += (shape[axis] - 1) * read[axis]
        read[axis] = -read[axis]
    outputs[0].regions = []
    for place in product(*map(range, shape[:outer])):
        starts = [sum(i * stride for i, stride in zip(place, strides, strict=False)) for strides in (read, write)]
        outputs[0].regions += box_regions(
            inputs[0], shape[outer:], read[outer:], write[outer:], read_at=at + starts[0], write_at=starts[1]
        )


def _pad(inputs: Sequence[Tensor], outputs: Sequence[Tensor], attrs: _Attrs) -> None:
    """The tensor between its paddings. Zeros are no regions, since MNN clears the memory; mirrored parts are."""
    shape, pads, mode = inputs[0].shape, _ints(attrs, "pads"), attrs.get("mode", "constant")
    read, write = strides_of(shape), strides_of(outputs[0].shape)
    axes = [
        _segments(size, before, after, str(mode), strides)
        for size, before, after, strides in zip(
            shape, pads[: len(shape)], pads[len(shape) :], zip(read, write, strict=True), strict=True
        )
    ]
    outputs[0].regions = []
    for parts in product(*axes):
        sizes, read_at, reads, write_at, writes = zip(*parts, strict=True)
        outputs[0].regions += box_regions(inputs[0], sizes, reads, writes, read_at=sum(read_at), write_at=sum(write_at))


def _segments(
    size: int, before: int, after: int, mode: str, strides: tuple[int, int]
) -> list[tuple[int, int, int, int, int]]:
    """Size, start and stride of reading, start and stride of writing: the middle of an axis, and its two paddings."""
    read, write = strides
    found = [(size, 0, read, before * write, write)]
    if mode == "constant":
        return found
    skipped, step = (1, -read) if mode == "reflect" else (0, 0)
    if before:
        found.append((before, (before - 1 + skipped) * read if skipped else 0, step, 0, write))
    if after:
        found.append((after, (size - 1 - skipped) * read, step, (before + size) * write, write))
    return found


def _expand(inputs: Sequence[Tensor], outputs: Sequence[Tensor], _: _Attrs) -> None:
    outputs[0].regions = broadcast(inputs[0], outputs[0].shape)


def broadcast(tensor: Tensor, shape: Shape) -> list[Region]:
    """The regions of a tensor that is repeated along axes of size 1, or along those before its own."""
    if prod(tensor.shape) == prod(shape):
        return [full(tensor)]
    own = (1,) * (len(shape) - len(tensor.shape)) + tensor.shape
    sizes, sources = list[int](), list[int]()
    for size, source in zip(shape, own, strict=True):
        if sizes and (source == size) == (sources[-1] == sizes[-1]) and (source == size or source == sources[-1] == 1):
            sizes[-1], sources[-1] = sizes[-1] * size, sources[-1] * source
        else:
            sizes.append(size)
            sources.append(source)
    strides = strides_of(tuple(sources))
    read = [0 if source == 1 else stride for source, stride in zip(sources, strides, strict=True)]
    return box_regions(tensor, sizes, read, strides_of(tuple(sizes)))


def _ints(attrs: _Attrs, name: str) -> tuple[int, ...]:
    value = attrs.get(name, ())
    return value if isinstance(value, tuple) else ()


def _axis(attrs: _Attrs) -> int:
    return int(str(attrs["axis"]))


# op -> function of (inputs, outputs, attributes) that gives the outputs their regions
VIEWS: Mapping[str, Callable[[Sequence[Tensor], Sequence[Tensor], _Attrs], None]] = {
    **dict.fromkeys(("reshape", "unpack", "roll"), _reshape),
    "transpose": _transpose,
    "concat": _concat,
    **dict.fromkeys(("split", "chunk"), _split),
    **dict.fromkeys(("stack", "unstack"), _stack),
    "slice": _slice,
    "flip": _flip,
    "pad": _pad,
    "expand": _expand,
}
