"""Numbers of a ``.mnn`` file that are known before it runs: sizes, and what is computed from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from latency_nas.graph.mnn.model_file import MnnOp

__all__ = ["Numbers", "fold"]

Numbers = NDArray[np.int64]

_MOST = 4096  # numbers that are kept


def _axes(op: MnnOp, values: list[Numbers]) -> tuple[int, ...]:
    listed = op.attributes.get("squeezeDims") or (values[1].reshape(-1).tolist() if len(values) > 1 else ())
    return tuple(map(int, listed))


def _slice(_: MnnOp, values: list[Numbers]) -> Numbers:
    data, begin, size = values
    first, n = int(begin.reshape(-1)[0]), int(size.reshape(-1)[0])
    return data[first : None if n < 0 else first + n]


def _strided(_: MnnOp, values: list[Numbers]) -> Numbers:
    """A slice along the only axis, as ONNX states it: begin, end, axes, steps."""
    begin, end = (int(value.reshape(-1)[0]) for value in values[1:3])
    step = int(values[4].reshape(-1)[0]) if len(values) == 5 else 1
    return values[0][begin:end:step]


def _binary(op: MnnOp, values: list[Numbers]) -> Numbers:
    return _BINARY[op.attributes["opType"]](*values[:2])


_BINARY: dict[int, Callable[[Numbers, Numbers], Numbers]] = {
    0: np.add, 1: np.subtract, 2: np.multiply, 3: np.floor_divide, 7: np.floor_divide, 8: np.minimum, 9: np.maximum,
}  # fmt: skip

# type of an op -> its result, of the numbers that it reads
_FOLD: Mapping[str, Callable[[MnnOp, list[Numbers]], Numbers]] = {
    "Unsqueeze": lambda op, values: np.expand_dims(values[0], _axes(op, values)),
    "Squeeze": lambda op, values: np.squeeze(values[0], _axes(op, values) or None),
    "Concat": lambda op, values: np.concatenate(values, op.attributes["axis"]),
    "GatherV2": lambda op, values: np.take(values[0], values[1], 0),
    "Cast": lambda op, values: values[0],
    "SliceTf": _slice,
    "StridedSlice": _strided,
    "BinaryOp": _binary,
    "Reshape": lambda op, values: values[0].reshape(op.attributes.get("dims") or values[1].reshape(-1).tolist()),
}


def fold(op: MnnOp, values: list[Numbers | None], shapes: list[tuple[int, ...]]) -> Numbers | None:
    """The numbers that an op gives; None where they are not known.

    Args:
        op: Op of a file.
        values: Numbers that it reads; None for those that are not known.
        shapes: Shapes of the tensors that it reads.
    """
    if op.type == "Shape":
        return np.array(shapes[0], np.int64)
    if op.type == "Rank":
        return np.array(len(shapes[0]), np.int64)
    known = [value for value in values if value is not None]
    if op.type not in _FOLD or len(known) < len(values) or not known or sum(value.size for value in known) > _MOST:
        return None
    try:
        return np.asarray(_FOLD[op.type](op, known), np.int64)
    except (ValueError, IndexError, KeyError, OverflowError, TypeError):
        return None
