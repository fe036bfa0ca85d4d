"""Architecture parameters that a Lightning module does not list, as DARTS's plain tensors.

Nothing saves, moves or synchronises them by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.search.loss.latency_term import LatencyTerm
from latency_nas.search.supernet.architecture_parameters import architecture_leaves

__all__ = ["UnlistedParameters"]


class UnlistedParameters:
    """The parameters that a loss is differentiable in and that ``module.parameters()`` lacks."""

    def __init__(self) -> None:
        self._leaves: list[Tensor] = []
        self._found = False

    def look_again(self) -> None:
        """At the next `find`, look whatever was found before."""
        self._found = False

    def find(self, loss: LatencyTerm, module: nn.Module) -> None:
        """Find them, as soon as any architecture parameter requires a gradient."""
        if not self._found:
            leaves = architecture_leaves(next(iter(loss.terms().values())))
            listed = {id(parameter) for parameter in module.parameters()}
            self._leaves, self._found = [leaf for leaf in leaves if id(leaf) not in listed], bool(leaves)

    def share_values(self, trainer: Any) -> None:
        """Give all ranks the values of the first."""
        if trainer.world_size > 1 and self._leaves:
            values = trainer.strategy.broadcast([leaf.detach() for leaf in self._leaves])
            self._copy(values)

    def share_gradients(self, trainer: Any) -> None:
        """Give all ranks the mean of their gradients."""
        if trainer.world_size > 1:
            for leaf in self._leaves:
                if leaf.grad is not None:
                    leaf.grad.copy_(trainer.strategy.reduce(leaf.grad, reduce_op="mean"))

    def state(self) -> list[Tensor]:
        """Their values, to be saved."""
        return [leaf.detach().cpu().clone() for leaf in self._leaves]

    def load(self, saved: Sequence[Tensor]) -> None:
        """Give them the values that were saved.

        Raises:
            SearchError: if there are others.
        """
        if [tensor.shape for tensor in saved] != [leaf.shape for leaf in self._leaves]:
            raise SearchError(
                f"Expected {len(saved)} architecture parameters that the module does not list, of the saved shapes, "
                f"but found {len(self._leaves)}: they must require a gradient as training begins."
            )
        self._copy(saved)

    @torch.no_grad()
    def _copy(self, values: Sequence[Tensor]) -> None:
        for leaf, value in zip(self._leaves, values, strict=True):
            leaf.copy_(value)
