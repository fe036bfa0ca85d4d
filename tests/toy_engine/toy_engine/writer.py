"""Writes a graph as the toy engine's file: a line of JSON, then the weights as 32-bit floats.

The file holds the graph as it is. What is folded, and where layouts are copied, the interpreter decides when it opens
it, so that the rules can be compared with it.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import numpy as np

from latency_nas.errors import MeasureError
from latency_nas.graph import Node, OpGraph
from latency_nas.kernel import Shape

__all__ = ["write_toy"]

_OPS = (
    "add", "batch_norm", "concat", "conv2d", "linear", "mul", "pool2d", "reduce_mean", "relu", "relu6", "reshape",
    "sigmoid",
)  # fmt: skip


def _weights(graph: OpGraph, node: Node) -> list[Shape]:
    """The shapes of a node's weights, channels last."""
    source, target = graph.values[graph.activations(node)[0]].shape, graph.values[node.outputs[0]].shape
    bias = [target[-1:]] if node.op == "linear" else [target[1:2]]
    if node.op == "conv2d":
        kernel = (*node.attrs["kernel"], source[1] // node.attrs["group"], target[1])  # type: ignore[misc, operator]
        return [kernel, *bias] if node.attrs.get("bias") else [kernel]
    if node.op == "linear":
        return [(source[-1], target[-1]), *bias] if node.attrs.get("bias") else [(source[-1], target[-1])]
    if node.op == "batch_norm":
        return [source[1:2], source[1:2]]
    values = [graph.values[index] for index in node.inputs]
    return [value.shape for value in values if value.constant and not value.literal]


def write_toy(graph: OpGraph, path: Path, *, seed: int = 0) -> Path:
    """Write a graph with random weights.

    Raises:
        MeasureError: if the interpreter lacks an op.
    """
    nodes, weights = [], []
    for node in graph.nodes:
        if node.op not in _OPS:
            raise MeasureError(f"Expected ops out of {', '.join(_OPS)}, but the model has {node.op} (at {node.name}).")
        shapes = _weights(graph, node)
        nodes.append([node.name, node.op, graph.activations(node), node.outputs, dict(node.attrs), shapes])
        weights += shapes
    header = {"values": [value.shape for value in graph.values], "inputs": graph.inputs, "outputs": graph.outputs}
    draw = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(json.dumps({**header, "nodes": nodes}).encode() + b"\n")
        for shape in weights:
            scale = prod(shape[:-1]) ** -0.5  # what is multiplied stays of one size through all layers
            file.write((scale * draw.standard_normal(shape)).astype("<f4").tobytes())
    return path
