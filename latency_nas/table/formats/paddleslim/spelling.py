"""The keys by which PaddleSlim may look up a kernel: the inverse of parsing, in each of Paddle's spellings."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, cast

from latency_nas.errors import KernelError
from latency_nas.kernel import Kernel, Shape
from latency_nas.table.formats.paddleslim.keys import parse_paddleslim_key
from latency_nas.table.formats.paddleslim.templates import Dialect, OptimisedOp, write_paddleslim_key

__all__ = ["paddleslim_keys"]

_BITS = {"fp32": (None, None), "int8": (True, 8), "fp16": (True, 16)}
_FUSED = ("relu", "relu6", "leaky_relu")  # activations that PaddleSlim's optimiser fuses into a convolution


def _op(type_: str, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...], **attrs: Any) -> OptimisedOp:
    return OptimisedOp(type=type_, inputs=inputs, outputs=outputs, attrs=attrs)


def _one(kernel: Kernel, name: str) -> int:
    """The value of an attribute for which a key holds only one number."""
    values = cast(tuple[int, ...], kernel.attributes[name])
    if len(set(values)) > 1:
        raise KernelError(f"a key holds one number of `{name}`, and its own differ: {values}")
    return values[0]


def _conv(kernel: Kernel) -> list[OptimisedOp]:
    act = kernel.attributes.get("act")
    if act not in (None, *_FUSED):
        raise KernelError(f"PaddleSlim's optimiser fuses no {act} into a convolution")
    source, target, group = kernel.inputs[0], kernel.outputs[0], kernel.attributes["group"]
    quant, bits = _BITS[kernel.dtype]
    type_ = "depthwise_conv2d" if kernel.family == "depthwise_conv2d" else "conv2d"
    weight = (target[1], source[1] // cast(int, group), *cast(Shape, kernel.attributes["kernel"]))
    if kernel.op == "conv_transpose2d":
        type_, weight = "conv2d_transpose", (source[1], target[1] // cast(int, group), *weight[2:])
    return [
        _op(
            type_, (weight, source), kernel.outputs, paddings=[_one(kernel, "pad")] * 2,
            strides=[_one(kernel, "stride")] * 2, dilations=[_one(kernel, "dilation")] * 2, groups=group,
            enable_int8=quant, bit_length=bits,
        )
    ]  # fmt: skip


def _pool(kernel: Kernel) -> list[OptimisedOp]:
    attrs: dict[str, Any] = {"pooling_type": kernel.attributes["type"]}
    if kernel.attributes.get("global"):
        return [_op("pool2d", kernel.inputs, kernel.outputs, global_pooling=True, **_ONES, **attrs)]
    sizes = {"ksize": "kernel", "strides": "stride", "paddings": "pad"}
    attrs |= {theirs: [_one(kernel, ours)] * 2 for theirs, ours in sizes.items()}
    return [_op("pool2d", kernel.inputs, kernel.outputs, **attrs)]


_ONES: dict[str, Any] = {"ksize": [1, 1], "strides": [1, 1], "paddings": [0, 0]}


def _binary(kernel: Kernel) -> list[OptimisedOp]:
    """An op for each way in which Paddle may state the place of the smaller operand."""
    if kernel.attributes.get("scalar") or len(kernel.inputs) != 2:
        raise KernelError("an operand that is a number has no key")
    act = kernel.attributes.get("act")
    if act not in (None, "relu"):
        raise KernelError(f"PaddleSlim's optimiser fuses no {act} into an element-wise op")
    type_ = f"elementwise_{kernel.op}" if act is None else f"fusion_elementwise_{kernel.op}_activation"
    x, y = kernel.inputs
    spellings = [(y, -1)]
    if len(y) < len(x):
        spellings.append((y, len(x) - len(y)))
        short = y
        while len(short) > 1 and short[-1] == 1:
            short = short[:-1]
            spellings.append((short, len(x) - len(y)))
    return [_op(type_, (x, shape), kernel.outputs, axis=axis) for shape, axis in spellings]


def _reshape(kernel: Kernel) -> list[OptimisedOp]:
    """The reshape, and each flatten, squeeze and unsqueeze between the same shapes."""
    (source,), (target,) = kernel.inputs, kernel.outputs
    ops = [_op("reshape2", kernel.inputs, kernel.outputs)]
    n_removed = len(source) - len(target)
    for start in range(len(target) if n_removed > 0 else 0):
        stop = start + n_removed + 1
        if (*source[:start], prod(source[start:stop]), *source[stop:]) == target:
            ops.append(_op("flatten_contiguous_range", kernel.inputs, kernel.outputs, start_axis=start))
    type_, longer, shorter = ("squeeze2", source, target) if n_removed > 0 else ("unsqueeze2", target, source)
    for start in range(len(shorter) + 1 if n_removed else 0):
        stop = start + abs(n_removed)
        if set(longer[start:stop]) == {1} and longer[:start] + longer[stop:] == shorter:
            ops.append(_op(type_, kernel.inputs, kernel.outputs, axes=[*range(start, stop)]))
    return ops


def _matmul(kernel: Kernel) -> list[OptimisedOp]:
    if len(kernel.inputs) != 2:
        raise KernelError("a constant that multiplies from the left has no key")
    quant, bits = _BITS[kernel.dtype]
    attrs = {"enable_int8": quant, "bit_length": bits}
    return [_op(type_, kernel.inputs, kernel.outputs, **attrs) for type_ in ("matmul_v2", "matmul")]


def _linear(kernel: Kernel) -> list[OptimisedOp]:
    weight = (kernel.inputs[0][-1], kernel.outputs[0][-1])
    return [_op("fc", (kernel.inputs[0], weight), kernel.outputs)]


def _split(kernel: Kernel) -> list[OptimisedOp]:
    axis = cast(int, kernel.attributes["axis"])
    return [_op("split", kernel.inputs, kernel.outputs, axis=axis, sections=[shape[axis] for shape in kernel.outputs])]


def _argmax(kernel: Kernel) -> list[OptimisedOp]:
    axis = cast(int, kernel.attributes["axis"])
    axes = (axis, axis - len(kernel.inputs[0]))
    return [_op("arg_max", kernel.inputs, kernel.outputs, axis=value) for value in axes]


def _plain(type_: str) -> Callable[[Kernel], list[OptimisedOp]]:
    return lambda kernel: [_op(type_, kernel.inputs, kernel.outputs, **kernel.attributes)]


# op of a kernel -> function that gives the ops of Paddle that it may be
_OPS: dict[str, Callable[[Kernel], list[OptimisedOp]]] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv,
    "pool2d": _pool,
    "linear": _linear,
    "matmul": _matmul,
    "reshape": _reshape,
    "split": _split,
    "argmax": _argmax,
    "reduce_mean": lambda kernel: [
        _op("reduce_mean", kernel.inputs, kernel.outputs, dim=list(cast(Shape, kernel.attributes["axes"])))
    ],
    **dict.fromkeys(("add", "sub", "mul", "div", "pow", "mod"), _binary),
    **{op: _plain(op) for op in ("concat", "stack", "shuffle_channel", "greater_equal", "batch_norm", "layer_norm")},
    **{op: _plain(op) for op in ("hard_swish", "relu", "leaky_relu", "tanh", "swish", "softmax", "hard_sigmoid")},
    **{op: _plain(op) for op in ("sigmoid", "gelu", "clip", "sqrt", "exp", "floor")},
}
_WITH_PRECISION = frozenset({"conv2d", "conv_transpose2d", "matmul"})


def paddleslim_keys(kernel: Kernel, *, dialect: Dialect = "2022") -> tuple[str, ...]:
    """The keys by which PaddleSlim may look up a kernel.

    A kernel has several keys where Paddle has several spellings: the ``axis`` of an element-wise op may be counted from
    either side, and a flatten is a reshape. `parse_paddleslim_key` gives the same kernel for each key, without the
    attributes that keys do not record.

    Args:
        kernel: Kernel of Paddle-Lite.
        dialect: Dialect of the keys, as in `write_paddleslim_key`.

    Raises:
        KernelError: if PaddleSlim has no key for it, or its key would also mean another kernel.

    Example:
        >>> paddleslim_keys(Kernel.of("relu", [(1, 8)], [(1, 8)]))
        ('relu in=(1, 8) out=(1, 8)',)
    """
    if kernel.dtype not in (_BITS if kernel.op in _WITH_PRECISION else ("fp32",)):
        raise KernelError(f"a key of {kernel.op} does not contain the type {kernel.dtype}")
    if kernel.op.startswith("paddle."):
        ops = [_paddles_own(kernel)]
    elif kernel.op in _OPS:
        ops = _OPS[kernel.op](kernel)
    else:
        raise KernelError(f"PaddleSlim has no key for {kernel.op}")
    keys = tuple(dict.fromkeys(key for op in ops if (key := write_paddleslim_key(op, dialect=dialect))))
    if not keys:
        raise KernelError(f"PaddleSlim has no key for {kernel.op}")
    for key in keys:
        read = parse_paddleslim_key(key)
        if read.op != kernel.op or read != kernel.without(tuple(kernel.attributes.keys() - read.attributes.keys())):
            raise KernelError(f"its key would mean {read}")
    return keys


def _paddles_own(kernel: Kernel) -> OptimisedOp:
    """The op of a kernel that kept Paddle's name: its attributes are the fields of its key."""
    attrs: dict[str, Any] = {name: list(value) if isinstance(value, tuple) else value for name, value in kernel.attrs}
    if kernel.op == "paddle.uniform_random":
        attrs["shape"] = list(kernel.outputs[0])
    if any(isinstance(value, str) for value in attrs.values()):
        raise KernelError("its key cannot be rebuilt from attributes that the kernel holds as names")
    return OptimisedOp(
        type=kernel.op.removeprefix("paddle."), inputs=kernel.inputs, outputs=kernel.outputs, attrs=attrs
    )
