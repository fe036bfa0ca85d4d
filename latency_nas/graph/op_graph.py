"""`OpGraph`: the operators of a model before fusion, independent of its framework."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain

from latency_nas.errors import GraphError
from latency_nas.graph.node import BRANCH, CHOICE, Node, Value
from latency_nas.graph.normal_form.no_ops import without_no_ops
from latency_nas.kernel import WITH_SIDE_OUTPUTS, Kernel, shared_kernel

__all__ = ["BRANCH", "CHOICE", "Node", "OpGraph", "Value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpGraph:
    """The operators of a model in the order in which they run, and the tensors between them.

    `output_names` are those that the source gives its outputs, since engines may order branches by them.

    A supernet's graph has a node of op ``"choice"`` wherever one of several candidates supplies a value. `extract`
    picks a candidate for each choice and gives the graph of that architecture.

    Example:
        >>> from torch import nn
        >>> from latency_nas import read_model
        >>> graph = read_model(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), input_shape=(1, 3, 8, 8))
        >>> [node.name for node in graph.nodes], graph.choices
        (['0/conv2d', '1/relu'], {})
    """

    values: tuple[Value, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    output_names: tuple[str, ...] = ()

    @property
    def choices(self) -> dict[str, int]:
        """Number of candidates of each choice, by name, in the order of the choices."""
        return {str(node.attrs["name"]): len(node.inputs) for node in self.nodes if node.op == CHOICE}

    def activations(self, node: Node) -> tuple[int, ...]:
        """The inputs of `node` that are not constants."""
        values = self.values
        return tuple([index for index in node.inputs if not values[index].constant])

    def n_consumers(self) -> Counter[int]:
        """Number of readers of each value. Each place among the graph's outputs counts as one."""
        return Counter(chain(self.outputs, *[node.inputs for node in self.nodes]))

    def kernel(self, node: Node) -> Kernel:
        """The kernel of a single node, without fusion."""
        values = self.values
        inputs = tuple([values[index].shape for index in node.inputs if not values[index].constant])
        made = node.outputs[:1] if node.op in WITH_SIDE_OUTPUTS else node.outputs
        outputs = tuple([values[index].shape for index in made])
        return shared_kernel(node.op, inputs, outputs, tuple(node.attrs.items()), values[node.outputs[0]].dtype)

    def without_dead_nodes(self) -> OpGraph:
        """The graph without the nodes that no output depends on: no exporter writes them, and no engine runs them."""
        found = self._reading({})
        return self if len(found.nodes) == len(self.nodes) else found

    def _reading(self, others: Mapping[int, int]) -> OpGraph:
        """The graph that reads other values in place of some, without the nodes that no output then depends on."""
        outputs = tuple([others.get(index, index) for index in self.outputs])
        needed, kept = set(outputs), []
        for node in reversed(self.nodes):
            if not needed.isdisjoint(node.outputs):
                kept.append(node.reading(others))
                needed.update(kept[-1].inputs)
        return replace(self, nodes=tuple(reversed(kept)), outputs=outputs)

    def without_no_ops(self) -> OpGraph:
        """The graph without the nodes that change nothing (`latency_nas.graph.normal_form.no_ops`)."""
        values, nodes, outputs = without_no_ops(self.values, self.nodes, self.outputs)
        if len(nodes) == len(self.nodes):
            return self if values == self.values else replace(self, values=values)
        return replace(self, values=values, nodes=nodes, outputs=outputs).without_dead_nodes()

    def extract(self, architecture: Mapping[str, int]) -> OpGraph:
        """The graph of one architecture: each choice is replaced by the candidate of that index, others are removed.

        What adds a candidate that gives zeros to another value changes nothing, and is removed too.

        Raises:
            GraphError: if a choice is missing, unknown, or its index is out of range.
        """
        choices = self.choices
        if architecture.keys() != choices.keys():
            different = sorted(architecture.keys() ^ choices.keys())
            raise GraphError(
                f"Expected one candidate for each of the {len(choices)} choices; {', '.join(different)} differ."
            )
        for name, index in architecture.items():
            if not 0 <= index < choices[name]:
                raise GraphError(f"Expected a candidate of `{name}` from 0 to {choices[name] - 1}, but got {index}.")
        chosen: dict[int, int] = {}
        for node in self.nodes:
            if node.op == CHOICE:
                picked = node.inputs[architecture[str(node.attrs["name"])]]
                chosen[node.outputs[0]] = chosen.get(picked, picked)
        graph = self._reading(chosen)
        return graph.without_no_ops() if any(self.values[index].literal for index in chosen.values()) else graph
