"""Shapes of what a `Loop` with an unknown number of iterations carries, where its body keeps them."""

from __future__ import annotations

import onnx
from onnx import helper

from latency_nas.graph.onnx.model import STANDARD, OnnxModel
from latency_nas.graph.onnx.scopes import reads, subgraphs
from latency_nas.graph.onnx.value_types import static_shape

__all__ = ["take_kept_shapes"]

_N_BEFORE = 2  # inputs of a Loop before what it carries


def take_kept_shapes(model: OnnxModel) -> bool:
    """Record the shapes of tensors that the loops of a model carry and keep. Returns whether any was found.

    A body that gives tensors of the shapes that it takes does so however often it runs.
    """
    found = [_take_kept(model, node) for node in model.nodes if node.op_type == "Loop" and node.domain in STANDARD]
    return any(found)


def _take_kept(model: OnnxModel, node: onnx.NodeProto) -> bool:
    states = node.input[_N_BEFORE:]
    if all(name in model.tensors for name in node.output[: len(states)] if name):
        return False
    if any(name not in model.tensors for name in (*states, *reads(node))) or len(subgraphs(node)) != 1:
        return False
    (graph,) = subgraphs(node)
    body = onnx.GraphProto()
    body.CopyFrom(graph)
    for value, name in zip(body.input[_N_BEFORE:], states, strict=False):
        value.CopyFrom(_info(model, value.name, name))
    body.input.extend(
        _info(model, name, name) for name in sorted(set(reads(node)) - {value.name for value in body.input})
    )
    for value in body.output:
        value.type.tensor_type.ClearField("shape")
    single = helper.make_model(body, opset_imports=model.proto.opset_import, ir_version=model.proto.ir_version)
    try:
        inferred = onnx.shape_inference.infer_shapes(single, data_prop=True).graph.output
    except Exception:  # onnx has several classes; the shape stays unknown, which is reported
        return False
    shapes = [static_shape(value) for value in inferred[1 : 1 + len(states)]]
    if shapes != [model.tensors[name][0] for name in states]:
        return False
    model.tensors.update(
        {output: model.tensors[name] for output, name in zip(node.output, states, strict=False) if output}
    )
    return True


def _info(model: OnnxModel, name: str, like: str) -> onnx.ValueInfoProto:
    shape, kind = model.tensors[like]
    return helper.make_tensor_value_info(name, kind, shape)
