"""What surrounds an operator of a supernet in each architecture, as functions of the choices.

An engine fuses an operator with its neighbours: with the one that makes its input where nothing else reads that, with
the one that reads its output where it is the only one, and with an equal one of the same input. Each of these may
depend on many choices, since any edge of a cell may read a node. They follow from the supernet's graph, exactly and
without extracting a single network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial, reduce

from latency_nas.graph import OpGraph
from latency_nas.graph.op_graph import CHOICE, Node
from latency_nas.search.plan.diagrams import Diagram, Diagrams

__all__ = ["contexts_of"]

_OUTPUT = -1  # the reader of the graph's outputs
_MANY = -2  # two readers or more
_NONE = -3
_REPEATS = "repeats"


def contexts_of(graph: OpGraph, choices: Mapping[str, int], diagrams: Diagrams) -> dict[str, tuple[Diagram, ...]]:
    """For each node what may differ between architectures: whether it runs, what it reads, and who reads it.

    Args:
        graph: Graph of the supernet.
        choices: Number of the choice that each place belongs to.
        diagrams: Functions of the choices, to which those of the nodes are added.

    Returns:
        Functions of the choices for each node, by its name; those that are the same in all architectures are left out.
    """
    return _Contexts(graph, choices, diagrams).all()


class _Contexts:
    def __init__(self, graph: OpGraph, choices: Mapping[str, int], diagrams: Diagrams) -> None:
        self.graph, self.choices, self.diagrams = graph, choices, diagrams
        self.nodes = [node for node in graph.nodes if node.op != CHOICE]
        self.makers = {index: node for node in self.nodes for index in node.outputs}
        self.roots = self._roots()
        self.runs = self._runs()
        self.readers = self._readers()
        self._reader_kinds: dict[int, Diagram] = {}
        self._inputs: dict[int, Diagram] = {}

    def _roots(self) -> list[Diagram]:
        """Of each value the one that it is, after all choices."""
        roots = [self.diagrams.constant(index) for index in range(len(self.graph.values))]
        for node in self.graph.nodes:
            if node.op == CHOICE:
                roots[node.outputs[0]] = self.diagrams.select(self._choice(node), [roots[i] for i in node.inputs])
        return roots

    def _choice(self, node: Node) -> int:
        return self.choices[str(node.attrs["name"])]

    def _runs(self) -> dict[str, Diagram]:
        """Whether each node runs: an output of the graph depends on it."""
        needed: dict[int, list[Diagram]] = defaultdict(list)  # conditions under which a value is needed
        for index in self.graph.outputs:
            needed[index].append(self.diagrams.constant(True))
        runs = {}
        for node in reversed(self.graph.nodes):
            condition = self._any(needed[index] for index in node.outputs)
            if node.op == CHOICE:
                index_of = self.diagrams.choice(self._choice(node))
                for position, index in enumerate(node.inputs):
                    taken = self.diagrams.apply(partial(_takes, position), condition, index_of)
                    needed[index].append(taken)
                continue
            runs[node.name] = condition
            for index in node.inputs:
                needed[index].append(condition)
        return runs

    def _any(self, conditions: Iterable[Iterable[Diagram]]) -> Diagram:
        distinct = dict.fromkeys(item for part in conditions for item in part)
        return reduce(lambda one, other: self.diagrams.apply(_or, one, other), distinct, self.diagrams.constant(False))

    def _readers(self) -> dict[int, list[tuple[int, Diagram]]]:
        """Of each value that a node makes: the numbers of the nodes that may read it, and under which conditions."""
        readers: dict[int, list[tuple[int, Diagram]]] = defaultdict(list)
        true = self.diagrams.constant(True)
        reads = [
            (number, self.runs[node.name], index) for number, node in enumerate(self.nodes) for index in node.inputs
        ]
        for number, condition, index in [*reads, *((_OUTPUT, true, index) for index in self.graph.outputs)]:
            for root in self.diagrams.values(self.roots[index]):
                if root in self.makers:
                    is_read = self.diagrams.apply(partial(_reads, root), condition, self.roots[index])
                    readers[root].append((number, is_read))
        return readers

    def all(self) -> dict[str, tuple[Diagram, ...]]:
        """The contexts of all nodes."""
        repeats = self._repeats()
        found: dict[str, tuple[Diagram, ...]] = {}
        for node in self.nodes:
            first, last = self._first(node), self._last(node)
            functions = dict.fromkeys(
                [
                    self._state(node, repeats.get(node.name)),
                    *[self._input(index) for index in self.graph.activations(first)],
                    *[self._reader_kind(index) for index in last.outputs],
                ]
            )
            found[node.name] = tuple([item for item in functions if len(self.diagrams.values(item)) > 1])
        return found

    def _state(self, node: Node, repeats: Diagram | None) -> Diagram:
        """Whether a node runs, and whether it repeats an earlier one."""
        if repeats is None:
            return self.runs[node.name]
        return self.diagrams.apply(_state_of, self.runs[node.name], repeats)

    def _first(self, node: Node) -> Node:
        """The first node of the chain that a node is in: all of it runs where the node does."""
        while True:
            inputs = self.graph.activations(node)
            before = self.makers.get(inputs[0]) if len(inputs) == 1 else None
            if before is None or self.runs[before.name] != self.runs[node.name]:
                return node
            node = before

    def _last(self, node: Node) -> Node:
        """The last node of the chain that a node is in."""
        while True:
            readers = [number for index in node.outputs for number, _ in self.readers[index]]
            after = self.nodes[readers[0]] if len(readers) == 1 and readers[0] >= 0 else None
            if after is None or self._first(after) is not self._first(node):
                return node
            node = after

    def _input(self, index: int) -> Diagram:
        """The op that makes a value, and what else reads this."""
        if index not in self._inputs:
            made_by = self.diagrams.apply(self._maker, self.roots[index])
            self._inputs[index] = self.diagrams.apply(_pair, made_by, self._of_root(index, self._reader_kind))
        return self._inputs[index]

    def _maker(self, root: int) -> str:
        return self.makers[root].op if root in self.makers else ""

    def _of_root(self, index: int, function: Callable[[int], Diagram]) -> Diagram:
        """A function of the value that a value is."""
        found = self.diagrams.constant(_NONE)
        for root in self.diagrams.values(self.roots[index]):
            if root in self.makers:
                found = self.diagrams.apply(partial(_where, root), self.roots[index], function(root), found)
        return found

    def _reader_kind(self, index: int) -> Diagram:
        """What reads a value: one op, in one node or in several equal ones, different ones or none."""
        if index not in self._reader_kinds:
            by_kind: dict[Hashable, list[Diagram]] = defaultdict(list)
            for number, condition in self.readers[index]:
                by_kind[self._equal_ops(number)].append(condition)
            found = self.diagrams.constant(_NONE)
            for number, conditions in enumerate(by_kind.values()):
                found = self.diagrams.apply(partial(_with_reader, number), found, self._any([conditions]))
            self._reader_kinds[index] = found
        return self._reader_kinds[index]

    def _equal_ops(self, number: int) -> Hashable:
        """What nodes of one input have in common that do the same to it; the number of any other node."""
        if number == _OUTPUT or len(self.nodes[number].inputs) > 1:
            return number
        return self._op(self.nodes[number])

    def _op(self, node: Node) -> tuple[Hashable, ...]:
        """What a node does, whatever it reads."""
        return node.op, tuple(sorted(node.attrs.items())), self.graph.values[node.outputs[0]].shape

    def _repeats(self) -> dict[str, Diagram]:
        """Whether an earlier node does the same to the same values."""
        earlier: dict[object, list[Node]] = defaultdict(list)
        found: dict[str, Diagram] = {}
        for node in self.nodes:
            read = self.graph.activations(node)
            constants = tuple([index for index in node.inputs if index not in read])
            keys = [
                (*self._op(node), constants, root)
                for root in (self.diagrams.values(self.roots[read[0]]) if read else ())
            ]
            peers = {peer.name: peer for key in keys for peer in earlier[key]}
            same = [self._same(peer, node) for peer in peers.values()]
            if same:
                found[node.name] = self._any([same])
            for key in keys:
                earlier[key].append(node)
        return found

    def _same(self, first: Node, node: Node) -> Diagram:
        """Whether a node runs and reads what another one reads."""
        if len(first.inputs) != len(node.inputs):
            return self.diagrams.constant(False)
        roots = [[self.roots[index] for index in item.inputs] for item in (first, node)]
        same = partial(_reads_same, len(node.inputs))
        return self.diagrams.apply(same, self.runs[first.name], *roots[0], *roots[1])


def _or(one: bool, other: bool) -> bool:
    return one or other


def _pair(one: Hashable, other: Hashable) -> Hashable:
    return one, other


def _state_of(runs: bool, repeats: bool) -> Hashable:
    return runs and (_REPEATS if repeats else True)


def _takes(position: int, condition: bool, index: int) -> bool:
    return condition and index == position


def _reads(root: int, condition: bool, value: int) -> bool:
    return condition and value == root


def _reads_same(n: int, runs: bool, *values: int) -> bool:
    return runs and values[:n] == values[n:]


def _with_reader(kind: int, found: int, reads: bool) -> int:
    return found if not reads else kind if found == _NONE else _MANY


def _where(root: int, value: int, one: Hashable, other: Hashable) -> Hashable:
    return one if value == root else other
