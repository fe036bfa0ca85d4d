"""Copies the body of an ONNX `If`, `Loop` or `Scan` into the graph around it, under names of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx

from latency_nas.errors import GraphError
from latency_nas.graph.onnx.composites import take_parameters_of
from latency_nas.graph.onnx.model import STANDARD, OnnxModel, take_weights

__all__ = ["Body", "reads", "subgraphs"]

_MAX_COPIED = 50_000  # nodes that a model may run in branches and loops; one with subgraphs counts by its size, too
_BYTES_OF_A_NODE = 10_000
_WITH_SUBGRAPHS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_SUBGRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs that a node holds."""
    found = [(attribute.g, *attribute.graphs) for attribute in node.attribute if attribute.type in _SUBGRAPHS]
    return [graph for graphs in found for graph in graphs]


class Body:
    """A subgraph that can be copied several times. Its weights are recorded once, since all copies share them.

    Names of the body hide equal names around it. All other names are those of the graph around it.

    Args:
        model: Model that the weights are recorded in.
        graph: Subgraph.
        prefix: Start of the names of its weights.
        owner: Name of the node that holds it, the start of the names of its nodes.
    """

    def __init__(self, model: OnnxModel, graph: onnx.GraphProto, prefix: str, owner: str) -> None:
        self._model, self._prefix = model, prefix
        self.inputs = [value.name for value in graph.input]
        self.nodes = [node for node in graph.node if node.op_type != "Constant"]
        self._outputs = [value.name for value in graph.output]
        self._owner = owner
        self._shared = take_weights(model, graph, prefix)
        take_parameters_of(model, [self._renamed(node, self._shared) for node in self.nodes])

    def copy(self, given: Mapping[str, str], prefix: str) -> tuple[list[onnx.NodeProto], list[str]]:
        """The nodes of one copy, and the names of its outputs.

        Args:
            given: Names that take the place of the body's inputs.
            prefix: Start of the names of the tensors that the copy makes.
        """
        made = {name: prefix + name for node in self.nodes for name in node.output if name}
        if prefix != self._prefix:
            self._model.origins.update({new: self._prefix + name for name, new in made.items()})
        names = {**self._shared, **made, **given}
        nodes = [self._renamed(node, names) for node in self.nodes]
        inner = sum(node.ByteSize() for node in nodes if subgraphs(node))
        self._model.n_copied += 1 + len(nodes) + inner // _BYTES_OF_A_NODE
        self.check_copies(0)
        return nodes, [names.get(name, name) for name in self._outputs]

    def check_copies(self, n: float) -> None:
        """Refuse a model that would copy more nodes than can be read in seconds.

        Args:
            n: Number of further copies.

        Raises:
            GraphError: if it is refused.
        """
        if self._model.n_copied + n * (1 + len(self.nodes)) > _MAX_COPIED:
            raise GraphError(
                f"Expected branches and loops of {self._model.name} to run at most {_MAX_COPIED} ops, but "
                f"`{self._owner}` exceeds that."
            )

    def depends_on(self, output: int, inputs: Iterable[int]) -> bool:
        """Whether an output follows from any of these inputs, by their positions."""
        needed = set(self._outputs[output : output + 1])
        for node in reversed(self.nodes):
            if not needed.isdisjoint(node.output):
                needed.update(reads(node))
        return any(position < len(self.inputs) and self.inputs[position] in needed for position in inputs)

    def _renamed(self, node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
        copied = _renamed(node, names)
        copied.name = f"{self._owner}/{node.name or next(iter(node.output), node.op_type)}"
        return copied


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """A copy of a node with other names of tensors, also where its own subgraphs read them."""
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    copied.input[:] = [names.get(name, name) for name in node.input]
    copied.output[:] = [names.get(name, name) for name in node.output]
    for graph in subgraphs(copied):
        _rename_within(graph, names)
    return copied


def _rename_within(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    own = {tensor.name for tensor in (*graph.input, *graph.initializer)}
    own.update(tensor.values.name for tensor in graph.sparse_initializer)
    own.update(name for node in graph.node for name in node.output)
    left = {name: new for name, new in names.items() if name not in own}
    for node in graph.node:
        node.input[:] = [left.get(name, name) for name in node.input]
        for inner in subgraphs(node):
            _rename_within(inner, left)
    for output in graph.output:
        output.name = left.get(output.name, output.name)


def reads(node: onnx.NodeProto) -> list[str]:
    """Names of all tensors that a node reads, also those that its subgraphs read from outside."""
    own = [name for name in node.input[:] if name]
    if node.domain in STANDARD and node.op_type not in _WITH_SUBGRAPHS:
        return own
    return [*own, *(name for graph in subgraphs(node) for name in _read_within(graph))]


def _read_within(graph: onnx.GraphProto) -> Iterator[str]:
    own = {value.name for value in (*graph.input, *graph.initializer)}
    for node in graph.node:
        yield from (name for name in reads(node) if name not in own)
        own.update(node.output)
    yield from (value.name for value in graph.output if value.name not in own)
