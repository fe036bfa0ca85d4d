"""`ModelParts`: the nodes and random weights of an ONNX model that is being written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from latency_nas.graph import Node, OpGraph

__all__ = ["ModelParts"]

_N_DRAWN = 65_537  # random numbers, repeated; a prime, so that the period differs from that of any layout
_FEW_BYTES = 1024  # a smaller tensor is written into the model's own file
_STEP = 9973  # distance between the first random numbers of two tensors


class ModelParts:
    """Collects the nodes and initializers of one model.

    Args:
        graph: Graph to write.
        seed: Seed of the random weights.
        beside: Open file for the weights, so that each is copied only once.
    """

    def __init__(self, graph: OpGraph, seed: int, beside: BinaryIO) -> None:
        self.graph, self.beside = graph, beside
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.drawn = np.random.default_rng(seed).random(_N_DRAWN, np.float32)
        self.names = {index: f"input_{position}" for position, index in enumerate(graph.inputs)}

    def tensor(self, name: str, array: NDArray[np.generic]) -> str:
        """Add an initializer, and return its name."""
        if array.nbytes < _FEW_BYTES:
            self.initializers.append(numpy_helper.from_array(array, name))
            return name
        where = {"location": Path(self.beside.name).name, "offset": self.beside.tell(), "length": array.nbytes}
        self.beside.write(np.ascontiguousarray(array).data)
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = onnx.TensorProto(name=name, dims=array.shape, data_type=kind, data_location=onnx.TensorProto.EXTERNAL)
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
        return name

    def weight(self, name: str, shape: Sequence[int], *, low: float = -1.0) -> str:
        """Add a random tensor, scaled so that activations neither vanish nor overflow. No two tensors are equal.

        MNN would merge equal ones into one, and its convolutions would then read it as an activation.
        """
        fan_in = max(1, int(np.prod(shape[1:])))
        drawn = np.roll(self.drawn, _STEP * len(self.initializers))
        values = (low + (1.0 - low) * drawn) / np.float32(np.sqrt(fan_in / 3))
        return self.tensor(name, np.resize(values, tuple(shape)))

    def emit(self, node: Node, op_type: str, inputs: Sequence[str], **attributes: Any) -> None:
        """Add an ONNX node whose outputs are those of a node of the graph."""
        outputs = [node.name, *(f"{node.name}.{position}" for position in range(1, len(node.outputs)))]
        self.nodes.append(helper.make_node(op_type, list(inputs), outputs, name=node.name, **attributes))
        self.names.update(zip(node.outputs, outputs, strict=True))

    def activations(self, node: Node) -> list[str]:
        """Names of the inputs of a node that are not constant."""
        return [self.names[index] for index in self.graph.activations(node)]

    def operands(self, node: Node) -> list[str]:
        """Names of all inputs of a node. A constant input becomes a tensor of random values, which cost the same."""
        for position, index in enumerate(node.inputs):
            if self.graph.values[index].constant:
                self.names[index] = self.weight(f"{node.name}.operand{position}", self.graph.values[index].shape)
        return [self.names[index] for index in node.inputs]

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of a value of the graph."""
        return self.graph.values[index].shape
