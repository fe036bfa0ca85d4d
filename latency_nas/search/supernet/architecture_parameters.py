"""Finds the architecture parameters of a supernet by autograd, wherever the supernet has them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["architecture_parameters", "gathered"]


def architecture_parameters(expected: Callable[[], Tensor]) -> list[Tensor]:
    """The leaf tensors that the expected cost is differentiable in, in the order of its graph.

    Args:
        expected: Function that gives the expected cost, such as `LatencyLoss.expected`.
    """
    with torch.enable_grad():
        root = expected().grad_fn
    pending, seen, parameters = [root], {root}, []
    while pending:
        node = pending.pop()
        if node is None:
            continue
        variable = getattr(node, "variable", None)  # only nodes that accumulate the gradient of a leaf have one
        if isinstance(variable, Tensor):
            parameters.append(variable)
        following = [other for other, _ in node.next_functions if other is not None and other not in seen]
        seen.update(following)
        pending += following[::-1]
    return parameters


def gathered(tensor: Tensor) -> Tensor:
    """A tensor that FSDP has sharded, gathered from all ranks, differentiably; any other tensor as it is."""
    full_tensor: Callable[[], Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if full_tensor is None else full_tensor()
