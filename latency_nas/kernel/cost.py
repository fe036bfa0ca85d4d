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

# Ops whose time is that of the memory that they touch. MNN on an x86-64 takes 0.2 to 1.8 times as long for them as the
# model of memory-bound ops of `x86-mnn` says, with 12,544 and with 307,200 elements. All others compute: for `exp` it
# takes 2 times as long, `tanh` 3, `logical_or` 4, `where` 6, `floor` 8, `sqrt` 17, `sin` 24, `erf` 33, `pow` 68,
# `cumsum` 69, `topk` 219; for the largest along an axis 5; for `resize` 2.5 (linear) to 8 (cubic).
_MEMORY_BOUND = frozenset({
    # copies
    "concat", "stack", "unstack", "split", "chunk", "slice", "pad", "reshape", "transpose", "expand", "tile",
    "shuffle_channel", "raster", "roll", "flip", "cast",
    # one simple instruction for each element
    "add", "sub", "mul", "div", "maximum", "minimum", "paddle.scale", "batch_norm", "relu", "relu6", "leaky_relu",
    "clip", "hard_swish", "abs", "neg", "sign", "square", "reciprocal", "equal", "not_equal", "greater",
    "greater_equal", "less", "less_equal", "logical_and", "logical_xor", "logical_not",
})  # fmt: skip

# Copies of runs of elements: of runs of 64 elements 0.9 to 1.4 times as long, of 16 up to 5, of single ones 94.
_GATHERS = frozenset({"gather", "embedding"})
_MIN_RUN = 64

# Sums that are taken while memory is read: 0.2 to 2 times as long, but along a last axis of 7 to 80 elements up to 3.5.
_SUMS = frozenset({"reduce_sum", "reduce_mean"})
_MIN_LAST = 192


def _run(kernel: Kernel) -> int:
    """Number of neighbouring elements that a gather copies at once: those after its axis."""
    target = kernel.outputs[0]
    if kernel.op == "embedding":
        return target[-1]
    axis = cast(int, kernel.attributes["axis"])
    source = kernel.inputs[0] if kernel.inputs else target
    # The only input is the data, if all but its axis stays; otherwise it has the indices into constant data.
    is_data = (*source[:axis], *source[axis + 1 :]) == (*target[:axis], *target[axis + 1 :])
    n_indices = len(kernel.inputs[1]) if len(kernel.inputs) > 1 else 1 if is_data else len(source)
    return prod(target[axis + n_indices :])


def _sums_short_rows(kernel: Kernel) -> bool:
    """Whether a sum is taken along a short last axis alone."""
    source = kernel.inputs[0]
    return kernel.attributes["axes"] == (len(source) - 1,) and source[-1] < _MIN_LAST


def is_known(kernel: Kernel) -> bool:
    """Whether the op of a kernel is in the vocabulary, so that its work follows from its shapes.

    Example:
        >>> is_known(Kernel.of("relu", [(1, 8)], [(1, 8)])), is_known(Kernel.of("onnx.If", [], [(1, 8)]))
        (True, False)
    """
    return kernel.op in _KNOWN


def is_memory_bound(kernel: Kernel) -> bool:
    """Whether the time of a kernel is mostly that of the memory that it touches: copies, and elementwise arithmetic.

    Only ops that were measured to be so are. All others compute, or may do so.

    Example:
        >>> [is_memory_bound(Kernel.of(op, [(1, 8)], [(1, 8)])) for op in ("relu", "erf")]
        [True, False]
    """
    if kernel.op in _GATHERS:
        return _run(kernel) >= _MIN_RUN
    if kernel.op in _SUMS:
        return not _sums_short_rows(kernel)
    return kernel.op in _MEMORY_BOUND and kernel.attributes.get("act", "relu") in _MEMORY_BOUND


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
