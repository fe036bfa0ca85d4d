"""Architecture parameters that a Lightning module does not list among its parameters, such as DARTS's plain tensors.

Lightning does not save, move or synchronise them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.search.loss.latency_term import LatencyTerm
from latency_nas.search.supernet.architecture_parameters import architecture_parameters

__all__ = ["UnlistedParameters"]


class UnlistedParameters:
    """The parameters that a loss is differentiable in, and that are not in ``module.parameters()``."""

    def __init__(self) -> None:
        self._parameters: list[Tensor] = []
        self._found = False

    def reset(self) -> None:
        """Let the next `find` search again."""
        self._found = False

    def find(self, loss: LatencyTerm, module: nn.Module) -> None:
        """Find the parameters, unless that is done; it succeeds once an architecture parameter requires a gradient."""
        if not self._found:
            found = architecture_parameters(next(iter(loss.terms().values())).expected)
            listed = {id(parameter) for parameter in module.parameters()}
            self._parameters = [parameter for parameter in found if id(parameter) not in listed]
            self._found = bool(found)

    def share_values(self, trainer: Any) -> None:
        """Give all ranks the values of the first rank."""
        if trainer.world_size > 1 and self._parameters:
            values = trainer.strategy.broadcast([parameter.detach() for parameter in self._parameters])
            self._copy(values)

    def share_gradients(self, trainer: Any) -> None:
        """Give all ranks the mean of their gradients."""
        if trainer.world_size > 1:
            for parameter in self._parameters:
                if parameter.grad is not None:
                    parameter.grad.copy_(trainer.strategy.reduce(parameter.grad, reduce_op="mean"))

    def state(self) -> list[Tensor]:
        """The values of the parameters, for a checkpoint."""
        return [parameter.detach().cpu().clone() for parameter in self._parameters]

    def load(self, saved: Sequence[Tensor]) -> None:
        """Restore the values of a checkpoint.

        Raises:
            SearchError: if the number or the shapes of the parameters differ.
        """
        if [tensor.shape for tensor in saved] != [parameter.shape for parameter in self._parameters]:
            raise SearchError(
                f"Expected {len(saved)} architecture parameters that the module does not list, of the saved shapes, "
                f"but found {len(self._parameters)}: they must require a gradient as training begins."
            )
        self._copy(saved)

    @torch.no_grad()
    def _copy(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)
