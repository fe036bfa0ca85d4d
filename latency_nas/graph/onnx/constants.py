"""Computes small constants of an ONNX graph: the chains of Shape, Gather and Concat that exporters write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_ELEMENTS", "MAX_FLOATS", "fold"]

Array = NDArray[Any]
MAX_ELEMENTS = 4096  # maximum for a constant whose values are kept: shapes, axes
MAX_FLOATS = 64  # the same for fp32, bounds or scales; larger ones are weights

_TYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64,
}  # fmt: skip


def _limited(shape: Iterable[int]) -> tuple[int, ...]:
    """The shape, if a constant of it may be kept."""
    sizes = tuple(int(size) for size in shape)
    if any(size < 0 for size in sizes) or prod(sizes) > MAX_ELEMENTS:
        raise ValueError("too large to be kept")
    return sizes


def _reshape(x: Array, shape: Array, **_: Any) -> Array:
    return x.reshape([x.shape[i] if size == 0 else int(size) for i, size in enumerate(shape)])


def _squeeze(x: Array, axes: Any = None, **_: Any) -> Array:
    return x.squeeze(None if axes is None else tuple(int(axis) for axis in axes))


def _unsqueeze(x: Array, axes: Any, **_: Any) -> Array:
    return np.expand_dims(x, tuple(int(axis) for axis in axes))


def _slice(x: Array, starts: Any, ends: Any, axes: Any = None, steps: Any = None, **_: Any) -> Array:
    index = [slice(None)] * x.ndim
    for i, start in enumerate(starts):
        axis, step = (int(axes[i]) if axes is not None else i), (int(steps[i]) if steps is not None else 1)
        index[axis] = slice(int(start), int(ends[i]), step)
    return x[tuple(index)]


def _range(start: Array, limit: Array, delta: Array, **_: Any) -> Array:
    (count,) = _limited([max(0, int(np.ceil((limit - start) / delta)))])
    return np.asarray(start + np.arange(count) * delta, start.dtype)


def _divide(x: Array, y: Array, **_: Any) -> Array:
    return np.trunc(x / y).astype(x.dtype) if x.dtype.kind in "iu" else np.asarray(x / y)


def _expand(x: Array, shape: Array, **_: Any) -> Array:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, _limited(shape)))


def _fill(shape: Array, value: Any = None, **_: Any) -> Array:
    return np.full(_limited(shape), 0 if value is None else value.reshape(-1)[0], getattr(value, "dtype", np.float32))


# op -> function of the inputs' values and, by name, the attributes
_COMPUTE: dict[str, Callable[..., Any]] = {
    "Identity": lambda x, **_: x,
    "Gather": lambda x, index, axis=0: np.take(x, index, axis),
    "Concat": lambda *parts, axis: np.concatenate(parts, axis),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Reshape": _reshape,
    "Range": _range,
    "Cast": lambda x, to, **_: x.astype(_TYPES[to]),
    "ConstantOfShape": _fill,
    "Expand": _expand,
    "Transpose": lambda x, perm=None: x.transpose(perm),
    "ReduceProd": lambda x, axes=None, keepdims=1, **_: np.prod(
        x, None if axes is None else tuple(map(int, axes)), keepdims=bool(keepdims), dtype=x.dtype
    ),
    "Where": lambda test, x, y: np.where(test, x, y),
    "Add": lambda x, y, **_: x + y,
    "Sub": lambda x, y, **_: x - y,
    "Mul": lambda x, y, **_: x * y,
    "Div": _divide,
    "Mod": lambda x, y, **_: np.mod(x, y),
    "Max": lambda *parts: np.maximum.reduce(np.broadcast_arrays(*parts)),
    "Min": lambda *parts: np.minimum.reduce(np.broadcast_arrays(*parts)),
    "Neg": lambda x: -x,
    "Floor": lambda x: np.floor(x),
    "Ceil": lambda x: np.ceil(x),
    "Sqrt": lambda x: np.sqrt(x),
    "Equal": lambda x, y, **_: x == y,
    "Greater": lambda x, y, **_: x > y,
    "Less": lambda x, y, **_: x < y,
    "GreaterOrEqual": lambda x, y, **_: x >= y,
    "LessOrEqual": lambda x, y, **_: x <= y,
    "Not": lambda x: ~x,
    "And": lambda x, y, **_: x & y,
    "Or": lambda x, y, **_: x | y,
    "Xor": lambda x, y, **_: x ^ y,
}


def fold(op: str, inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array | None:
    """The value of an op on small constants; None if the op is not one that exporters use for shapes."""
    compute = _COMPUTE.get(op)
    if compute is None:
        return None
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(compute(*inputs, **attrs))
    except (ArithmeticError, AttributeError, IndexError, KeyError, MemoryError, TypeError, ValueError):
        return None  # a reader that needs the value will report that it is unknown
    return value if value.size <= MAX_ELEMENTS else None
