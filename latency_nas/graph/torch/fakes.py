"""Makes fake tensors, and knows which of them are still in use."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from latency_nas.errors import GraphError
from latency_nas.graph.torch.aten import is_view, signature
from latency_nas.graph.torch.ops import name_of

__all__ = ["Fakes", "check_data"]


_MAX_LIKE = 10_000
# signature of an op and its arguments -> shape, strides, type and device of the result
_LIKE: dict[Any, tuple[Any, ...]] = {}


class Fakes:
    """Makes fake tensors. Ops of torch on these run in the same fake mode."""

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._made: list[ref[Tensor]] = []

    def of(self, tensor: Tensor) -> Tensor:
        """A fake of a tensor of any class and layout."""
        made: Tensor = self._mode.from_tensor(tensor, static_shapes=True)
        self.note([made])
        return made

    def blank(self, shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A fake without the fake mode, which takes ten times as long."""
        made = FakeTensor(self._mode, torch.empty_strided(shape, stride, dtype=dtype, device="meta"), device)
        self.note([made])
        return made

    def run(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], fake: Callable[[Tensor], Tensor]) -> Any:
        """Run an op on fakes. If the same call gave one tensor before, a blank of the same kind is made instead.

        Args:
            func: Aten op.
            args: Positional arguments.
            kwargs: Named arguments.
            fake: Function that gives the fake of a tensor.
        """
        key = None if is_view(func) else signature((func, args, *kwargs.items()))
        try:
            like = _LIKE.get(key)
        except TypeError:  # an argument that cannot be hashed
            key = like = None
        if like is not None:
            return self.blank(*like)
        args, kwargs = tuple(_faked(item, fake) for item in args), {k: _faked(item, fake) for k, item in kwargs.items()}
        result = torch.empty_like(args[0]) if name_of(func) == "batch_norm" and _fits(*args) else func(*args, **kwargs)
        if key is not None and type(result) is FakeTensor:
            if len(_LIKE) >= _MAX_LIKE:
                _LIKE.clear()
            _LIKE[key] = tuple(result.shape), result.stride(), result.dtype, result.device
        return result

    def note(self, made: Iterable[Tensor]) -> None:
        """Note fakes that ops of torch made."""
        self._made += map(ref, made)

    def alive(self) -> list[Tensor]:
        """The fakes that something still holds."""
        return [fake for made in self._made if (fake := made()) is not None]


def _faked(item: Any, fake: Callable[[Tensor], Tensor]) -> Any:
    """An argument with fakes for its tensors. Aten's arguments are nested only in lists."""
    if isinstance(item, Tensor):
        return fake(item)
    return [_faked(part, fake) for part in item] if isinstance(item, list | tuple) else item


def _fits(x: Tensor, *others: Any) -> bool:
    """Whether a batch norm has a weight for each channel. If so, its result is known without torch's twenty ops."""
    return x.dim() > 1 and all(item.shape == x.shape[1:2] for item in others if isinstance(item, Tensor))


def check_data(tensor: Tensor, name: str | None, on_meta: Container[str]) -> None:
    """Check that a forward did not set a fake as the data of a parameter or buffer, which then is on ``meta``.

    Args:
        tensor: Any real tensor.
        name: Name of the parameter or buffer that it is; None for any other tensor.
        on_meta: Names of those that are on ``meta`` themselves.

    Raises:
        GraphError: if it did.
    """
    if tensor.is_meta and name is not None and name not in on_meta:
        raise GraphError(
            f"Expected `.data` to be set to constants, but that of `{name}` is set to what depends on the input: "
            f"use `copy_` for it."
        )
