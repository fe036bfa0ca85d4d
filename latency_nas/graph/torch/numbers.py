"""`Numbers`: the number that all elements of a constant are, of tensors that are no weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

from latency_nas.graph.node import Value
from latency_nas.graph.normal_form.no_ops import number_of
from latency_nas.graph.torch.ops import IDENTITY, SHAPE_ONLY, Attrs, filled

__all__ = ["Numbers"]


class Numbers:
    """Knows the number that all elements of a tensor are, which the code makes and training does not change.

    Args:
        buffers: Names of the buffers, by the ids of their tensors: training may change these and what is made of them.
    """

    def __init__(self, buffers: Iterable[int]) -> None:
        self._numbers: dict[int, float] = {}  # id of a fake -> its number
        self._of_buffers = set(buffers)  # ids of buffers, and of real tensors that were computed from them
        self._alive: list[Tensor] = []  # ids stay unique while the tensors live

    def of(self, tensor: Tensor) -> float | None:
        """The number that all elements of a tensor are; None if they differ or are not known."""
        if isinstance(tensor, FakeTensor):
            return self._numbers.get(id(tensor))
        return None if id(tensor) in self._of_buffers else _number_in(tensor)

    def made(
        self,
        name: str,
        args: Sequence[Any],
        read: tuple[str, Attrs] | None,
        values: Sequence[Value],
        tensors: Sequence[Tensor],
    ) -> None:
        """Record the number that an op makes of constants, or of the shape of its inputs.

        Args:
            name: Name of the op in aten.
            args: Its arguments.
            read: The op in the vocabulary, and its attributes; None if it has none there.
            values: What it reads.
            tensors: Fakes of what it makes.
        """
        number = filled(name, args)
        if name not in SHAPE_ONLY:
            numbers = [value.number if value.literal else None for value in values]
            number = numbers[0] if name in IDENTITY and numbers else number_of(*(read or (name, {})), numbers)
        self._set(tensors, number)

    def _set(self, tensors: Sequence[Tensor], number: float | None) -> None:
        """Record the number that an op gives to fakes."""
        for tensor in tensors:
            self._numbers.pop(id(tensor), None)
            if number is not None:
                self._numbers[id(tensor)] = number
                self._alive.append(tensor)

    def follow_buffers(self, sources: Sequence[Tensor], results: Sequence[Tensor]) -> None:
        """Record real tensors that an op computes from others."""
        if any(id(tensor) in self._of_buffers for tensor in sources):
            self._of_buffers.update(map(id, results))
            self._alive += results


def _number_in(tensor: Tensor) -> float | None:
    plain = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_quantized or tensor.is_complex())
    if not plain or not tensor.numel():
        return None
    with _disable_current_modes(), torch.no_grad():
        first = tensor.detach()[(0,) * tensor.dim()]
        return float(first) if bool((tensor == first).all()) else None
