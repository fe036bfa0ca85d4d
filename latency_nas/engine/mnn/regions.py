"""Views of tensors as MNN keeps them: lists of copies between strided boxes of three axes, and when two copies join.

An op that only moves data computes nothing in MNN. Its output is a list of regions, each of which says where a part of
it lies in another tensor. A reader that needs the data makes MNN's *Raster* run, one copy of all regions. Before that,
regions of regions are joined where the result is again a box of three axes.

References:
    MNN 3.6, ``source/core/TensorUtils.cpp``, ``FuseWrap``, and ``source/geometry/GeometryComputer.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

from latency_nas.kernel import Shape

__all__ = ["Region", "Tensor", "box_regions", "full", "join"]

_N_AXES = 3
_Box = tuple[int, int, int]


@dataclass(slots=True, eq=False)
class Tensor:
    """A value in MNN.

    Args:
        shape: Sizes.
        packed: Whether the channels are packed by four.
        regions: Where the parts of a view lie; None for a tensor with memory of its own.
        copied: Whether a Raster has copied the view.
    """

    shape: Shape
    packed: bool = False
    regions: list[Region] | None = None
    copied: bool = False

    @property
    def is_view(self) -> bool:
        """Whether the data still lies in other tensors."""
        return self.regions is not None and not self.copied


@dataclass(frozen=True, slots=True)
class Region:
    """A box of elements of `origin`, and where they lie in the view. Strides are in elements, outermost axis first."""

    origin: Tensor
    size: _Box
    read_at: int
    read_strides: _Box
    write_at: int
    write_strides: _Box


def full(tensor: Tensor) -> Region:
    """The region that holds a whole tensor in order."""
    n = prod(tensor.shape)
    return Region(tensor, (1, 1, n), 0, (n, n, 1), 0, (n, n, 1))


def box_regions(
    origin: Tensor,
    sizes: Sequence[int],
    read_strides: Sequence[int],
    write_strides: Sequence[int],
    *,
    read_at: int = 0,
    write_at: int = 0,
) -> list[Region]:
    """The regions of a box of any number of axes: one for each position along the axes before the last three."""
    if len(sizes) == _N_AXES:
        return [Region(origin, _box(sizes), read_at, _box(read_strides), write_at, _box(write_strides))]
    pad = max(0, _N_AXES - len(sizes))
    size, read, write = ((*([fill] * pad), *axes) for fill, axes in ((1, sizes), (0, read_strides), (0, write_strides)))
    n_outer = len(size) - _N_AXES
    regions = []
    for place in product(*map(range, size[:n_outer])):
        at = [sum(i * stride for i, stride in zip(place, strides, strict=False)) for strides in (read, write)]
        regions.append(
            Region(
                origin, _box(size[n_outer:]), read_at + at[0], _box(read[n_outer:]), write_at + at[1],
                _box(write[n_outer:]),
            )
        )  # fmt: skip
    return regions


def _box(values: Sequence[int]) -> _Box:
    first, second, third = values
    return first, second, third


@dataclass(slots=True)
class _Axes:
    """The axes of a region with more than one element: stride in the middle tensor, stride outside of it, size."""

    middle: list[int] = field(default_factory=list)
    outside: list[int] = field(default_factory=list)
    size: list[int] = field(default_factory=list)

    def split(self, stride: int) -> bool:
        """Split an axis so that one has that stride in the middle tensor."""
        for i in reversed(range(len(self.size))):
            inner = stride // self.middle[i]
            if stride % self.middle[i] == 0 and self.size[i] % inner == 0:
                self.middle.insert(i, stride)
                self.outside.insert(i, inner * self.outside[i])
                self.size[i : i + 1] = [self.size[i] // inner, inner]
                return len(self.size) <= _N_AXES
        return False


def _axes(size: _Box, middle: _Box, outside: _Box) -> _Axes:
    kept = [i for i in range(_N_AXES) if size[i] > 1]
    return _Axes(*([values[i] for i in kept] for values in (middle, outside, size)))


def join(inner: Region, outer: Region) -> Region | None:
    """The copy straight from the origin of `inner`, the view that `outer` reads.

    Returns:
        The copy; of size zero if `outer` reads nothing of `inner`. None if it is no single box for MNN.
    """
    for region in (inner, outer):
        for size, read, write in zip(region.size, region.read_strides, region.write_strides, strict=True):
            if size > 1 and (read <= 0 or write <= 0):
                return None
    if _is_shift(inner, outer):
        return Region(
            inner.origin, outer.size, outer.read_at + inner.read_at - inner.write_at, outer.read_strides,
            outer.write_at, outer.write_strides,
        )  # fmt: skip
    source = _axes(inner.size, inner.write_strides, inner.read_strides)
    target = _axes(outer.size, outer.read_strides, outer.write_strides)
    for side, other in ((source, target.middle[:]), (target, source.middle[:])):
        missing = [stride for stride in other if stride not in side.middle]
        if len(missing) > 1 or (missing and not side.split(missing[0])):
            return None
    if not set(source.middle) <= set(target.middle) or len(source.size) != len(target.size):
        return None
    order = [source.middle.index(stride) for stride in target.middle if stride in source.middle]
    if len(order) != len(target.size):
        return None
    sizes = [source.size[i] for i in order]
    clipped = _clip(target.middle, inner.write_at, outer.read_at, sizes, target.size)
    if clipped is None:
        return None
    return _clipped(inner, outer, [source.outside[i] for i in order], target.outside, clipped)


def _clipped(inner: Region, outer: Region, read: list[int], write: list[int], clipped: list[tuple[int, int]]) -> Region:
    """The joined region, of the range of positions along each axis that the inner region covers."""
    read_at, write_at = _read_at(inner, outer.read_at), outer.write_at
    if any(last <= first for first, last in clipped):
        return Region(inner.origin, (0, 0, 0), 0, (0, 0, 0), 0, (0, 0, 0))
    read_at += sum(first * stride for (first, _), stride in zip(clipped, read, strict=True))
    write_at += sum(first * stride for (first, _), stride in zip(clipped, write, strict=True))
    pad = _N_AXES - len(clipped)
    sizes = [last - first for first, last in clipped]
    return Region(
        inner.origin, _box([1] * pad + sizes), read_at, _box([0] * pad + read), write_at, _box([0] * pad + write)
    )


def _read_at(inner: Region, position: int) -> int:
    """Where the inner region reads the element that it writes to a position."""
    at, origin = inner.read_at, inner.write_at
    for size, read, write in zip(inner.size, inner.read_strides, inner.write_strides, strict=True):
        if size > 1:
            at += (position // write - origin // write) * read
            position, origin = position % write, origin % write
    return at


def _is_shift(inner: Region, outer: Region) -> bool:
    """Whether the inner region only moves a stretch that holds all that the outer one reads."""
    triples = list(zip(inner.size, inner.read_strides, inner.write_strides, strict=True))
    last_write = inner.write_at + sum((size - 1) * write for size, _, write in triples)
    last_read = outer.read_at + sum((s - 1) * r for s, r in zip(outer.size, outer.read_strides, strict=True))
    return (
        all(read == write or size <= 1 for size, read, write in triples)
        and inner.write_strides[1] <= inner.size[2]
        and inner.write_strides[2] <= inner.size[1] * inner.size[2]
        and prod(outer.size) <= prod(inner.size)
        and inner.write_at <= outer.read_at
        and last_read <= last_write
    )


def _clip(
    strides: Sequence[int], start: int, read_at: int, written: Sequence[int], read: Sequence[int], *, check: bool = True
) -> list[tuple[int, int]] | None:
    """The first position and the end along each axis of a read box that a written box covers.

    Args:
        strides: Stride of each axis, the same in both boxes.
        start: Offset of the written box.
        read_at: Offset of the read box.
        written: Sizes of the written box.
        read: Sizes of the read box.
        check: Whether to refuse boxes that overlap in more than one box.

    Returns:
        None where the overlap is not one box.
    """
    if not strides:
        return [] if start == read_at else None
    shift, begin, at = dict[int, int](), start, read_at
    for i in sorted(range(len(strides)), key=lambda i: -strides[i]):
        shift[i] = at // strides[i] - begin // strides[i]
        begin, at = begin % strides[i], at % strides[i]
    if begin or at:
        return None
    found = [(max(0, -shift[i]), min(written[i] - shift[i], read[i])) for i in range(len(strides))]
    if check and any(_overlaps_again(strides, start, read_at, written, read, found)):
        return None
    return found


def _overlaps_again(
    strides: Sequence[int],
    start: int,
    read_at: int,
    written: Sequence[int],
    read: Sequence[int],
    found: list[tuple[int, int]],
) -> Iterator[bool]:
    """Whether what is left of both boxes overlaps, for each pair of an axis of the one and of the other."""
    ends = [end for _, end in found]
    n_axes = range(len(strides))
    left = [strides[i] for i in n_axes if ends[i] < written[i]]
    if not left:
        return
    limit = sum(size * stride for size, stride in zip(written, strides, strict=True))
    for i in n_axes:
        at = read_at - start + ends[i] * strides[i]
        if ends[i] == read[i] or not min(left) <= at < limit:
            continue
        for k in n_axes:
            if ends[k] >= written[k]:
                continue
            rest_written = [size - ends[k] if j == k else size for j, size in enumerate(written)]
            rest_read = [size - ends[i] if j == i else size for j, size in enumerate(read)]
            rest = _clip(
                strides, start + ends[k] * strides[k], read_at + ends[i] * strides[i], rest_written, rest_read,
                check=False,
            )  # fmt: skip
            yield rest is not None and all(last > first for first, last in rest)
