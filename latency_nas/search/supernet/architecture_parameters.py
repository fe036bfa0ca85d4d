"""Architecture parameters as autograd sees them, wherever the supernet keeps them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["architecture_leaves", "whole"]


class _HasExpectation(Protocol):
    def expected(self) -> Tensor: ...


def architecture_leaves(loss: _HasExpectation) -> list[Tensor]:
    """The tensors that the expected cost is differentiable in, in the order in which its graph has them."""
    with torch.enable_grad():
        root = loss.expected().grad_fn
    pending, seen, leaves = [root], {root}, []
    while pending:
        node = pending.pop()
        if node is None:
            continue
        variable = getattr(node, "variable", None)  # of a node that accumulates into a leaf
        if isinstance(variable, Tensor):
            leaves.append(variable)
        following = [other for other, _ in node.next_functions if other is not None and other not in seen]
        seen.update(following)
        pending += following[::-1]
    return leaves


def whole(tensor: Tensor) -> Tensor:
    """A tensor that FSDP has sharded over the ranks, gathered, differentiably; any other as it is."""
    full_tensor: Callable[[], Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if full_tensor is None else full_tensor()
