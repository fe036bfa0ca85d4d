"""`ParameterPart`: the elements of a model's parameters that a constant of a graph holds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

__all__ = ["ParameterPart", "count_elements"]


@dataclass(frozen=True, slots=True)
class ParameterPart:
    """Elements of one parameter: all of them, or those of a view.

    Args:
        name: Name of the parameter.
        sizes: Sizes of the view. For the whole parameter, its number of elements.
        strides: Distances in memory between neighbouring elements, one for each size.
        offset: Position in memory of the first element.
    """

    name: str
    sizes: tuple[int, ...]
    strides: tuple[int, ...] = (1,)
    offset: int = 0

    @classmethod
    def view(cls, name: str, sizes: Sequence[int], strides: Sequence[int], offset: int) -> ParameterPart:
        """The part of a view, with the fewest axes possible, so that equal parts have equal fields.

        Example:
            >>> ParameterPart.view("w", (1, 3, 8, 4), (32, 0, 1, 8), 0)  # transposed, and expanded
            ParameterPart(name='w', sizes=(32,), strides=(1,), offset=0)
        """
        axes: list[tuple[int, int]] = []  # innermost first
        for stride, size in sorted((stride, size) for size, stride in zip(sizes, strides, strict=True)):
            if size == 1 or stride == 0:
                continue
            if axes and axes[-1][0] * axes[-1][1] == stride:
                axes[-1] = axes[-1][0], axes[-1][1] * size
            else:
                axes.append((stride, size))
        axes = axes or [(1, min(1, prod(sizes)))]
        return cls(name, tuple(size for _, size in axes), tuple(stride for stride, _ in axes), offset)

    @property
    def end(self) -> int:
        """The position after the last element."""
        steps = zip(self.sizes, self.strides, strict=True)
        return self.offset + 1 + sum((size - 1) * stride for size, stride in steps)


def count_elements(parts: Collection[ParameterPart]) -> int:
    """Number of different elements in several parts of one parameter.

    Example:
        >>> count_elements([ParameterPart("w", (8,)), ParameterPart("w", (8,), offset=4), ParameterPart("w", (8,))])
        12
    """
    if len(parts) == 1:
        (part,) = parts
        if part.strides == (1,):
            return part.sizes[0]
    distinct = {part for part in parts if prod(part.sizes)}
    if all(part.strides == (1,) for part in distinct):
        return _count_intervals(sorted((part.offset, part.end) for part in distinct))
    seen = np.zeros(max(part.end for part in distinct), bool)
    for part in distinct:
        np.lib.stride_tricks.as_strided(seen[part.offset :], part.sizes, part.strides)[...] = True
    return int(seen.sum())


def _count_intervals(intervals: Iterable[tuple[int, int]]) -> int:
    """Total length of the union of sorted intervals."""
    total = reached = 0
    for start, end in intervals:
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
