"""Folds the numbers that a Paddle program computes from shapes: ``shape`` -> ``slice`` -> ``reshape2``, and the like.

With fixed inputs, such a chain is constant. The operator that it ends in then has its numbers as attributes, as in a
program that was saved with fixed sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.graph.paddle.program import PaddleOp
from latency_nas.kernel import Shape

__all__ = ["Numbers", "compute", "has_open_sizes", "typed", "with_numbers"]

Numbers = NDArray[Any]

_MAX_SIZE = 4096  # larger tensors are no sizes

_RESIZE = {"OutSize": "size", "SizeTensor": "size", "Scale": "scale"}
_SHAPE = {"Shape": "shape", "ShapeTensor": "shape", "ShapeTensorList": "shape"}
_BOUNDS = {
    f"{bound}Tensor{end}": bound.lower() for bound in ("Starts", "Ends", "Strides") for end in ("", "List")
}  # fmt: skip

# operator -> slot of an operand -> the attribute that it replaces. A slot in lower case replaces that attribute.
_SLOTS: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys(("reshape", "reshape2"), _SHAPE),
    **dict.fromkeys(
        ("fill_constant", "uniform_random", "gaussian_random", "randint"), _SHAPE | {"ValueTensor": "value"}
    ),
    **dict.fromkeys(("slice", "strided_slice"), _BOUNDS),
    "expand_v2": {"Shape": "shape", "expand_shapes_tensor": "shape"},
    "tile": {"RepeatTimes": "repeat_times", "repeat_times_tensor": "repeat_times"},
    "split": {"AxisTensor": "axis", "SectionsTensorList": "sections"},
    "concat": {"AxisTensor": "axis"},
    **{op: {"AxesTensor": "axes", "AxesTensorList": "axes"} for op in ("unsqueeze", "unsqueeze2")},
    "pad3d": {"Paddings": "paddings"},
    "top_k_v2": {"K": "k"},
    **{f"{mode}_interp_v2": _RESIZE for mode in ("bilinear", "nearest", "bicubic")},
    **{f"{mode}_interp": _RESIZE for mode in ("bilinear", "nearest", "bicubic")},
}
_SINGLE = frozenset({"axis", "k", "value"})  # attributes that are one number


def with_numbers(op: PaddleOp, known: Mapping[str, Numbers]) -> PaddleOp:
    """The operator with attributes in place of the operands that state sizes, axes and the like.

    Args:
        op: Operator.
        known: Name of a variable -> its numbers, where they are known.
    """
    slots = _SLOTS.get(op.type, {})
    found = {
        slot: attribute
        for slot, names in op.inputs.items()
        if (attribute := slots.get(slot) or (slot if slot[0].islower() else ""))
        and all(name in known for name in names)
    }
    if not found:
        return op
    values = {
        attribute: np.concatenate([known[name].ravel() for name in op.inputs[slot]]).tolist()
        for slot, attribute in found.items()
    }
    attrs = {name: value[0] if name in _SINGLE else tuple(value) for name, value in values.items()}
    return replace(
        op,
        inputs={slot: names for slot, names in op.inputs.items() if slot not in found},
        attrs={**op.attrs, **attrs},
    )


def has_open_sizes(op: PaddleOp) -> bool:
    """Whether an operator reads sizes, axes and the like from operands.

    Args:
        op: Operator, as `with_numbers` gives it.
    """
    slots = _SLOTS.get(op.type, {})
    return any(slot in slots or slot[0].islower() for slot in op.inputs)


def compute(
    op: PaddleOp, names: Sequence[str], shapes: Sequence[Shape], known: Mapping[str, Numbers]
) -> list[Numbers] | None:
    """The numbers that an operator makes of shapes or of known numbers; None where this is not computed.

    The caller sets ``np.errstate``: a damaged program may divide by zero.

    Args:
        op: Operator, as `with_numbers` gives it.
        names: Its operands, in the order of `latency_nas.graph.paddle.ops.operands`.
        shapes: Shapes of the operands.
        known: Name of a variable -> its numbers, where they are known.

    Raises:
        LookupError, TypeError, ValueError, ArithmeticError: if its attributes or operands do not fit each other.
    """
    if op.type in _OF_SHAPES:
        return [np.array(_OF_SHAPES[op.type](shapes[0]), np.int64)]
    rule = _RULES.get(op.type)
    if rule is None or not all(name in known for name in names):
        return None
    made = rule(op, [known[name] for name in names])
    results = made if isinstance(made, list) else [made]
    return results if results and all(item.size <= _MAX_SIZE for item in results) else None


def typed(numbers: Numbers, dtype: str) -> Numbers:
    """The numbers as a variable of this type has them.

    Args:
        numbers: Numbers.
        dtype: Type of the elements, in the spelling of `Kernel`.
    """
    return numbers.astype(_TYPES.get(dtype, np.int64), copy=False)


# operator -> function that makes a number or several of its operand's shape
_OF_SHAPES: Mapping[str, Callable[[Shape], Any]] = {"shape": list, "size": prod, "numel": prod}

_TYPES: Mapping[str, Any] = {"fp32": np.float64, "fp16": np.float64, "bf16": np.float64, "bool": np.bool_}

_Rule = Callable[[PaddleOp, Sequence[Numbers]], Numbers | list[Numbers]]


def _small(shape: Shape) -> Shape:
    """The shape itself. One of many elements is refused before they are made."""
    if min(shape, default=0) < 0 or prod(shape) > _MAX_SIZE:
        raise ValueError(f"{shape} is no shape of a few numbers")
    return shape


def _filled(op: PaddleOp, _: Sequence[Numbers]) -> Numbers | list[Numbers]:
    shape = tuple(op.attrs["shape"])
    return np.full(_small(shape), op.attrs["value"]) if prod(shape) <= _MAX_SIZE else []


def _stated(op: PaddleOp, _: Sequence[Numbers]) -> Numbers | list[Numbers]:
    names = ("values", "int32_values", "int64_values", "fp32_values", "bool_values")
    values = next((op.attrs[name] for name in names if op.attrs.get(name)), ())
    shape = tuple(op.attrs["shape"])
    return np.array(values).reshape(_small(shape)) if prod(shape) <= _MAX_SIZE else []


def _range(op: PaddleOp, operands: Sequence[Numbers]) -> Numbers | list[Numbers]:
    start, end, step = (item.ravel()[0].item() for item in operands)
    return np.arange(start, end, step) if abs(end - start) <= _MAX_SIZE * abs(step) else []


def _binary(function: Callable[..., Any]) -> _Rule:
    return lambda op, operands: np.asarray(function(operands[0], operands[1]))


def _unary(function: Callable[..., Any]) -> _Rule:
    return lambda op, operands: np.asarray(function(operands[0]))


def _scale(op: PaddleOp, operands: Sequence[Numbers]) -> Numbers:
    factor, offset = op.attrs.get("scale", 1), op.attrs.get("bias", 0)
    factor = factor[0] if isinstance(factor, tuple) else factor
    x = operands[0]
    return np.asarray(x * factor + offset if op.attrs.get("bias_after_scale", True) else (x + offset) * factor)


def _slice(op: PaddleOp, operands: Sequence[Numbers]) -> Numbers:
    axes, starts, ends = op.attrs["axes"], op.attrs["starts"], op.attrs["ends"]
    steps = op.attrs.get("strides") or (1,) * len(axes)
    where = [slice(None)] * operands[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        where[axis] = slice(start, end, step)
    made: Numbers = operands[0][tuple(where)]
    gone = tuple(op.attrs.get("decrease_axis") or ())
    return np.squeeze(made, gone) if gone else made


def _split(op: PaddleOp, operands: Sequence[Numbers]) -> list[Numbers]:
    axis, sections = int(op.attrs["axis"]), list(op.attrs.get("sections") or ())
    if not sections:
        return np.split(operands[0], sum(map(len, op.outputs.values())), axis)
    return np.split(operands[0], np.cumsum(sections)[:-1].tolist(), axis)


def _unstack(op: PaddleOp, operands: Sequence[Numbers]) -> list[Numbers]:
    return list(np.moveaxis(operands[0], int(op.attrs.get("axis", 0)), 0))


def _reshape(op: PaddleOp, operands: Sequence[Numbers]) -> Numbers:
    source = operands[0].shape
    return operands[0].reshape([source[axis] if size == 0 else size for axis, size in enumerate(op.attrs["shape"])])


def _squeeze(op: PaddleOp, operands: Sequence[Numbers]) -> Numbers:
    return np.squeeze(operands[0], tuple(op.attrs["axes"]) or None)


def _expand(op: PaddleOp, operands: Sequence[Numbers]) -> Numbers:
    wanted = tuple(op.attrs["shape"])
    source = (1,) * (len(wanted) - operands[0].ndim) + operands[0].shape
    shape = tuple(old if new == -1 else new for old, new in zip(source, wanted, strict=True))
    return np.broadcast_to(operands[0], _small(shape))


def _tile(op: PaddleOp, operands: Sequence[Numbers]) -> Numbers | list[Numbers]:
    times = tuple(op.attrs["repeat_times"])
    return np.tile(operands[0], times) if 0 <= operands[0].size * prod(times) <= _MAX_SIZE else []


def _reduced(function: Callable[..., Any]) -> _Rule:
    def reduce(op: PaddleOp, operands: Sequence[Numbers]) -> Numbers:
        dims = op.attrs.get("dim") or ()
        axes = None if op.attrs.get("reduce_all") or not dims else tuple(dims) if isinstance(dims, tuple) else dims
        return np.asarray(function(operands[0], axis=axes, keepdims=bool(op.attrs.get("keep_dim"))))

    return reduce


_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(("assign", "cast", "share_data", "share_data_", "memcpy"), lambda op, operands: operands[0]),
    **dict.fromkeys(("fill_constant", "full"), _filled),
    "full_int_array": lambda op, _: np.array(op.attrs["value"], np.int64),
    **dict.fromkeys(("assign_value", "assign_value_"), _stated),
    "range": _range,
    "scale": _scale,
    "increment": lambda op, operands: operands[0] + op.attrs.get("step", 1),
    **{
        f"elementwise_{name}": _binary(function)
        for name, function in {
            "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.true_divide, "pow": np.float_power,
            "floordiv": np.floor_divide, "mod": np.mod, "max": np.maximum, "min": np.minimum,
        }.items()
    },
    "greater_than": _binary(np.greater),
    "less_than": _binary(np.less),
    **{
        name: _binary(getattr(np, name))
        for name in ("equal", "not_equal", "greater_equal", "less_equal", "logical_and", "logical_or")
    },
    **{name: _unary(getattr(np, name)) for name in ("floor", "ceil", "round", "sqrt", "abs", "logical_not")},
    "where": lambda op, operands: np.where(operands[0], operands[1], operands[2]),
    **dict.fromkeys(("slice", "strided_slice"), _slice),
    "concat": lambda op, operands: np.concatenate(list(operands), int(op.attrs["axis"])),
    "stack": lambda op, operands: np.stack(list(operands), int(op.attrs["axis"])),
    "split": _split,
    **dict.fromkeys(("unstack", "unbind"), _unstack),
    "gather": lambda op, operands: np.take(operands[0], operands[1].astype(np.int64), int(op.attrs.get("axis", 0))),
    **dict.fromkeys(("reshape", "reshape2"), _reshape),
    **dict.fromkeys(("squeeze", "squeeze2"), _squeeze),
    **dict.fromkeys(("unsqueeze", "unsqueeze2"), lambda op, operands: np.expand_dims(operands[0], op.attrs["axes"])),
    "flatten_contiguous_range": lambda op, operands: operands[0].ravel(),
    "expand_v2": _expand,
    "tile": _tile,
    **{f"reduce_{name}": _reduced(getattr(np, name)) for name in ("sum", "prod", "max", "min")},
}  # fmt: skip
