"""Which tensors hold elements of a module's parameters: the parameters themselves, and what is computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from latency_nas.graph.parameters import ParameterPart

__all__ = ["ParameterTrace"]

_Parts = tuple[ParameterPart, ...]


class ParameterTrace:
    """The parts of parameters that tensors hold.

    A view of a parameter, such as the first channels of an elastic layer's weight, holds the elements that it shows;
    anything else that is computed holds all that it was computed from.

    Args:
        names: Names of the parameters, by the ids of their tensors.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._parts: dict[int, _Parts] = {}  # by the id of what was computed
        self._views: set[int] = set()  # ids of what shows one parameter as it is in memory
        self._alive: list[Tensor] = []  # ids stay unique while the tensors live

    def parts(self, tensor: Tensor) -> _Parts:
        """What a tensor holds of parameters."""
        if id(tensor) in self._names:
            return (ParameterPart.view(self._names[id(tensor)], tensor.shape, tensor.stride(), 0),)
        return self._parts.get(id(tensor), ())

    def stands_for(self, fake: Tensor, tensor: Tensor) -> None:
        """From now on a fake tensor holds what a real one does."""
        self._hold(fake, self.parts(tensor), view=self._is_view(tensor))

    def follow(self, sources: Sequence[Tensor], results: Sequence[Tensor], *, view: bool) -> None:
        """Note what results hold that were computed from constants.

        Args:
            sources: Tensors that an operator read.
            results: Tensors that it gave.
            view: Whether these share memory with the sources.
        """
        held = [tensor for tensor in sources if self.parts(tensor)]
        if not held:
            return
        parts = tuple(dict.fromkeys(part for tensor in held for part in self.parts(tensor)))
        shown = held[0] if view and len(held) == 1 and self._is_view(held[0]) else None
        for result in results:
            if shown is None:
                self._hold(result, parts, view=False)
            else:
                offset = parts[0].offset + int(result.storage_offset() - shown.storage_offset())
                part = ParameterPart.view(parts[0].name, result.shape, result.stride(), offset)
                self._hold(result, (part,), view=True)

    def _is_view(self, tensor: Tensor) -> bool:
        return id(tensor) in self._names or id(tensor) in self._views

    def _hold(self, tensor: Tensor, parts: _Parts, *, view: bool) -> None:
        if not parts or id(tensor) in self._names:
            return
        self._parts[id(tensor)] = parts
        self._alive.append(tensor)
        (self._views.add if view else self._views.discard)(id(tensor))
