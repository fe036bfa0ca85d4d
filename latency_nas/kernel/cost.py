"""The multiply-accumulates, FLOPs, parameters and bytes of a kernel, by closed formulas."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import cast

from latency_nas.kernel.kernel import Kernel
from latency_nas.kernel.vocabulary import DTYPES, OPS, SPATIAL_AXES

__all__ = ["GATES", "is_known", "is_memory_bound", "n_bytes", "n_flops", "n_macs", "n_params"]


def _area(kernel: Kernel) -> int:
    return prod(cast("tuple[int, ...]", kernel.attributes["kernel"]))


def _group(kernel: Kernel) -> int:
    return cast(int, kernel.attributes["group"])


def _conv_params(kernel: Kernel) -> int:
    c_in, c_out = kernel.inputs[0][1], kernel.outputs[0][1]
    return c_in * c_out // _group(kernel) * _area(kernel) + c_out * int(bool(kernel.attributes.get("bias", 0)))


def _linear_params(kernel: Kernel) -> int:
    c_in, c_out = kernel.inputs[0][-1], kernel.outputs[0][-1]
    return c_in * c_out + c_out * int(bool(kernel.attributes.get("bias", 0)))


def _normalised(kernel: Kernel) -> int:
    """Number of elements that a layer norm normalises together: those of its axis and of all later axes."""
    return prod(kernel.inputs[0][cast(int, kernel.attributes.get("axis", -1)) :])


def _channels(kernel: Kernel) -> int:
    return kernel.inputs[0][min(1, len(kernel.inputs[0]) - 1)]


def _length(kernel: Kernel) -> int:
    """Number of products that are summed into one element of a matmul's output."""
    # A constant that multiplies from the left is not among the inputs: the sum is over its last axis,
    # which is the last but one of the only input.
    return kernel.inputs[0][-1 if len(kernel.inputs) > 1 or "constant" in kernel.attributes else -2]


def _constant_factor(kernel: Kernel) -> int:
    """Number of elements of a matmul's constant; one that differs along the batch is as large as the batch."""
    if len(kernel.inputs) > 1:
        return 0
    return kernel.outputs[0][-1 if "constant" in kernel.attributes else -2] * _length(kernel)


# products of the input, and of the state, in each step of a recurrent layer
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def _recurrent_sizes(kernel: Kernel) -> tuple[int, int, int]:
    """The hidden size, the number of directions, and the size of the state that is fed back."""
    hidden, directions = (cast(int, kernel.attributes.get(name, 1)) for name in ("hidden", "directions"))
    return hidden, directions, cast(int, kernel.attributes.get("projection", hidden))


def _recurrent_params(kernel: Kernel) -> int:
    """Two matrices and two biases for each gate and direction, and the projection."""
    hidden, directions, state = _recurrent_sizes(kernel)
    own = GATES[kernel.op] * hidden * (kernel.inputs[0][-1] + state + 2)
    return directions * (own + (hidden * state if "projection" in kernel.attributes else 0))


def _recurrent_macs(kernel: Kernel) -> int:
    hidden, directions, state = _recurrent_sizes(kernel)
    *batch, features = kernel.inputs[0]
    own = GATES[kernel.op] * hidden * (features + state)
    return prod(batch) * directions * (own + (hidden * state if "projection" in kernel.attributes else 0))


# Number of parameters of each op that has some.
_PARAMS: dict[str, Callable[[Kernel], int]] = {
    **dict.fromkeys((op for op in SPATIAL_AXES if op.startswith("conv")), _conv_params),
    "linear": _linear_params,
    "matmul": _constant_factor,
    **dict.fromkeys(GATES, _recurrent_params),
    "batch_norm": lambda k: 4 * k.inputs[0][1],
    "layer_norm": lambda k: 2 * _normalised(k),
    "rms_norm": _normalised,
    "group_norm": lambda k: 2 * k.inputs[0][1],
    "instance_norm": lambda k: 2 * k.inputs[0][1],
    "prelu": _channels,  # an upper bound: a PReLU may also share one weight among all channels
    "embedding": lambda k: sum(map(prod, k.outputs)),  # only the rows that are read
}

