"""Reads models that are prepared for quantisation (``torch.ao.quantization``) as they are deployed.

Observers measure values, which reading does not compute: they are left out. A module that imitates quantisation is a
quantiser and a dequantiser. A convolution or linear layer that imitates a folded batch norm is the layer and its norm.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from latency_nas.graph.torch.recurrent import Emit

__all__ = ["quantise_as_deployed", "quantised"]


def quantise_as_deployed(model: nn.Module) -> None:
    """Let modules for quantisation run as they are deployed. To undo this, restore the modules' attributes."""
    if "torch.ao.quantization" not in sys.modules:
        return
    from torch.ao.nn.intrinsic.qat.modules.conv_fused import _ConvBnNd
    from torch.ao.nn.intrinsic.qat.modules.linear_fused import LinearBn1d
    from torch.ao.quantization.fake_quantize import FakeQuantizeBase
    from torch.ao.quantization.observer import ObserverBase

    found: Any
    for found in model.modules():
        if isinstance(found, FakeQuantizeBase):
            found.__dict__["forward"] = _quantiser(found)
        elif isinstance(found, ObserverBase):
            found.__dict__["forward"] = lambda x: x
        elif isinstance(found, _ConvBnNd):
            found.__dict__["forward"] = _with_norm(found, found._conv_forward)
        elif isinstance(found, LinearBn1d):
            found.__dict__["forward"] = _with_norm(found, functional.linear)


def _quantiser(module: Any) -> Callable[[Tensor], Tensor]:
    """The forward of a module that imitates quantisation, without its observer; its scale may not be known yet."""
    axis = getattr(module, "ch_axis", -1)

    def quantise(x: Tensor) -> Tensor:
        low, high = int(module.quant_min), int(module.quant_max)
        if axis == -1:
            return torch.fake_quantize_per_tensor_affine(x, 1.0, 0, low, high)
        scales, zeros = torch.ones(x.shape[axis]), torch.zeros(x.shape[axis], dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(x, scales, zeros, axis, low, high)

    return quantise


def _with_norm(module: Any, run: Callable[[Tensor, Tensor, Tensor | None], Tensor]) -> Callable[[Tensor], Tensor]:
    activate = functional.relu if "ReLU" in type(module).__name__ else lambda y: y

    def forward(x: Tensor) -> Tensor:
        return activate(module.bn(run(x, module.weight_fake_quant(module.weight), module.bias)))

    return forward


def quantised(x: Tensor, emit: Emit) -> Tensor:
    """The result of an op that imitates quantisation: a quantiser and a dequantiser are emitted."""
    shape = tuple(x.shape)
    return emit("dequantize", {}, [emit("quantize", {}, [x], shape, torch.int8)], shape, x.dtype)
