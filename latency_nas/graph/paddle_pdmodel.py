"""Parses Paddle's ``.pdmodel``, a protobuf of a ``ProgramDesc``."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from latency_nas.errors import GraphError
from latency_nas.graph.paddle_program import PaddleOp, PaddleProgram, PaddleVariable
from latency_nas.graph.paddle_proto import ATTR_FIELDS, DTYPES, ProgramDesc

__all__ = ["parse_pdmodel"]


def parse_pdmodel(data: bytes, source: str) -> PaddleProgram:
    """The program that `data`, the content of the file `source`, holds.

    Raises:
        GraphError: if it is not such a protobuf, or holds no operators.
    """
    program = ProgramDesc()
    try:
        program.ParseFromString(data)
    except DecodeError as error:
        raise GraphError(
            f"Expected {source} to be a Paddle program (protobuf), but it is truncated or something else ({error})."
        ) from error
    if not program.blocks or not program.blocks[0].ops:
        raise GraphError(f"Expected {source} to be a Paddle program (protobuf), but it holds no operators.")
    block = program.blocks[0]
    variables = {variable.name: _variable(variable) for variable in block.vars}
    ops = tuple(_op(op, variables) for op in block.ops)
    return PaddleProgram(ops=ops, variables=variables)


def _variable(variable: Any) -> PaddleVariable:
    tensor = variable.type.dense_tensor.tensor
    dtype = DTYPES.get(tensor.data_type, f"type {tensor.data_type}")
    return PaddleVariable(shape=tuple(tensor.dims), dtype=dtype, persistable=variable.persistable)


def _value(attr: Any) -> Any:
    value = getattr(attr, ATTR_FIELDS[attr.type])
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if attr.type == 16:  # a Scalar, which says itself which of its fields it uses
        return getattr(value, {1: "b", 2: "i"}.get(value.type, "r"))
    return value if isinstance(value, int | float) else tuple(value)


def _op(op: Any, variables: dict[str, PaddleVariable]) -> PaddleOp:
    inputs, outputs = (
        {slot.parameter: tuple(slot.arguments) for slot in slots if slot.arguments} for slots in (op.inputs, op.outputs)
    )
    weights = (name for names in inputs.values() for name in names if name in variables and variables[name].persistable)
    layer, point, _ = next(weights, "").rpartition(".")  # conv2d_0.w_0 is a weight of conv2d_0
    attrs = {attr.name: _value(attr) for attr in op.attrs if attr.type in ATTR_FIELDS}
    return PaddleOp(type=op.type, inputs=inputs, outputs=outputs, attrs=attrs, layer=layer if point else "")
