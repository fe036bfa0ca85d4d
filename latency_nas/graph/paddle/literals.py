"""Finds the numbers that a Paddle program states: what it fills tensors with, and factors and offsets of ``scale``."""

from __future__ import annotations

from collections.abc import Sequence

from latency_nas.graph.normal_form.no_ops import number_of
from latency_nas.graph.op_graph import Value
from latency_nas.graph.paddle.ops import Attrs
from latency_nas.graph.paddle.program import PaddleOp

__all__ = ["LIKE", "filled", "scale_number", "stated_number"]

# operators that fill a tensor of their input's shape
LIKE = frozenset({"full_like", "fill_any_like", "fill_zeros_like"})


def filled(op: PaddleOp, values: Sequence[Value]) -> float | None:
    """The number that an operator fills its result with; None if it is another operator, or does not state it.

    Args:
        op: Operator of a program.
        values: Its operands, for an operator of `LIKE` the tensor whose shape it takes and the number.
    """
    if op.type == "fill_zeros_like":
        return 0.0
    if op.type in {*LIKE, "full", "fill_constant"}:
        value = op.attrs.get("value", values[1].number if len(values) > 1 else None)
        return float(value) if isinstance(value, int | float) else None
    return None


def scale_number(op: PaddleOp, kind: str) -> float | None:
    """The factor or offset of a ``scale`` that is a product or an addition; None for any other operator.

    Args:
        op: Operator of a program.
        kind: Op that it is read as.
    """
    number = op.attrs.get({"mul": "scale", "add": "bias"}.get(kind, "")) if op.type == "scale" else None
    number = number[0] if isinstance(number, tuple) else number
    return float(number) if isinstance(number, int | float) else None


def stated_number(op: PaddleOp, kind: str, attrs: Attrs, values: Sequence[Value]) -> float | None:
    """The number that all elements of a constant are, which an operator makes of constants; None if not known.

    Args:
        op: Operator of a program.
        kind: Op that it is read as.
        attrs: Attributes of that.
        values: Its operands, all of them constants.
    """
    if (number := filled(op, values)) is not None:
        return number
    numbers = [value.number if value.literal else None for value in values]
    if (number := scale_number(op, kind)) is not None:
        numbers.append(number)
    return number_of(kind, attrs, numbers)
