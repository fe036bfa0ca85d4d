"""`Call` and `Step`: an ONNX node in its file, and the nodes of the graph that it is read as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from latency_nas.kernel import AttrValue, Shape

__all__ = ["Attrs", "Call", "Step", "axis_of"]

Attrs = dict[str, AttrValue]


@dataclass(slots=True)
class Step:
    """A node that an ONNX node is read as.

    Args:
        op: Name of the op.
        attrs: Attributes of the op.
        inputs: Positions among the inputs of the ONNX node, followed by the outputs of the steps before; None for all
            inputs at the first step, and for the output of the step before at the others.
        shape: Shape of the output, if another step follows.
    """

    op: str
    attrs: Attrs
    inputs: tuple[int, ...] | None = None
    shape: Shape = ()


@dataclass(slots=True)
class Call:
    """An ONNX node, with the known facts about its tensors.

    Args:
        op: Type of the node.
        attrs: Attributes as Python values.
        shapes: Shapes of the inputs; None for one that is left out.
        outputs: Shapes of the outputs.
        inputs: Names of the inputs.
        weights: Names of all tensors that are known before the model runs.
        constants: Values of the small ones of these, by name.
        opset: Version of the model's opset.
    """

    op: str
    attrs: Mapping[str, Any]
    shapes: tuple[Shape | None, ...]
    outputs: tuple[Shape, ...]
    inputs: Sequence[str]
    weights: Set[str]
    constants: Mapping[str, NDArray[Any]]
    opset: int

    def has(self, position: int) -> bool:
        """Whether the input at a position is given."""
        return position < len(self.shapes) and self.shapes[position] is not None

    def shape(self, position: int = 0) -> Shape:
        """The shape of a required input."""
        shape = self.shapes[position] if position < len(self.shapes) else None
        if shape is None:
            raise ValueError(f"input {position} is missing")
        return shape

    def constant(self, position: int) -> bool:
        """Whether the input at a position is known before the model runs."""
        return self.inputs[position] in self.weights

    def value(self, position: int) -> NDArray[Any] | None:
        """The value of an input, if it is a small constant."""
        return self.constants.get(self.inputs[position]) if position < len(self.inputs) else None

    def integers(self, name: str, position: int) -> list[int] | None:
        """A list of integers that is an input in newer opsets and an attribute in older ones."""
        if name in self.attrs:
            value = self.attrs[name]
            return [int(value)] if isinstance(value, int) else list(map(int, value))
        if not self.has(position):
            return None
        known = self.value(position)
        if known is None:
            raise ValueError(f"its `{name}` depends on values")
        return [int(value) for value in known.reshape(-1)]

    def number(self, name: str, position: int) -> float | None:
        """A number that is an input in newer opsets and an attribute in older ones."""
        if name in self.attrs:
            return float(self.attrs[name])
        known = self.value(position)
        return float(known.item()) if known is not None and known.size == 1 else None


def axis_of(axis: int, shape: Shape) -> int:
    """The axis counted from the front.

    Raises:
        ValueError: if a tensor of that shape has no such axis.
    """
    if not isinstance(axis, int):
        raise ValueError(f"axis {axis} is no integer")
    if not -len(shape) <= axis < max(1, len(shape)):
        raise ValueError(f"axis {axis} is not one of {len(shape)}")
    return axis % max(1, len(shape))
