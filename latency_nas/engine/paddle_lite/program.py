"""Rewrites a ``.pdmodel`` of a newer Paddle so that Paddle-Lite 2.11 to 2.13 can read it and fuses it as an older one.

Paddle 2.6 and later leave out three things. Without the unused second output of operators such as ``reshape2``,
Paddle-Lite crashes. Without attributes such as the threshold of ``relu6``, it aborts. And they write a convolution's
bias as a ``reshape2`` and an addition, which Paddle-Lite does not fuse as it does a direct addition.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from latency_nas.errors import GraphError
from latency_nas.graph.paddle.proto import ProgramDesc

__all__ = ["rewrite_for_lite"]

_WITH_XSHAPE = frozenset({"reshape2", "transpose2", "squeeze2", "unsqueeze2", "flatten2", "flatten_contiguous_range"})
# operator -> a required attribute, and its default where the program leaves it out
_DEFAULTS = {"relu6": ("threshold", 6.0), "swish": ("beta", 1.0)}
_DENSE_TENSOR, _FP32 = 7, 5  # Paddle's numbers of these types
_INT, _FLOAT = 0, 1


def rewrite_for_lite(data: bytes) -> bytes:
    """Add to a program what Paddle-Lite needs.

    Args:
        data: Content of a ``.pdmodel``.

    Returns:
        The content of a ``.pdmodel`` that computes the same.

    Raises:
        GraphError: if `data` is not a program.
    """
    try:
        program = ProgramDesc.FromString(data)
    except DecodeError as error:
        raise GraphError(
            f"Expected the content of a .pdmodel, but it is truncated or something else ({error})."
        ) from error
    for block in program.blocks:
        _add_biases_directly(block)
        for op in block.ops:
            if op.type in _DEFAULTS and not any(attr.name == _DEFAULTS[op.type][0] for attr in op.attrs):
                name, value = _DEFAULTS[op.type]
                op.attrs.add(name=name, type=_FLOAT, f=value)
            if op.type in _WITH_XSHAPE and not _names(op.outputs, "XShape"):
                _add_xshape(op, block)
    return bytes(program.SerializeToString())


def _names(slots: Any, parameter: str) -> list[str]:
    return [name for slot in slots if slot.parameter == parameter for name in slot.arguments]


def _add_xshape(op: Any, block: Any) -> None:
    name = f"{_names(op.outputs, 'Out')[0]}.xshape"
    for slot in [slot for slot in op.outputs if slot.parameter == "XShape"]:
        op.outputs.remove(slot)
    op.outputs.add(parameter="XShape", arguments=[name])
    variable = block.vars.add(name=name)
    variable.type.type = _DENSE_TENSOR
    variable.type.dense_tensor.tensor.data_type = _FP32


def _add_biases_directly(block: Any) -> None:
    """Replace a ``reshape2`` of a bias and an ``elementwise_add`` by one addition along axis 1."""
    shapes = {variable.name: tuple(variable.type.dense_tensor.tensor.dims) for variable in block.vars}
    weights = {variable.name for variable in block.vars if variable.persistable}
    reshaped: dict[str, tuple[str, Any]] = {}
    for op in block.ops:
        source, target = (next(iter(names), "") for names in (_names(op.inputs, "X"), _names(op.outputs, "Out")))
        if op.type == "reshape2" and source in weights and shapes.get(target) == (1, *shapes[source], 1, 1):
            reshaped[target] = source, op
        if op.type == "elementwise_add" and (bias := next(iter(_names(op.inputs, "Y")), "")) in reshaped:
            slot = next(slot for slot in op.inputs if slot.parameter == "Y")
            slot.arguments[0] = reshaped[bias][0]
            _set_axis(op)
    read = {name for op in block.ops for slot in op.inputs for name in slot.arguments}
    for name, (_, op) in reshaped.items():
        if name not in read:
            block.ops.remove(op)


def _set_axis(op: Any) -> None:
    for attr in [attr for attr in op.attrs if attr.name == "axis"]:
        op.attrs.remove(attr)
    op.attrs.add(name="axis", type=_INT, i=1)
