"""Leaves a torch model as it was: attributes, sizes and flags of tensors, and random states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from latency_nas.graph.restored import restored

__all__ = ["unchanged"]

_UNCHANGED: set[int] = set()  # ids of the models that are restored by an outer `unchanged`


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode inside the block, and restore all modules, their tensors and all random states after it.

    Of the tensors it restores sizes, strides, memory (but not what the memory holds), gradients and flags. A nested
    block for the same model restores the state that it began with, and leaves random states to the outer block.
    """
    modules = list(model.modules())
    flags = [(part, part.training) for part in modules if isinstance(part, torch.jit.ScriptModule) and _trains(part)]
    is_nested = id(model) in _UNCHANGED
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    _UNCHANGED.add(id(model))
    try:
        with restored(modules), _tensors_restored(modules), torch.random.fork_rng(devices, enabled=not is_nested):
            for module in modules:
                if _trains(module):
                    module.training = False
            yield
    finally:
        for module, training in flags:
            module.training = training
        if not is_nested:
            _UNCHANGED.discard(id(model))


def _trains(module: nn.Module) -> bool:
    """Whether a module has a flag for training: a frozen script has none."""
    return hasattr(module, "training")


@contextmanager
def _tensors_restored(modules: Sequence[nn.Module]) -> Iterator[None]:
    held = (part for module in modules for part in (*module._parameters.values(), *module._buffers.values()))
    tensors = [tensor for tensor in held if tensor is not None and _is_plain(tensor)]
    before = [(tensor, tensor.data, tensor.requires_grad, tensor.grad) for tensor in tensors]
    try:
        yield
    finally:
        for tensor, data, requires_grad, grad in before:
            if not _is_same(tensor, data):
                tensor.data = data
            if tensor.requires_grad is not requires_grad:
                tensor.requires_grad_(requires_grad)
            if tensor.grad is not grad:
                tensor.grad = grad


def _is_plain(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and tensor.is_leaf


def _is_same(tensor: Tensor, data: Tensor) -> bool:
    """Whether two tensors are the same view of the same memory."""
    return (
        tensor.untyped_storage()._cdata == data.untyped_storage()._cdata
        and (tensor.shape, tensor.stride(), tensor.dtype) == (data.shape, data.stride(), data.dtype)
        and tensor.storage_offset() == data.storage_offset()
    )
