"""What the memory of tensors holds after ops wrote into it, in place, by ``out=`` or through views.

A tensor stands for the value that it was recorded with. Once an op writes into memory, all tensors that share it hold
something else: the one that was written, the one that it is a view of, and other views. Each gets its new value when
it is read next: the whole memory's value, or a part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from latency_nas.graph.op_graph import Value
from latency_nas.kernel import AttrValue, Shape

__all__ = ["WrittenMemory"]


class _Graph(Protocol):
    values: list[Value]

    def append(
        self, op: str, attrs: dict[str, AttrValue], inputs: tuple[int, ...], outputs: tuple[int, ...]
    ) -> None: ...
    def blank(self, shape: Any, stride: Any, dtype: torch.dtype, device: torch.device) -> Tensor: ...
    def whole(self, storage: int) -> int | None: ...


@dataclass(slots=True)
class _State:
    """The value of a whole memory, and how often it was written."""

    value: int
    version: int


class WrittenMemory:
    """The memories that a forward wrote into.

    Args:
        graph: Recorder of the graph.
    """

    def __init__(self, graph: _Graph) -> None:
        self._graph = graph
        self._states: dict[int, _State] = {}
        self._seen: dict[int, int] = {}  # id of a fake -> the version of its memory that its value is of
        self._bases: dict[int, tuple[Tensor, Tensor]] = {}  # memory -> a real tensor that has it, a fake of all of it
        self._views: dict[int, tuple[Tensor, Tensor]] = {}  # id of a real tensor -> itself, its fake

    def holds(self, tensor: Tensor) -> bool:
        """Whether an op on fakes wrote into the memory of a real tensor."""
        return bool(self._bases) and not isinstance(tensor, FakeTensor) and _storage(tensor) in self._bases

    def adopt(self, tensor: Tensor) -> None:
        """Represent the memory of a real tensor by fakes from now on, since an op on fakes writes into it."""
        if _storage(tensor) not in self._bases:
            base = self._graph.blank((_n_elements(tensor),), (1,), tensor.dtype, tensor.device)
            self._bases[_storage(tensor)] = tensor, base

    def fake(self, tensor: Tensor) -> tuple[Tensor, bool]:
        """The fake of a real tensor whose memory was adopted, and whether it is new and holds a constant."""
        if id(tensor) in self._views:
            return self._views[id(tensor)][1], False
        base = self._bases[_storage(tensor)][1]
        made = base.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        self._views[id(tensor)] = tensor, made
        return made, _storage(made) not in self._states

    def wrote(self, tensor: Tensor, value: int) -> None:
        """Record that an op wrote `value` into a fake.

        A part that is written gives the whole memory a new value, by an op that only moves data: ``scatter``.
        """
        storage, values = _storage(tensor), self._graph.values
        state = self._states.get(storage)
        before = state.value if state else self._graph.whole(storage)
        if tensor.numel() < _n_elements(tensor):
            old = values[before] if before is not None else None
            shape = old.shape if old else (_n_elements(tensor),)
            constant = values[value].constant and (old is None or old.constant)
            values.append(Value(shape=shape, dtype=values[value].dtype, constant=constant))
            whole = len(values) - 1
            if not constant:
                self._graph.append("scatter", {}, (value,) if before is None else (before, value), (whole,))
            value = whole
        version = state.version + 1 if state else 1
        self._states[storage] = _State(value, version)
        self._seen[id(tensor)] = version

    def note(self, tensor: Tensor) -> None:
        """Record that the value of a fake, which was made just now, is up to date."""
        if self._states and (state := self._states.get(_storage(tensor))):
            self._seen[id(tensor)] = state.version

    def value(self, tensor: Tensor) -> int | None:
        """The new value of a fake; None if its memory was not written since it was read last."""
        state = self._states.get(_storage(tensor)) if self._states else None
        if state is None or self._seen.get(id(tensor), 0) == state.version:
            return None
        self._seen[id(tensor)] = state.version
        values, shape = self._graph.values, tuple(tensor.shape)
        whole = values[state.value]
        if whole.shape == shape:
            return state.value
        values.append(Value(shape=shape, dtype=whole.dtype, constant=whole.constant))
        made = len(values) - 1
        if not whole.constant:
            op, attrs = _move(whole.shape, shape, int(tensor.storage_offset()))
            self._graph.append(op, attrs, (state.value,), (made,))
        return made


def _move(whole: Shape, part: Shape, offset: int) -> tuple[str, dict[str, AttrValue]]:
    """The op that reads a part of a contiguous tensor, or all of it in another shape."""
    if prod(part) == prod(whole):
        return "reshape", {}
    if len(whole) != len(part):  # a view of other axes
        return "index", {}
    strides = [prod(whole[axis + 1 :]) for axis in range(len(whole))]
    cut = [axis for axis, (full, size) in enumerate(zip(whole, part, strict=True)) if size < full]
    return "slice", {"axes": tuple(cut), "starts": tuple(offset // strides[axis] % whole[axis] for axis in cut)}


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _n_elements(tensor: Tensor) -> int:
    """Number of elements of a tensor's whole memory."""
    return tensor.untyped_storage().nbytes() // tensor.element_size()
