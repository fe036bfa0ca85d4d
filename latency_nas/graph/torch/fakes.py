"""Makes fake tensors, and knows which of them are still in use."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from weakref import ref

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from latency_nas.errors import GraphError

__all__ = ["Fakes", "check_data"]


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

    def note(self, made: Iterable[Tensor]) -> None:
        """Note fakes that ops of torch made."""
        self._made += map(ref, made)

    def alive(self) -> list[Tensor]:
        """The fakes that something still holds."""
        return [fake for made in self._made if (fake := made()) is not None]


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