# Multiply-accumulates of each op that does some. The work of all other ops is counted by `n_flops` only.
_MACS: dict[str, Callable[[Kernel], int]] = {
    **{f"conv{n}d": lambda k: prod(k.outputs[0]) * (k.inputs[0][1] // _group(k)) * _area(k) for n in (1, 2, 3)},
    **{
        f"conv_transpose{n}d": lambda k: prod(k.inputs[0]) * (k.outputs[0][1] // _group(k)) * _area(k)
        for n in (1, 2, 3)
    },
    "linear": lambda k: prod(k.outputs[0]) * k.inputs[0][-1],
    "matmul": lambda k: prod(k.outputs[0]) * _length(k),
    **dict.fromkeys(GATES, _recurrent_macs),
}

# Ops that move data and compute nothing.
_MOVES = frozenset({
    "concat", "stack", "split", "slice", "pad", "reshape", "transpose", "expand", "tile", "gather", "embedding",
    "shuffle_channel", "raster", "index", "scatter", "roll", "flip", "im2col",
})  # fmt: skip


_KNOWN = frozenset({*OPS, "paddle.scale"})

# Ops of the vocabulary whose time is not that of the memory that they touch, though they do no multiply-accumulates.
_COMPUTE = frozenset({"grid_sample"})


def is_known(kernel: Kernel) -> bool:
    """Whether the op of a kernel is in the vocabulary, so that its work follows from its shapes.

    Example:
        >>> is_known(Kernel.of("relu", [(1, 8)], [(1, 8)])), is_known(Kernel.of("onnx.If", [], [(1, 8)]))
        (True, False)
    """
    return kernel.op in _KNOWN


def is_memory_bound(kernel: Kernel) -> bool:
    """Whether the time of a kernel is mostly that of the memory that it touches: copies, activations, additions.

    Only ops that are known to be so are; an op outside the vocabulary may compute anything.

    Example:
        >>> is_memory_bound(Kernel.of("relu", [(1, 8)], [(1, 8)])), is_memory_bound(Kernel.of("onnx.If", [], [(1, 8)]))
        (True, False)
    """
    return is_known(kernel) and kernel.op not in _MACS and kernel.op not in _COMPUTE


def n_macs(kernel: Kernel) -> int:
    """Number of multiply-accumulates of a convolution, product or recurrent layer; 0 for every other op.

    For an op outside the vocabulary this is no count, only a lower bound: see `is_known`.

    Example:
        >>> n_macs(Kernel.of("linear", [(1, 128)], [(1, 10)]))
        1280
    """
    formula = _MACS.get(kernel.op)
    return formula(kernel) if formula else 0


def n_flops(kernel: Kernel) -> int:
    """Number of floating-point operations.

    A multiply-accumulate counts as two. Ops that only move data count as none. A pooling counts one for each element
    of each window, and every other op one for each element of its largest input or output.

    Example:
        >>> n_flops(Kernel.of("linear", [(1, 128)], [(1, 10)])), n_flops(Kernel.of("relu", [(1, 64)], [(1, 64)]))
        (2560, 64)
    """
    if kernel.op in _MACS:
        return 2 * n_macs(kernel)
    if kernel.op in _MOVES:
        return 0
    if kernel.op.startswith("pool") and kernel.op in SPATIAL_AXES:
        return prod(kernel.outputs[0]) * _area(kernel)
    return max((prod(shape) for shape in (*kernel.inputs, *kernel.outputs)), default=0)


def n_params(kernel: Kernel) -> int:
    """Number of weights and biases that the kernel reads.

    Example:
        >>> n_params(Kernel.of("linear", [(1, 128)], [(1, 10)], bias=1))
        1290
    """
    formula = _PARAMS.get(kernel.op)
    return formula(kernel) if formula else 0


def n_bytes(kernel: Kernel, params: int | None = None) -> int:
    """Number of bytes that the kernel must read or write at least once: its inputs, outputs and parameters.

    Args:
        kernel: Kernel to count.
        params: Number of parameters that it reads, where this is known better than by `n_params`.
    """
    elements = sum(map(prod, kernel.inputs)) + sum(map(prod, kernel.outputs))
    return DTYPES[kernel.dtype] * (elements + (n_params(kernel) if params is None else params))
