"""Reads sliding windows (``unfold``) as torch's exporter writes them: a gather along each axis, and a transpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from latency_nas.graph.torch.recurrent import Emit

__all__ = ["read_windows"]


def read_windows(func: Any, args: Sequence[Any], emit: Emit) -> Tensor:
    """The result of a call, whose gathers by constant indices are emitted.

    Args:
        func: Aten op: ``unfold`` of a tensor along one axis, or ``im2col`` of images.
        args: Its arguments.
        emit: Function that adds a node, as in `latency_nas.graph.torch.recurrent`.
    """
    read: Callable[..., Tensor] = _unfold if func.overloadpacket.__name__ == "unfold" else _im2col
    return read(*args, emit=emit)


def _gather(x: Tensor, axis: int, indices: tuple[int, int], emit: Emit) -> Tensor:
    """The parts of a tensor along an axis, by constant indices of two axes."""
    shape = (*x.shape[:axis], *indices, *x.shape[axis + 1 :])
    return emit("gather", {"axis": axis}, [x], shape)


def _unfold(x: Tensor, dim: int, size: int, step: int, emit: Emit) -> Tensor:
    axis = dim % x.dim()
    made = _gather(x, axis, ((x.shape[axis] - size) // step + 1, size), emit)
    return made.movedim(axis + 1, -1)


def _im2col(
    x: Tensor, kernel: Sequence[int], dilation: Sequence[int], pad: Sequence[int], stride: Sequence[int], emit: Emit
) -> Tensor:
    image = x if x.dim() == 4 else x.unsqueeze(0)
    n, channels, *_ = image.shape
    image = functional.pad(image, (pad[1], pad[1], pad[0], pad[0])) if any(pad) else image
    rows, columns = (
        (size, (length - step * (size - 1) - 1) // jump + 1)
        for length, size, step, jump in zip(image.shape[2:], kernel, dilation, stride, strict=True)
    )
    made = _gather(_gather(image, 2, rows, emit), 4, columns, emit).permute(0, 1, 2, 4, 3, 5)
    made = made.reshape(n, channels * rows[0] * columns[0], rows[1] * columns[1])
    return made if x.dim() == 4 else made.squeeze(0)
