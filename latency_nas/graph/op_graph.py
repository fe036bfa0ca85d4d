"""`OpGraph`: the operators of a model before fusion, whichever framework it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain

from latency_nas.errors import GraphError
from latency_nas.graph.parameters import ParameterPart
from latency_nas.kernel import AttrValue, Kernel, Shape, shared_kernel

__all__ = ["CHOICE", "Node", "OpGraph", "Value"]

CHOICE = "choice"  # the op of a node that stands for "one of my inputs": where a supernet chooses


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A tensor that flows through the graph.

    Args:
        shape: Sizes.
        dtype: Type, in the spelling of `Kernel`.
        constant: Whether it is known before the model runs (a weight, or something computed from weights alone).
        parameter: Name of the parameter or buffer that it is, or ``""``.
        parts: For a constant, the parts of parameters that it is or was computed from, empty for buffers and numbers;
            None where the graph does not know its parameters.
    """

    shape: Shape
    dtype: str = "fp32"
    constant: bool = False
    parameter: str = ""
    parts: tuple[ParameterPart, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator.

    Args:
        name: unique in its graph: the module that called it, a slash, and the op.
        op: the op's name in the vocabulary of `latency_nas.kernel.OPS`; an op that the reader does not know stays as
            itself.
        inputs: indices into `OpGraph.values`, weights included.
        outputs: indices into `OpGraph.values`.
        attrs: the op's attributes, as in `Kernel`.
        modules: the names of the modules that were running, outermost first.
    """

    name: str
    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    attrs: Mapping[str, AttrValue]
    modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpGraph:
    """Operators in the order in which they run, and the values between them.

    A supernet's graph holds a node of op ``"choice"`` wherever one of several candidates supplies a value;
    `extract` picks one of each and gives the graph of that architecture.
    """

    values: tuple[Value, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def choices(self) -> dict[str, int]:
        """The number of candidates of each choice, by name, in the order in which the choices are met."""
        return {str(node.attrs["name"]): len(node.inputs) for node in self.nodes if node.op == CHOICE}

    def activations(self, node: Node) -> tuple[int, ...]:
        """The inputs of `node` that are not constants."""
        values = self.values
        return tuple([index for index in node.inputs if not values[index].constant])

    def n_consumers(self) -> Counter[int]:
        """How many times each value is read; being an output of the graph counts as one."""
        return Counter(chain(self.outputs, *[node.inputs for node in self.nodes]))

    def kernel(self, node: Node) -> Kernel:
        """The kernel that `node` alone would be."""
        values = self.values
        inputs = tuple([values[index].shape for index in node.inputs if not values[index].constant])
        outputs = tuple([values[index].shape for index in node.outputs])
        return shared_kernel(node.op, inputs, outputs, tuple(node.attrs.items()), values[node.outputs[0]].dtype)

    def extract(self, architecture: Mapping[str, int]) -> OpGraph:
        """The graph of one architecture: each choice replaced by the candidate of that index, all else left away.

        Raises:
            GraphError: if a choice is missing, unknown, or its index is out of range.
        """
        choices = self.choices
        if architecture.keys() != choices.keys():
            odd = sorted(architecture.keys() ^ choices.keys())
            raise GraphError(f"Expected one candidate for each of the {len(choices)} choices; {', '.join(odd)} differ.")
        for name, index in architecture.items():
            if not 0 <= index < choices[name]:
                raise GraphError(f"Expected a candidate of `{name}` from 0 to {choices[name] - 1}, but got {index}.")
        chosen: dict[int, int] = {}
        for node in self.nodes:
            if node.op == CHOICE:
                picked = node.inputs[architecture[str(node.attrs["name"])]]
                chosen[node.outputs[0]] = chosen.get(picked, picked)
        outputs = tuple(chosen.get(index, index) for index in self.outputs)
        needed, kept = set(outputs), []
        for node in reversed(self.nodes):
            if node.op != CHOICE and not needed.isdisjoint(node.outputs):
                inputs = tuple(chosen.get(index, index) for index in node.inputs)
                kept.append(node if inputs == node.inputs else replace(node, inputs=inputs))
                needed.update(inputs)
        return replace(self, nodes=tuple(reversed(kept)), outputs=outputs)
