"""`Patterns`: a graph in which groups of nodes can be found and replaced."""

from __future__ import annotations

from dataclasses import replace

from latency_nas.graph.op_graph import Node, OpGraph

__all__ = ["Patterns"]


class Patterns:
    """A graph whose nodes can be found by the values that they make and read."""

    def __init__(self, graph: OpGraph) -> None:
        self._source = graph
        self.values, self.nodes, self.outputs = list(graph.values), list(graph.nodes), list(graph.outputs)
        self.maker = {index: position for position, node in enumerate(self.nodes) for index in node.outputs}
        self.readers: dict[int, list[int]] = {}
        for position, node in enumerate(self.nodes):
            for index in node.inputs:
                self.readers.setdefault(index, []).append(position)
        self.gone: set[int] = set()
        self.alias: dict[int, int] = {}

    def made_by(self, index: int, op: str) -> Node | None:
        """The node that makes a value, if it has that op and the value has one reader."""
        position = self.maker.get(index)
        if position is None or position in self.gone or self.nodes[position].op != op or self.n_readers(index) != 1:
            return None
        return self.nodes[position]

    def reader(self, index: int, op: str) -> Node | None:
        """The only node that reads a value, if it has that op."""
        readers = self.readers.get(index, [])
        if self.n_readers(index) != 1 or not readers or self.nodes[readers[0]].op != op:
            return None
        return self.nodes[readers[0]]

    def n_readers(self, index: int) -> int:
        """Number of readers of a value. Each place among the graph's outputs counts as one."""
        return len(self.readers.get(index, ())) + self.outputs.count(index)

    def remove(self, *nodes: Node) -> None:
        """Remove nodes from the graph."""
        self.gone.update(self.maker[node.outputs[0]] for node in nodes)

    def activations(self, node: Node) -> list[int]:
        """The inputs of `node` that are not constants."""
        return [index for index in node.inputs if not self.values[index].constant]

    def graph(self) -> OpGraph:
        """The graph without the removed nodes. Aliases of values are resolved."""

        def last(index: int) -> int:
            while index in self.alias:
                index = self.alias[index]
            return index

        def renamed(node: Node) -> Node:
            spelled = tuple(map(renamed, node.spelled))
            return replace(node, inputs=tuple(map(last, node.inputs)), spelled=spelled)

        nodes = [node for position, node in enumerate(self.nodes) if position not in self.gone]
        if self.alias:
            nodes = [renamed(node) for node in nodes]
        return replace(
            self._source, values=tuple(self.values), nodes=tuple(nodes), outputs=tuple(map(last, self.outputs))
        )
