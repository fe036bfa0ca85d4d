"""Traces which tensors hold elements of parameters: the parameters themselves, and tensors computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from latency_nas.graph.parameters import ParameterPart

__all__ = ["ParameterTrace"]

_Parts = tuple[ParameterPart, ...]


class ParameterTrace:
    """Knows the parts of parameters that each tensor holds.

    A view of a parameter, such as the first channels of an elastic layer's weight, holds its own elements. Any other
    computed tensor holds all elements that it was computed from.

    Args:
        names: Names of the parameters, by the ids of their tensors.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._parts: dict[int, _Parts] = {}  # id of a computed tensor -> its parts
        self._views: set[int] = set()  # ids of views of a parameter
        self._alive: list[Tensor] = []  # ids stay unique while the tensors live

    def parts(self, tensor: Tensor) -> _Parts:
        """The parts of parameters that a tensor holds."""
        if id(tensor) in self._names:
            return (ParameterPart.view(self._names[id(tensor)], tensor.shape, tensor.stride(), 0),)
        return self._parts.get(id(tensor), ())

    def copy_parts(self, fake: Tensor, tensor: Tensor) -> None:
        """Give a fake tensor the parts of the real one."""
        self._record(fake, self.parts(tensor), view=self._is_view(tensor))

    def follow(self, sources: Sequence[Tensor], results: Sequence[Tensor], *, view: bool) -> None:
        """Record the parts of results that were computed from constants.

        Args:
            sources: Tensors that an operator read.
            results: Tensors that the operator returned.
            view: Whether the results share memory with the sources.
        """
        holders = [tensor for tensor in sources if self.parts(tensor)]
        if not holders:
            return
        parts = tuple(dict.fromkeys(part for tensor in holders for part in self.parts(tensor)))
        base = holders[0] if view and len(holders) == 1 and self._is_view(holders[0]) else None
        for result in results:
            if base is None:
                self._record(result, parts, view=False)
            else:
                offset = parts[0].offset + int(result.storage_offset() - base.storage_offset())
                part = ParameterPart.view(parts[0].name, result.shape, result.stride(), offset)
                self._record(result, (part,), view=True)

    def _is_view(self, tensor: Tensor) -> bool:
        return id(tensor) in self._names or id(tensor) in self._views

    def _record(self, tensor: Tensor, parts: _Parts, *, view: bool) -> None:
        if not parts or id(tensor) in self._names:
            return
        self._parts[id(tensor)] = parts
        self._alive.append(tensor)
        (self._views.add if view else self._views.discard)(id(tensor))
