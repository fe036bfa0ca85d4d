"""Ops that compute, or copy single elements, at sizes from those of a mask to those of a large map.

An op of one operand takes a time that depends on what it reads: a root of a negative number or a sine of a large one
takes longer. So roots, logarithms and powers read the absolute values of what comes before, and are metered apart from
ops that would make huge numbers of their results.
"""

from __future__ import annotations

from math import prod

from latency_nas.kernel import Kernel

__all__ = ["bounded", "looked_up", "of_positives", "resized"]

Shape = tuple[int, ...]

# of tokens, masks of attention, and maps: 16 to a million elements
_SHAPES: tuple[Shape, ...] = (
    (1, 16, 1), (1, 64, 1, 1), (1, 1, 16, 16), (1, 16, 64), (1, 4, 32, 32), (1, 16, 256), (1, 128, 128), (1, 64, 784),
    (1, 12, 128, 64), (1, 96, 56, 56), (1, 64, 128, 128),
)  # fmt: skip
_ROWS = ((1, 16), (1, 128), (1, 1024), (16, 4), (64, 16), (16, 64), (128, 128), (16, 1024), (256, 256), (8, 8192))
_MAPS = (
    (8, 7), (256, 4), (64, 8), (1024, 2), (16, 14), (512, 8), (24, 28), (128, 16), (32, 40), (256, 20), (64, 56),
)  # fmt: skip


def _same(op: str, shape: Shape, n_inputs: int = 1, **attrs: int) -> Kernel:
    return Kernel.of(op, [shape] * n_inputs, [shape], **attrs)


def bounded() -> list[Kernel]:
    """Ops whose results stay small, and selections by a mask that is given or constant."""
    unary = ("tanh", "exp", "erf", "sin", "cos", "floor", "ceil", "round")
    found = [_same(op, shape) for op in unary for shape in _SHAPES]
    for shape in _SHAPES:
        found += [_same("where", shape, scalar=1), _same("where", shape, 2, scalar=1), _same("where", shape, 3)]
    return found


def of_positives() -> list[Kernel]:
    """Ops of positive numbers; a power with a number, here a cube as in the tanh form of GELU."""
    found = [_same(op, shape) for op in ("log", "sqrt", "rsqrt") for shape in _SHAPES]
    return found + [_same("pow", shape, scalar=1) for shape in _SHAPES]


def looked_up() -> list[Kernel]:
    """Ops that an engine runs as several, so that each is timed whole: lookups, running sums, and the largest."""
    masks = [(rows, n) for rows, n in _ROWS if rows == 1]
    found = [Kernel.of("index", [mask], [(1, 1, *mask)]) for mask in masks]
    found += [Kernel.of("index", [(1, *row)], [(1, 1, *row)]) for row in _ROWS]
    found += [Kernel.of("index", [(1, 4, n, 4 * n)], [(1, 4, n, n)]) for n in (8, 16, 64, 128)]
    for dtype in ("fp32", "int64"):
        found += [Kernel.of("cumsum", [mask], [mask], dtype=dtype, axis=1) for mask in masks]
        found += [Kernel.of("cumsum", [(1, *row)], [(1, *row)], dtype=dtype, axis=2) for row in _ROWS]
    many = [(row, k) for row in _ROWS for k in (2, 5) if k < row[1]]
    return found + [Kernel.of("topk", [(1, *row)], [(1, row[0], k)], axis=2, k=k) for row, k in many]


def resized() -> list[Kernel]:
    """Maps that are made twice as large: from the nearest pixel, linearly, and by a transposed convolution."""
    found = []
    for channels, size in _MAPS:
        small, large = (1, channels, size, size), (1, channels, 2 * size, 2 * size)
        found += [Kernel.of("resize", [small], [large], mode=mode) for mode in ("nearest", "linear")]
        narrow = (1, max(4, channels // 2), *large[2:])
        if prod(small) * narrow[1] * 4 < 2e9:
            found.append(_transposed(small, narrow, 2, 0))
            found.append(_transposed(small, narrow, 4, 1))
    return found


def _transposed(small: Shape, large: Shape, kernel: int, pad: int) -> Kernel:
    return Kernel.of(
        "conv_transpose2d", [small], [large], bias=1, dilation=(1, 1), group=1, kernel=(kernel,) * 2,
        output_pad=(0, 0), pad=(pad,) * 4, stride=(2, 2),
    )  # fmt: skip
