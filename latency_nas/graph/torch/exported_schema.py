"""What the JSON of an exported program means: its numbers of types, its kinds of arguments, and the functions it calls.

Only functions that are listed here and ops of torch's own libraries are ever called.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._ops import OpOverload, OpOverloadPacket

from latency_nas.errors import GraphError, short_repr

__all__ = ["LIBRARIES", "TYPES", "VALUES", "function_of", "library_of"]

# numbers of types, as in the schema of `torch.export`
TYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 10: torch.complex64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_MEMORY_FORMATS = {
    1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format,
}  # fmt: skip
# functions of sizes
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"_operator.{name}": getattr(operator, name) for name in (
        "add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow", "eq", "ne", "lt", "le", "gt", "ge", "and_",
        "or_", "getitem",
    )},
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc", "sqrt")},
    "torch.sym_float": float, "torch.sym_max": max, "torch.sym_min": min, "torch.sym_not": operator.not_,
}  # fmt: skip
LIBRARIES = frozenset({"", "aten", "prims", "torchvision", "quantized_decomposed"})  # "": functions of sizes
_NEVER = frozenset({"from_file"})  # touches files
_OP = re.compile(r"torch\.ops\.([A-Za-z_]\w*)\.([A-Za-z_]\w*)(\.\w+)?")
_NO_LIBRARY = frozenset({"higher_order"})  # takes programs as arguments

# kind of an argument -> function that gives its value
VALUES: dict[str, Callable[[Any], Any]] = {
    "as_none": lambda _: None,
    "as_float": float,
    "as_floats": lambda values: [*map(float, values)],
    "as_scalar_type": TYPES.__getitem__,
    "as_memory_format": _MEMORY_FORMATS.__getitem__,
    "as_layout": lambda _: torch.strided,
    "as_device": lambda _: torch.device("cpu"),
}


def library_of(target: str, path: Path) -> str:
    """The library of the op that a node calls; ``""`` for a function of sizes.

    Raises:
        GraphError: if it is no op of a library, or one that touches files or takes other programs.
    """
    if target in _FUNCTIONS:
        return ""
    found = _OP.fullmatch(target)
    if found is None or found[1] in _NO_LIBRARY or found[2] in _NEVER:
        raise GraphError(
            f"Expected ops of libraries of torch in {path}, but it calls {short_repr(target)}: give the model itself, "
            f"as package.module:callable."
        )
    return found[1]


def function_of(target: str) -> Callable[..., Any]:
    """The function that a node calls: one of sizes, or an op of torch's own libraries.

    Raises:
        AttributeError: if the library has no such op.
    """
    if target in _FUNCTIONS:
        return _FUNCTIONS[target]
    library, name, *overload = target.removeprefix("torch.ops.").split(".")
    packet = getattr(getattr(torch.ops, library), name)
    found: Callable[..., Any] = getattr(packet, overload[0]) if overload else packet
    if not isinstance(found, OpOverload | OpOverloadPacket):
        raise AttributeError(target)
    return found
