"""Writes ops that select, look up or sort elements as ONNX nodes, with constant masks and indices where there are none.

A constant mask or list of indices costs what a computed one does.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from latency_nas.graph import Node
from latency_nas.graph.onnx.model_parts import ModelParts

__all__ = ["SELECTIONS"]

_N_ROWS = 1000  # of a table of embeddings


def _number(writer: ModelParts, node: Node) -> str:
    return writer.tensor(f"{node.name}.number", np.array(0.5, np.float32))


def _where(writer: ModelParts, node: Node) -> None:
    """Write a selection. Of the operands that are not given, the first is a mask and the last a number."""
    operands = writer.operands(node)
    if node.attrs.get("scalar"):
        operands.append(_number(writer, node))
    if len(operands) < 3:
        shape = writer.shape(node.outputs[0])
        mask = (np.arange(prod(shape)) % 3 == 0).reshape(shape)
        operands.insert(0, writer.tensor(f"{node.name}.mask", mask))
    writer.emit(node, "Where", operands)


def _spread(n: int, among: tuple[int, ...]) -> NDArray[np.int64]:
    """Places of `n` elements in an array of this shape, spread over all of it: ``(n, axes)``."""
    size = prod(among)
    flat = np.arange(n, dtype=np.int64) * max(1, size // n) % size
    return np.stack(np.unravel_index(flat, among), 1).astype(np.int64)


def _index(writer: ModelParts, node: Node) -> None:
    """Write a lookup of single elements, as exporters write one by an array of indices for each axis."""
    source, target = writer.shape(node.inputs[0]), writer.shape(node.outputs[0])
    places = _spread(prod(target), source).reshape(*target, len(source))
    writer.emit(node, "GatherND", [*writer.activations(node)[:1], writer.tensor(f"{node.name}.places", places)])


def _embedding(writer: ModelParts, node: Node) -> None:
    """Write a lookup of rows of weights."""
    rows = writer.weight(f"{node.name}.rows", (_N_ROWS, writer.shape(node.outputs[0])[-1]))
    writer.emit(node, "Gather", [rows, *writer.activations(node)[-1:]], axis=0)


def _cumsum(writer: ModelParts, node: Node) -> None:
    axis = writer.tensor(f"{node.name}.axis", np.array(node.attrs["axis"], np.int64))
    writer.emit(node, "CumSum", [*writer.activations(node), axis])


def _topk(writer: ModelParts, node: Node) -> None:
    """Write the largest elements. Nothing reads their places."""
    k = writer.tensor(f"{node.name}.k", np.array([node.attrs["k"]], np.int64))
    outputs = [node.name, f"{node.name}.places"]
    inputs = [*writer.activations(node), k]
    writer.nodes.append(helper.make_node("TopK", inputs, outputs, name=node.name, axis=node.attrs["axis"]))
    writer.names[node.outputs[0]] = node.name


# op -> function that writes it
SELECTIONS: dict[str, Callable[[ModelParts, Node], None]] = {
    "where": _where,
    "index": _index,
    "embedding": _embedding,
    "cumsum": _cumsum,
    "topk": _topk,
}
