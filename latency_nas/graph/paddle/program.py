"""`PaddleProgram`: the operators in the file of a Paddle inference model, with the names of ``.pdmodel``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = ["PaddleOp", "PaddleProgram", "PaddleVariable", "variable"]


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
