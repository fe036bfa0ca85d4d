"""What surrounds an operator of a supernet in each architecture, as functions of the choices.

An engine fuses an operator with its neighbours: with the one that makes its input where nothing else reads that, with
the one that reads its output where it is the only one, and with an equal one of the same input. Each of these may
depend on many choices, since any edge of a cell may read a node. They follow from the supernet's graph, exactly and
without extracting a single network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial, reduce

from latency_nas.graph import OpGraph
from latency_nas.graph.normal_form.no_ops import MOVES, NEUTRAL, neutral_input
from latency_nas.graph.op_graph import CHOICE, Node
from latency_nas.search.plan.diagrams import Diagram, Diagrams
from latency_nas.search.plan.space import COPY

__all__ = ["contexts_of"]

_OUTPUT = -1  # the reader of the graph's outputs
_MANY = -2  # two readers or more
_NONE = -3


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
        self.nothing = diagrams.constant(_NONE)
        self.nodes = [node for node in graph.nodes if node.op != CHOICE]
        self.makers = {index: node for node in self.nodes for index in node.outputs}
        self.roots = self._roots()
        # results of a function are kept as long as this is
        self._maker_of = self._maker
        self._with_reader: dict[Hashable, partial[Hashable]] = {}
        self.runs, self.readers = self._read()
        self._reader_kinds: dict[int, Diagram] = {}
        self._readers_of: dict[Diagram, Diagram] = {}
        self._numbered: dict[Diagram, Diagram] = {}

    def _roots(self) -> list[Diagram]:
        """Which value each value is after all choices, and without the operators that change nothing."""
        roots = [self.diagrams.constant(index) for index in range(len(self.graph.values))]
        for node in self.graph.nodes:
            read = [roots[index] for index in node.inputs]
            if node.op == CHOICE:
                roots[node.outputs[0]] = self.diagrams.select(self.choices[str(node.attrs["name"])], read)
            elif node.op in NEUTRAL and len(read) == 2:
                roots[node.outputs[0]] = self.diagrams.apply(partial(self._root, node), *read)
        return roots

    def _root(self, node: Node, *roots: int) -> int:
        """Which value a node's output is, of those that it reads."""
        place = neutral_input(node, roots, self.graph.values)
        return node.outputs[0] if place is None else roots[place]

    def _read(self) -> tuple[dict[str, Diagram], dict[int, list[tuple[int, Diagram]]]]:
        """Whether each node runs: an output of the graph depends on it. And what may read each value, and when."""
        readers: dict[int, list[tuple[int, Diagram]]] = defaultdict(list)
        runs: dict[str, Diagram] = {}

        def read(number: int, condition: Diagram, index: int) -> None:
            for root in self.diagrams.values(self.roots[index]):
                if root in self.makers:
                    is_root = self.diagrams.same(self.roots[index], self.diagrams.constant(root))
                    readers[root].append((number, self.diagrams.both(condition, is_root)))

        for index in self.graph.outputs:
            read(_OUTPUT, self.diagrams.constant(True), index)
        for number, node in reversed([*enumerate(self.nodes)]):
            runs[node.name] = self._any(condition for index in node.outputs for _, condition in readers[index])
            for index in node.inputs:
                read(number, runs[node.name], index)
        return runs, readers

    def _any(self, conditions: Iterable[Diagram]) -> Diagram:
        start = self.diagrams.constant(False)
        return reduce(self.diagrams.either, dict.fromkeys(conditions), start)

    def all(self) -> dict[str, tuple[Diagram, ...]]:
        """The contexts of all nodes."""
        earlier, later = self._equals()
        none = self.diagrams.constant(False)
        found: dict[str, tuple[Diagram, ...]] = {}
        for node in self.nodes:
            runs, first, last = self.runs[node.name], self._first(node), self._last(node)
            read = self.graph.activations(first)
            around = [
                earlier.get(node.name, none),
                *([earlier.get(first.name, none), later.get(first.name, none)] if first is not node else ()),
                *[self._input(index, first) for index in read],
                *[self._reader_kind(index) for index in last.outputs],
            ]
            found[node.name] = self._differing(runs, around)
            found[COPY + node.name] = self._differing(runs, self._moved(first))
        return found

    def _differing(self, runs: Diagram, functions: Iterable[Diagram]) -> tuple[Diagram, ...]:
        """The cases in which a node runs, of functions that are not always the same."""
        where = dict.fromkeys([runs, *[self.diagrams.where(runs, function) for function in functions]])
        cases = dict.fromkeys(map(self._cases, where))
        return tuple([item for item in cases if len(self.diagrams.values(item)) > 1])

    def _moved(self, node: Node) -> list[Diagram]:
        """What makes the values from which moves make those that a node reads: engines copy from there at once."""
        found: dict[Diagram, None] = {}
        for index in self.graph.activations(node):
            for root in self.diagrams.values(self.roots[index]):
                move = self.makers.get(root)
                if move is not None and move.op in MOVES:
                    read = self.diagrams.same(self.roots[index], self.diagrams.constant(root))
                    inputs = [self._input(source, move) for source in self.graph.activations(move)]
                    found |= dict.fromkeys(self.diagrams.where(read, item) for item in (*inputs, *self._moved(move)))
        return list(found)

    def _cases(self, function: Diagram) -> Diagram:
        """A function's cases, which is all that matters, as numbers: alike for operators that are in other places."""
        if function not in self._numbered:
            numbers = {value: number for number, value in enumerate(self.diagrams.values(function))}
            self._numbered[function] = self.diagrams.apply(numbers.get, function)
        return self._numbered[function]

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

    def _input(self, index: int, node: Node) -> Diagram:
        """The op that makes a value that a node reads, and whether nothing else reads it."""
        roots = self.roots[index]
        if roots not in self._readers_of:
            made = [root for root in self.diagrams.values(roots) if root in self.makers]
            kinds = {root: self._reader_kind(root) for root in made}
            self._readers_of[roots] = self.diagrams.switch(roots, kinds, self.nothing)
        reader = self._readers_of[roots]
        alone = self.diagrams.same(reader, self.diagrams.constant(self._op(node)))
        return self.diagrams.apply(self._maker_of, roots, alone)

    def _maker(self, root: int, alone: bool) -> tuple[str, bool]:
        """The op that makes a value; with several readers, no engine joins it with one, and only moves are told."""
        op = self.makers[root].op if root in self.makers else ""
        return op if alone or op in MOVES else "", alone

    def _reader_kind(self, index: int) -> Diagram:
        """What reads a value: one op, in one node or in several equal ones, different ones or none."""
        if index not in self._reader_kinds:
            by_kind: dict[tuple[int, Hashable], list[Diagram]] = defaultdict(list)
            for number, condition in self.readers[index]:
                by_kind[self._kind(number)].append(condition)
            found = self.nothing
            for kind, conditions in by_kind.items():
                with_reader = self._with_reader.setdefault(kind[1], partial(_with_reader, kind[1]))
                found = self.diagrams.apply(with_reader, found, self._any(conditions))
            self._reader_kinds[index] = found
        return self._reader_kinds[index]

    def _kind(self, number: int) -> tuple[int, Hashable]:
        """What nodes of one input have in common that do the same to it; other nodes are each of a kind."""
        if number == _OUTPUT:
            return number, number
        node = self.nodes[number]
        return number if len(node.inputs) > 1 else _MANY, self._op(node)

    def _op(self, node: Node) -> tuple[Hashable, ...]:
        """What a node does, whatever it reads."""
        return node.op, tuple(sorted(node.attrs.items())), self.graph.values[node.outputs[0]].shape

    def _equals(self) -> tuple[dict[str, Diagram], dict[str, Diagram]]:
        """Whether an earlier node does the same to the same values, and whether a later one does."""
        before: dict[object, list[Node]] = defaultdict(list)
        earlier: dict[str, list[Diagram]] = defaultdict(list)
        later: dict[str, list[Diagram]] = defaultdict(list)
        for node in self.nodes:
            read = self.graph.activations(node)
            constants = tuple([index for index in node.inputs if index not in read])
            keys = [
                (*self._op(node), constants, root)
                for root in (self.diagrams.values(self.roots[read[0]]) if read else ())
            ]
            peers = {peer.name: peer for key in keys for peer in before[key] if len(peer.inputs) == len(node.inputs)}
            for peer in peers.values():
                equal = [
                    self.diagrams.same(self.roots[one], self.roots[other])
                    for one, other in zip(peer.inputs, node.inputs, strict=True)
                ]
                earlier[node.name].append(self._all([self.runs[peer.name], *equal]))
                later[peer.name].append(self._all([self.runs[node.name], *equal]))
            for key in keys:
                before[key].append(node)
        return self._any_of(earlier), self._any_of(later)

    def _any_of(self, conditions: Mapping[str, Sequence[Diagram]]) -> dict[str, Diagram]:
        return {name: self._any(found) for name, found in conditions.items()}

    def _all(self, conditions: Iterable[Diagram]) -> Diagram:
        return reduce(self.diagrams.both, dict.fromkeys(conditions))


def _with_reader(kind: Hashable, found: Hashable, reads: bool) -> Hashable:
    return found if not reads else kind if found == _NONE else _MANY
