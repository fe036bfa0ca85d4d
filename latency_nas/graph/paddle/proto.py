"""Paddle's ``ProgramDesc`` as protobuf messages, without Paddle: the fields that determine a program's topology.

Other fields, such as versions, are unchanged by a round trip, since protobuf keeps unknown fields.

References:
    Paddle, ``paddle/fluid/framework/framework.proto``. The numbers of fields are from this file.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["DTYPES", "ProgramDesc"]

_PACKAGE = "latency_nas.paddle"
_TYPES = descriptor_pb2.FieldDescriptorProto.Type

# message -> its fields: number, name, and type or name of a message; "*" marks a repeated field
_MESSAGES: dict[str, tuple[tuple[int, str, str], ...]] = {
    "Arguments": ((1, "parameter", "string"), (2, "arguments", "string*")),
    "Attr": (
        (1, "name", "string"), (2, "type", "int32"), (3, "i", "int32"), (4, "f", "float"), (5, "s", "bytes"),
        (6, "ints", "int32*"), (7, "floats", "float*"), (8, "strings", "bytes*"), (10, "b", "bool"),
        (11, "bools", "bool*"), (12, "block_idx", "int32"), (13, "l", "int64"), (15, "longs", "int64*"),
        (16, "float64s", "double*"), (19, "float64", "double"), (20, "scalar", "Scalar"),
        (21, "scalars", "Scalar*"),
    ),
    "Scalar": ((1, "type", "int32"), (2, "b", "bool"), (3, "i", "int64"), (4, "r", "double")),
    "OpDesc": ((3, "type", "string"), (1, "inputs", "Arguments*"), (2, "outputs", "Arguments*"), (4, "attrs", "Attr*")),
    "TensorDesc": ((1, "data_type", "int32"), (2, "dims", "int64*")),
    "DenseTensorDesc": ((1, "tensor", "TensorDesc"),),
    "VarType": ((1, "type", "int32"), (3, "dense_tensor", "DenseTensorDesc")),
    "VarDesc": ((1, "name", "string"), (2, "type", "VarType"), (3, "persistable", "bool")),
    "BlockDesc": ((1, "idx", "int32"), (2, "parent_idx", "int32"), (3, "vars", "VarDesc*"), (4, "ops", "OpDesc*")),
    "ProgramDesc": ((1, "blocks", "BlockDesc*"),),
}  # fmt: skip

# Paddle's number of a type -> our name; FP64 is narrowed, as in engines for phones
DTYPES = {
    0: "bool", 1: "int32", 2: "int32", 3: "int64", 4: "fp16", 5: "fp32", 6: "fp32", 20: "int8", 21: "int8", 22: "bf16",
}  # fmt: skip


def _describe() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="latency_nas/paddle.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field_name, kind in fields:
            label = descriptor_pb2.FieldDescriptorProto.Label.Value(
                f"LABEL_{'REPEATED' if kind[-1] == '*' else 'OPTIONAL'}"
            )
            field = message.field.add(name=field_name, number=number, label=label)
            kind = kind.rstrip("*")
            if kind in _MESSAGES:
                field.type, field.type_name = _TYPES.Value("TYPE_MESSAGE"), f".{_PACKAGE}.{kind}"
            else:
                field.type = _TYPES.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.ProgramDesc"))


ProgramDesc = _describe()
