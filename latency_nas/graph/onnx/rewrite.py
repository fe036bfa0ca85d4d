"""`Rewrite`: replaces an ONNX node by nodes of other ops that compute the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from latency_nas.graph.onnx.model import OnnxModel, python_value, take_value
from latency_nas.kernel import Shape

__all__ = ["NotRewrittenError", "Rewrite"]

_NEW_AXES = {"Squeeze": 13, "Unsqueeze": 13, "ReduceSum": 13, "ReduceMean": 18}  # op -> opset that made axes an input


class NotRewrittenError(Exception):
    """A node stays as it is: it has a form that is not known, or a shape is not known yet."""


class Rewrite:
    """The nodes that replace one node.

    Args:
        model: Model that records constants.
        node: Node to replace.
    """

    def __init__(self, model: OnnxModel, node: onnx.NodeProto) -> None:
        self._model, self._node = model, node
        self.attrs: dict[str, Any] = {item.name: python_value(item) for item in node.attribute}
        self.nodes: list[onnx.NodeProto] = []
        self._prefix = f"{next(filter(None, node.output), node.name)}/"
        self._owner = node.name or next(filter(None, node.output), node.op_type)
        self._given: set[int] = set()
        self._constants: dict[str, NDArray[Any]] = {}

    @property
    def op(self) -> str:
        """Type of the node."""
        return self._node.op_type

    def name(self, position: int) -> str:
        """The name of an input; empty if it is left out."""
        return self._node.input[position] if position < len(self._node.input) else ""

    def names(self) -> list[str]:
        """The names of all inputs."""
        return list(self._node.input)

    def shape(self, position: int) -> Shape:
        """The shape of an input.

        Raises:
            NotRewrittenError: if it is left out, or not known yet.
        """
        return self.shape_of(self.name(position))

    def shape_of(self, name: str) -> Shape:
        """The shape of a tensor.

        Raises:
            NotRewrittenError: if it is not known yet.
        """
        if name not in self._model.tensors:
            raise NotRewrittenError
        return self._model.tensors[name][0]

    def type_of(self, position: int) -> int:
        """ONNX's number of the element type of an input.

        Raises:
            NotRewrittenError: if it is not known yet.
        """
        if self.name(position) not in self._model.tensors:
            raise NotRewrittenError
        return self._model.tensors[self.name(position)][1]

    def needs(self, *, without: Sequence[int] = (), **attrs: Any) -> None:
        """Keep the node if it has one of these inputs, or another value of one of these attributes.

        Raises:
            NotRewrittenError: if it has.
        """
        if any(map(self.name, without)) or any(self.attrs.get(name, value) != value for name, value in attrs.items()):
            raise NotRewrittenError

    def wants(self, position: int) -> bool:
        """Whether anything can read an output."""
        return position < len(self._node.output) and bool(self._node.output[position])

    def add(self, op: str, inputs: Sequence[str], *, n_outputs: int = 1, **attrs: Any) -> list[str]:
        """Append a node; returns the names of its outputs."""
        number = len(self.nodes)
        outputs = [f"{self._prefix}{op}.{number}.{position}" for position in range(n_outputs)]
        axes = attrs.get("axes")
        if axes is not None and self._model.opset >= _NEW_AXES.get(op, 99):
            inputs = [*inputs, self.integers(attrs.pop("axes"))]
        made = helper.make_node(op, list(inputs), outputs, name=f"{self._owner}/{op}", **attrs)
        self.nodes.append(made)
        return outputs

    def one(self, op: str, *inputs: str, **attrs: Any) -> str:
        """Append a node with one output; returns its name."""
        return self.add(op, inputs, **attrs)[0]

    def give(self, source: str, position: int = 0) -> None:
        """Let a tensor be an output of the node."""
        self._given.add(position)
        if self.wants(position):
            self.nodes.append(helper.make_node("Identity", [source], [self._node.output[position]]))

    def take(self) -> None:
        """Record the new constants in the model.

        Raises:
            NotRewrittenError: if an output of the node was not given.
        """
        if any(self.wants(position) for position in range(len(self._node.output)) if position not in self._given):
            raise NotRewrittenError
        for name, value in self._constants.items():
            take_value(self._model, name, value)

    def constant(self, value: Any) -> str:
        """The name of a new constant."""
        name = f"{self._prefix}:{len(self._constants)}"
        self._constants[name] = np.asarray(value)
        return name

    def number(self, value: float) -> str:
        """The name of a new constant of one number."""
        return self.constant(np.float32(value))

    def integers(self, values: Sequence[int]) -> str:
        """The name of a new constant of integers."""
        return self.constant(np.array(values, np.int64))

    def reshape(self, source: str, sizes: Sequence[int]) -> str:
        """Append a reshape; 0 keeps a size, -1 is what is left."""
        return self.one("Reshape", source, self.integers(sizes))

    def activate(self, source: str) -> str:
        """Append the activation that the node names, if any, with its parameters."""
        kind = self.attrs.get("activation", "")
        numbers = list(self.attrs.get("activation_params", ()))
        if "activation_alpha" in self.attrs:
            numbers = [self.attrs[name] for name in ("activation_alpha", "activation_beta") if name in self.attrs]
        if not kind:
            return source
        if kind == "Clip":
            return self.one("Clip", source, *map(self.number, numbers))
        if kind not in _ACTIVATIONS:
            raise NotRewrittenError
        return self.one(kind, source, **dict(zip(_ACTIVATIONS[kind], numbers, strict=False)))


# activation that a fused op can have -> attributes of the op of its own
_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "Relu": (), "Sigmoid": (), "Tanh": (), "LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"),
    "HardSwish": (), "Softplus": (), "Elu": ("alpha",), "Gelu": (),
}  # fmt: skip
