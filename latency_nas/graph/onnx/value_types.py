"""The types of values in an ONNX file: of their elements, their shapes where every size is known."""

from __future__ import annotations

from functools import lru_cache

import onnx

from latency_nas.kernel import Shape

__all__ = ["DTYPES", "static_shape", "type_name"]

# ONNX's number of an element type -> ours
DTYPES = {
    1: "fp32", 2: "int8", 3: "int8", 4: "int16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "fp16",
    11: "fp32", 12: "int32", 13: "int64", 16: "bf16", 21: "int8", 22: "int8",
}  # fmt: skip


def type_name(kind: int) -> str:
    """ONNX's name of a type of elements, or its number."""
    types = onnx.TensorProto.DataType
    return str(types.Name(kind)) if kind in types.values() else str(kind)


def static_shape(value: onnx.ValueInfoProto) -> Shape | None:
    """The shape of a tensor if every size is known; ``()`` for a value that is not a tensor."""
    return _static_shape(value.type.SerializeToString())


@lru_cache(maxsize=4096)  # reading a size through protobuf takes longer than all of this, and many tensors are alike
def _static_shape(content: bytes) -> Shape | None:
    kind = onnx.TypeProto.FromString(content)
    sizes = kind.tensor_type.shape.dim[:]
    shape = tuple([size.dim_value for size in sizes])
    if shape and min(shape) > 0:
        return shape
    if kind.WhichOneof("value") not in {"tensor_type", None}:
        return ()
    known = kind.tensor_type.HasField("shape") and all(size.HasField("dim_value") for size in sizes)
    return shape if known and min(shape, default=0) >= 0 else None
