"""`PaddleProgram`: the operators of a Paddle inference model as its file has them, in the names of ``.pdmodel``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = ["PaddleOp", "PaddleProgram", "PaddleVariable", "variable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddleVariable:
    """What a file states of a tensor.

    Args:
        shape: its sizes; -1 where the program leaves one open.
        dtype: its type in the spelling of `Kernel`, or Paddle's own name for one that no kernel has.
        persistable: whether it is a weight.
    """

    shape: tuple[int, ...]
    dtype: str
    persistable: bool = False


@lru_cache(maxsize=4096)  # most of a network's variables are like another
def variable(shape: tuple[int, ...], dtype: str, persistable: bool) -> PaddleVariable:
    """The variable of these fields, the same object each time."""
    return PaddleVariable(shape=shape, dtype=dtype, persistable=persistable)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddleOp:
    """One operator.

    Args:
        type: Paddle's name for it (``"elementwise_add"``); one that only the newer format has keeps its name there.
        inputs: slot (``"X"``, ``"Filter"``) -> names of variables.
        outputs: slot -> names of variables.
        attrs: its attributes; lists as tuples.
        layer: the layer that it belongs to, where the file says, or ``""``.
    """

    type: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: Mapping[str, tuple[str, ...]]
    attrs: Mapping[str, Any]
    layer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddleProgram:
    """The operators of the outermost block, ``feed`` and ``fetch`` included, and the variables that they name."""

    ops: tuple[PaddleOp, ...]
    variables: Mapping[str, PaddleVariable]
