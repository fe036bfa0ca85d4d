"""Parses Paddle's ``.pdmodel``, a protobuf of a ``ProgramDesc``."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from google.protobuf.message import DecodeError

from latency_nas.errors import GraphError
from latency_nas.graph.paddle.program import PaddleOp, PaddleProgram, PaddleVariable, variable
from latency_nas.graph.paddle.proto import DTYPES, ProgramDesc

__all__ = ["parse_pdmodel"]


def parse_pdmodel(data: bytes, source: str) -> PaddleProgram:
    """Parse the content of the file `source`.

    Raises:
        GraphError: if the data is not such a protobuf, or has no operators.
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
    variables = {item.name: _variable(item) for item in block.vars}
    ops = tuple([_op(op, variables) for op in block.ops])
    return PaddleProgram(ops=ops, variables=variables)


def _variable(item: Any) -> PaddleVariable:
    tensor = item.type.dense_tensor.tensor
    dtype = DTYPES.get(tensor.data_type) or f"type {tensor.data_type}"
    return variable(tuple(tensor.dims[:]), dtype, item.persistable)


def _listed(field: str) -> Callable[[Any], tuple[Any, ...]]:
    values = attrgetter(field)
    return lambda attr: tuple(values(attr)[:])


def _text(attr: Any) -> str:
    return str(attr.s.decode(errors="replace"))


def _number(scalar: Any) -> bool | int | float:
    """The value of a Scalar, whose type says which of its fields is used."""
    value: bool | int | float = getattr(scalar, {1: "b", 2: "i"}.get(scalar.type, "r"))
    return value


# type of an attribute -> function that gives its value; references to blocks or variables have none
_VALUES: dict[int, Callable[[Any], Any]] = {
    0: attrgetter("i"), 1: attrgetter("f"), 2: _text, 3: _listed("ints"), 4: _listed("floats"), 5: _listed("strings"),
    6: attrgetter("b"), 7: _listed("bools"), 9: attrgetter("l"), 11: _listed("longs"), 12: _listed("float64s"),
    15: attrgetter("float64"), 16: lambda attr: _number(attr.scalar),
    17: lambda attr: tuple(map(_number, attr.scalars)),
}  # fmt: skip


# attributes that most operators have and no deployed network needs
_IDLE = frozenset({
    "op_callstack", "op_device", "op_namescope", "op_role", "op_role_var", "op_emb_shape", "with_quant_attr", "is_test",
    "momentum", "epsilon", "trainable_statistics", "use_global_stats", "use_cudnn", "use_mkldnn", "mkldnn_data_type",
})  # fmt: skip


def _op(op: Any, variables: dict[str, PaddleVariable]) -> PaddleOp:
    inputs, outputs = (
        {slot.parameter: names for slot in slots if (names := tuple(slot.arguments[:]))}
        for slots in (op.inputs, op.outputs)
    )
    weights = [name for names in inputs.values() for name in names if name in variables and variables[name].persistable]
    # Names of weights begin with the layer: conv2d_0.w_0 is a weight of conv2d_0.
    layer, point, _ = weights[0].rpartition(".") if weights else ("", "", "")
    attrs = {
        name: _VALUES[kind](attr)
        for attr in op.attrs
        if (name := attr.name) not in _IDLE and (kind := attr.type) in _VALUES
    }
    return PaddleOp(type=op.type, inputs=inputs, outputs=outputs, attrs=attrs, layer=layer if point else "")
