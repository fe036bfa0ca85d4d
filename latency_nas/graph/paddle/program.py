"""`PaddleProgram`: the operators in the file of a Paddle inference model, with the names of ``.pdmodel``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from latency_nas.errors import InputMismatchError, short_repr
from latency_nas.graph.input_shapes import InputShape, check_input_shape
from latency_nas.kernel import Shape

__all__ = ["PaddleOp", "PaddleProgram", "PaddleVariable", "shapes_by_name", "variable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddleVariable:
    """A tensor, as a program declares it.

    Args:
        shape: Sizes; -1 for an open one.
        dtype: Type of the elements in the spelling of `Kernel`, or Paddle's name of a type that kernels do not have.
        persistable: Whether the tensor is a weight.
    """

    shape: tuple[int, ...]
    dtype: str
    persistable: bool = False


@lru_cache(maxsize=4096)  # many variables of a network are equal
def variable(shape: tuple[int, ...], dtype: str, persistable: bool) -> PaddleVariable:
    """The variable of these fields. Equal fields give the same object."""
    return PaddleVariable(shape=shape, dtype=dtype, persistable=persistable)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddleOp:
    """One operator.

    Args:
        type: Name of the operator in ``.pdmodel`` (``"elementwise_add"``), or in PIR if ``.pdmodel`` has no such
            operator.
        inputs: Slot (``"X"``, ``"Filter"``) -> names of variables.
        outputs: Slot -> names of variables.
        attrs: Attributes, with tuples for lists.
        layer: Name of the operator's layer where the file states it, or ``""``.
    """

    type: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: Mapping[str, tuple[str, ...]]
    attrs: Mapping[str, Any]
    layer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddleProgram:
    """The operators of the outermost block, with ``feed`` and ``fetch``, and the variables that they name."""

    ops: tuple[PaddleOp, ...]
    variables: Mapping[str, PaddleVariable]


def shapes_by_name(program: PaddleProgram, source: str, given: InputShape | None) -> Mapping[str, Shape]:
    """The shapes that are given, by name of the input.

    Args:
        program: Program.
        source: Name of the program in messages.
        given: Shape of the only input, or a mapping input -> shape.

    Raises:
        InputMismatchError: if these do not fit the inputs of the program.
    """
    fed = (name for op in program.ops if op.type == "feed" for name in op.outputs.get("Out", ()))
    inputs = [name for name in fed if name in program.variables]
    checked = check_input_shape(given)
    shapes = checked if isinstance(checked, dict) else {} if checked is None else dict.fromkeys(inputs, checked)
    unknown = [name for name in shapes if name not in inputs]
    if unknown or (not isinstance(checked, dict) and len(shapes) > 1):
        listed = ", ".join(f"{short_repr(name)} of shape {program.variables[name].shape}" for name in inputs)
        raise InputMismatchError(
            f"Expected `input_shape` to fit the inputs of {source} ({listed}), one shape or a shape for each by name, "
            f"but got {short_repr(given)}."
        )
    return shapes
