"""Features of a kernel that its time depends on."""

from __future__ import annotations

from math import log, prod

import numpy as np
from numpy.typing import NDArray

from latency_nas.kernel import Kernel, n_bytes, n_flops, n_params

__all__ = ["FEATURES", "features"]

FEATURES = (
    "log_flops",
    "log_bytes",
    "log_params",
    "log_intensity",
    "log_size_in",
    "log_size_out",
    "log_channels_in",
    "log_channels_out",
    "log_pixels_out",
    "kernel_area",
    "stride",
    "channels_in_mod_4",
    "channels_out_mod_4",
    "channels_out_mod_8",
    "channels_out_mod_16",
    "has_activation",
    "kind",
)


def _channels(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) > 1 else prod(shape)


def features(kernel: Kernel) -> NDArray[np.float64]:
    """The features of a kernel, of shape ``(len(FEATURES),)``; sizes are logarithms of one plus the size."""
    source = kernel.inputs[0] if kernel.inputs else ()
    target = kernel.outputs[0] if kernel.outputs else ()
    flops, size_bytes = n_flops(kernel), n_bytes(kernel)
    area = kernel.attributes.get("kernel", (1, 1))
    stride = kernel.attributes.get("stride", (1, 1))
    c_in, c_out = _channels(source), _channels(target)
    return np.array([
        log(1 + flops),
        log(1 + size_bytes),
        log(1 + n_params(kernel)),
        log((1 + flops) / (1 + size_bytes)),
        log(1 + prod(source)),
        log(1 + prod(target)),
        log(1 + c_in),
        log(1 + c_out),
        log(1 + prod(target[2:])),
        prod(area) if isinstance(area, tuple) else 1,
        stride[0] if isinstance(stride, tuple) and stride else 1,
        c_in % 4,
        c_out % 4,
        c_out % 8,
        c_out % 16,
        float("act" in kernel.attributes),
        _KINDS.get(str(kernel.attributes.get("source", kernel.attributes.get("type", ""))), 0),
    ])  # fmt: skip


# the one categorical feature that a family may have: where a copy comes from, or what a pool computes
_KINDS = {"packed": 1, "plain": 2, "avg": 1, "max": 2}
