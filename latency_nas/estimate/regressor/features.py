"""Features of kernels for the regression of their time, computed for many kernels at once."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from latency_nas.kernel import Kernel, Shape, n_bytes, n_flops, n_params
from latency_nas.kernel.cost import GATES

__all__ = ["COORDINATES", "FEATURES", "LOG_LINEAR", "feature_matrix", "features"]

# Quantities that are read from a kernel; sizes are of its first input and output.
_SIZES = (
    "flops", "bytes", "params", "size_in", "size_out", "channels_in", "channels_out", "pixels_in", "pixels_out",
    "width_out", "kernel_area", "kernel_aspect", "stride", "pad", "dilation", "group", "has_activation", "kind",
)  # fmt: skip

# The one categorical feature that a family may have: the layout that a copy reads, or what a pool computes.
_KINDS = {"packed": 1, "plain": 2, "avg": 1, "max": 2}

# Engines pad channels and pixels to their registers and tiles (4, 8 and 12 floats on ARM, 16 on AVX-512), and divide
# blocks of channels among threads. Each (size, block) gives the remainder, and the part of the padded size in use.
_BLOCKS = (
    ("channels_in", 4), ("channels_in", 8), ("channels_out", 4), ("channels_out", 8), ("channels_out", 12),
    ("channels_out", 16), ("channels_out", 32), ("pixels_out", 8), ("pixels_out", 12), ("pixels_out", 16),
    ("width_out", 4), ("width_out", 8),
)  # fmt: skip

_LOGS = (
    "flops", "bytes", "params", "size_in", "size_out", "channels_in", "channels_out", "pixels_in", "pixels_out",
    "group", "depth", "im2col",
)  # fmt: skip
_PLAIN = ("kernel_area", "kernel_aspect", "stride", "pad", "dilation", "has_activation", "kind")

FEATURES = (
    *(f"log_{name}" for name in _LOGS),
    "log_intensity",
    "log_shrink",
    "log_widen",
    *_PLAIN,
    *(f"{name}_mod_{block}" for name, block in _BLOCKS),
    *(f"{name}_fill_{block}" for name, block in _BLOCKS),
)

# Features for distances between kernels, and features of the log-linear form.
COORDINATES = (
    "log_channels_in", "log_channels_out", "log_pixels_out", "log_shrink", "log_bytes", "log_group", *_PLAIN,
    "channels_out_fill_4", "channels_out_fill_8", "pixels_out_fill_8",
)  # fmt: skip
LOG_LINEAR = (
    "log_flops", "log_bytes", "log_params", "log_size_in", "log_size_out", "log_channels_in", "log_channels_out",
    "log_pixels_out", "log_depth", "stride", "has_activation", "kind",
)  # fmt: skip


def _channels_first(kernel: Kernel, shape: Shape) -> Shape:
    """A shape as ``(batch, channels, *pixels)``. A recurrent layer reads its features as channels, its steps as pixels.

    So it is a product at each step; its directions are groups, since neither reads the other.
    """
    return (shape[1], shape[2], shape[0]) if kernel.op in GATES and len(shape) == 3 else shape


def _sizes(kernel: Kernel) -> tuple[float, ...]:
    source = _channels_first(kernel, kernel.inputs[0]) if kernel.inputs else ()
    target = _channels_first(kernel, kernel.outputs[0]) if kernel.outputs else ()
    get = kernel.attributes.get
    area, stride, pad, dilation = (
        value if isinstance(value := get(name), tuple) and value else (default,)
        for name, default in (("kernel", 1), ("stride", 1), ("pad", 0), ("dilation", 1))
    )
    group = get("group", get("directions", 1))
    params = n_params(kernel)
    size_in, size_out = prod(source), prod(target)
    return (
        n_flops(kernel), n_bytes(kernel, params), params, size_in, size_out,
        source[1] if len(source) > 1 else size_in, target[1] if len(target) > 1 else size_out,
        prod(source[2:]), prod(target[2:]), target[-1] if target else 1,
        prod(area), area[-1] / area[0] if area[0] else 1, stride[0], pad[0], dilation[0],
        group if isinstance(group, int) else 1, "act" in kernel.attributes,
        _KINDS.get(str(get("source", get("type", ""))), 0),
    )  # fmt: skip


def feature_matrix(kernels: Sequence[Kernel]) -> NDArray[np.float64]:
    """The features of kernels, of shape ``(len(kernels), len(FEATURES))``; logarithms are of one plus the size."""
    raw = np.array([_sizes(kernel) for kernel in kernels], dtype=np.float64).reshape(len(kernels), len(_SIZES))
    size = dict(zip(_SIZES, raw.T, strict=True))
    # as a matrix product: the terms of one output element's sum, and the unfolded input of a spatial kernel
    size["depth"] = size["flops"] / np.maximum(2 * size["size_out"], 1)
    size["im2col"] = np.where(size["kernel_area"] > 1, size["depth"] * size["pixels_out"], 0)
    # a recurrent layer unfolds nothing; what it adds to its products is the start of each step in each direction
    is_recurrent = np.array([kernel.op in GATES for kernel in kernels], dtype=bool)
    size["im2col"] = np.where(is_recurrent, size["pixels_out"] * size["group"], size["im2col"])
    columns = [np.log1p(size[name]) for name in _LOGS]
    columns.append(np.log((1 + size["flops"]) / (1 + size["bytes"])))
    columns.append(np.log((1 + size["pixels_in"]) / (1 + size["pixels_out"])))
    columns.append(np.log((1 + size["channels_out"]) / (1 + size["channels_in"])))
    columns += [size[name] for name in _PLAIN]
    columns += [size[name] % block for name, block in _BLOCKS]
    columns += [size[name] / np.maximum(np.ceil(size[name] / block) * block, 1) for name, block in _BLOCKS]
    return np.stack(columns, axis=1)


def features(kernel: Kernel) -> NDArray[np.float64]:
    """The features of one kernel, of shape ``(len(FEATURES),)``."""
    return np.asarray(feature_matrix([kernel])[0])
