"""Architecture parameters as autograd sees them, wherever the supernet keeps them.

DARTS's are plain tensors that ``parameters()`` does not list: nothing saves, moves or synchronises them by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

__all__ = ["architecture_leaves", "share_gradients", "share_values", "unlisted", "whole"]


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


def unlisted(leaves: Sequence[Tensor], module: nn.Module) -> list[Tensor]:
    """Those that are no parameters of `module`."""
    listed = {id(parameter) for parameter in module.parameters()}
    return [leaf for leaf in leaves if id(leaf) not in listed]


def share_values(leaves: Sequence[Tensor], trainer: Any) -> None:
    """Give all ranks the values of the first."""
    if trainer.world_size > 1 and leaves:
        values = trainer.strategy.broadcast([leaf.detach() for leaf in leaves])
        with torch.no_grad():
            for leaf, value in zip(leaves, values, strict=True):
                leaf.copy_(value)


def share_gradients(leaves: Sequence[Tensor], trainer: Any) -> None:
    """Give all ranks the mean of their gradients."""
    if trainer.world_size > 1:
        for leaf in leaves:
            if leaf.grad is not None:
                leaf.grad.copy_(trainer.strategy.reduce(leaf.grad, reduce_op="mean"))
