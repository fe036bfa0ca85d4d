"""Finds the constants of an ONNX file that are numbers of the model's code, so that training cannot change them.

They are Constant nodes, and initializers of a single number that torch's exporter (``dynamo=True``) folded: it marks
parameters and buffers in the ``value_info`` of its files, but not what it computed of them. Initializers of other files
may be parameters. A Constant of several numbers counts only in torch's files, since other converters write weights as
Constants.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from latency_nas.graph.normal_form.no_ops import number_in

__all__ = ["literals_of"]

# fields of a tensor that hold values; those of large weights were skipped
_VALUES = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_KIND = "pkg.torch.export.graph_signature.InputSpec.kind"  # of torch 2.6 and newer


def literals_of(graph: onnx.GraphProto, *, by_torch: bool, folder: Path | None) -> dict[str, float | None]:
    """The constants of a graph that are no weights.

    Args:
        graph: Graph of a file.
        by_torch: Whether torch's exporter wrote the file.
        folder: Folder of the file; None for a model in memory.

    Returns:
        Name of each -> the number that all of its elements are, or None.
    """
    found = {name: _number(tensor, folder) for name, tensor in _constants(graph) if by_torch or prod(tensor.dims) == 1}
    folded = {name: _number(tensor, folder) for name, tensor in _folded(graph)} if by_torch else {}
    return {**found, **{name: number for name, number in folded.items() if number is not None}}


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for node in graph.node:
        if node.op_type != "Constant" or node.domain:
            continue
        for attribute in node.attribute:
            value = helper.get_attribute_value(attribute)
            if attribute.name == "value":
                yield node.output[0], value
            elif attribute.name in {"value_int", "value_ints", "value_float", "value_floats"}:
                yield node.output[0], numpy_helper.from_array(np.asarray(value))


def _folded(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """The initializers that are neither parameters nor buffers, if the file tells."""
    kinds = {value.name for value in graph.value_info for item in value.metadata_props if item.key == _KIND}
    return ((tensor.name, tensor) for tensor in graph.initializer if kinds and tensor.name not in kinds)


def _number(tensor: onnx.TensorProto, folder: Path | None) -> float | None:
    is_external = tensor.data_location == onnx.TensorProto.EXTERNAL
    has_values = folder is not None if is_external else any(getattr(tensor, name) for name in _VALUES)
    if not has_values:
        return None
    try:
        return number_in(numpy_helper.to_array(_kept(tensor), str(folder or "")))
    except Exception:  # wrong length, or data beside the file, which is then not known
        return None


def _kept(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The tensor, with the sizes of the few values that were kept of many equal ones."""
    size = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    n_kept = len(tensor.raw_data) // size or len(tensor.float_data)
    if not 0 < n_kept < prod(tensor.dims):
        return tensor
    few = onnx.TensorProto(data_type=tensor.data_type, raw_data=tensor.raw_data, float_data=tensor.float_data)
    few.dims.append(n_kept)
    return few
