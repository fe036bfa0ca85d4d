"""Makes a ``.pdmodel`` of any Paddle one that Paddle-Lite 2.11 to 2.13 can read and fuses as it did its contemporaries.

Paddle 2.6 and later leave out three things: the unused second output of operators such as ``reshape2`` (Paddle-Lite
then crashes); attributes such as ``relu6``'s threshold (it aborts); and the direct addition of a convolution's bias,
for which they write a ``reshape2`` of the bias and an addition (it is then not fused).
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from latency_nas.errors import GraphError
from latency_nas.graph.paddle.proto import ProgramDesc

__all__ = ["rewrite_for_lite"]

_WITH_XSHAPE = frozenset({"reshape2", "transpose2", "squeeze2", "unsqueeze2", "flatten2", "flatten_contiguous_range"})
# operator -> an attribute that it must have, and what it means to leave it out
_DEFAULTS = {"relu6": ("threshold", 6.0), "swish": ("beta", 1.0)}
_DENSE_TENSOR, _FP32 = 7, 5  # Paddle's numbers
_INT, _FLOAT = 0, 1


def rewrite_for_lite(data: bytes) -> bytes:
    """The same program with what Paddle-Lite misses.

    Args:
        data: the content of a ``.pdmodel``.

    Returns:
        The content of one that computes the same.

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
    """``reshape2`` of a weight to one of its sizes a channel, then ``elementwise_add``: one addition along axis 1."""
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
