"""Undoes in-place writes of a forward to real tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Overwritten"]


class Overwritten:
    """The contents of real tensors before ops wrote into them."""

    def __init__(self) -> None:
        # id of a memory -> itself, its content before the first write, a tensor that has it, and its version
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage, Tensor, int]] = {}

    def keep(self, func: Any, tensors: Sequence[Tensor]) -> None:
        """Copy the contents of the tensors that an op on real tensors may overwrite."""
        for tensor in tensors if func._schema.is_mutable else ():
            storage = tensor.untyped_storage()
            if not tensor.is_meta and storage._cdata not in self._before:
                before = torch.UntypedStorage(storage.nbytes(), device=storage.device)  # type: ignore[no-untyped-call]
                version = 0 if tensor.is_inference() else tensor._version
                self._before[storage._cdata] = storage, before.copy_(storage), tensor, version

    def put_back(self) -> None:
        """Give all memory its first content, and its first size."""
        for storage, before, tensor, version in self._before.values():
            if storage.nbytes() != before.nbytes():
                storage.resize_(before.nbytes())
            storage.copy_(before)
            if not tensor.is_inference():
                torch._C._autograd._unsafe_set_version_counter((tensor,), (version,))
        self._before.clear()
