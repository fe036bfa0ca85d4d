"""Facts about aten ops and their arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

__all__ = ["decomposition", "is_view", "signature", "tensors_in", "tensors_of", "written_by"]


@cache
def decomposition(func: Any) -> Callable[..., Any] | None:
    """The function by which torch defines the op by other ops; None if it does not."""
    if func.namespace == "prims":
        return getattr(func, "impl_aten", None)
    has_one = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    return func.decompose if has_one else None


@cache
def is_view(func: Any) -> bool:
    """Whether results share memory with arguments, or are arguments."""
    return bool(func._schema.is_mutable) or any(item.alias_info is not None for item in func._schema.returns)


def tensors_in(items: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among an op's arguments, which are nested only in lists."""
    for item in items:
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, list | tuple):
            yield from tensors_in(item)


def tensors_of(result: Any) -> list[Tensor]:
    """The tensors in an op's result."""
    if isinstance(result, Tensor):
        return [result]
    return [item for item in tree_flatten(result)[0] if isinstance(item, Tensor)]


def signature(item: Any) -> Any:
    """The parts of an argument that determine the shape, layout and type of a result; 1, 1.0 and True differ."""
    if isinstance(item, Tensor):
        return item.shape, item.stride(), item.dtype, item.device
    return tuple(map(signature, item)) if isinstance(item, list | tuple) else (type(item), item)


def written_by(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that an aten op writes into."""
    if not func._schema.is_mutable:
        return []
    given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    found = [given.get(item.name) for item in func._schema.arguments if item.alias_info and item.alias_info.is_write]
    return [item for value in found for item in (value if isinstance(value, list | tuple) else [value])
            if isinstance(item, Tensor)]  # fmt: skip
