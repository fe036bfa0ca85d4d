"""Runs of a choice while a supernet is read, and the modules that are candidates of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from latency_nas.errors import GraphError

__all__ = ["Instance", "Member", "check_alike"]


@dataclass(slots=True)
class Instance:
    """One run of a choice.

    Args:
        inputs: Values that the candidates were called with.
        output: Tensor that represents the output of one of them.
        called: Indices of the candidates that were called so far.
    """

    inputs: tuple[int, ...]
    output: Tensor
    called: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Member:
    """The membership of a module in a choice.

    Args:
        choice: Name of the choice.
        index: Index of the module among the candidates.
        owner: Name of the module that holds the list of candidates.
        modules: All candidates of the choice.
    """

    choice: str
    index: int
    owner: str
    modules: Sequence[nn.Module | None]


def check_alike(name: str, outputs: Sequence[Any], indices: Sequence[int]) -> None:
    """Check that candidates of a choice give tensors of the same shape.

    Raises:
        GraphError: if they do not.
    """
    for index, tensor in zip(indices, outputs, strict=True):
        if not isinstance(tensor, Tensor) or tensor.shape != outputs[0].shape:
            raise GraphError(
                f"Expected all candidates of `{name}` to give one tensor of the same shape, but candidate {index} "
                f"gives {tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__} "
                f"and candidate 0 gives {tuple(outputs[0].shape)}."
            )
