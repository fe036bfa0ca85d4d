"""What surrounds an operator of a supernet in each architecture, as functions of the choices.

An engine fuses an operator with its neighbours: with the one that makes its input where nothing else reads that, with
the one that reads its output where it is the only one, and with an equal one of the same input. Each of these may
depend on many choices, since any edge of a cell may read a node. They follow from the supernet's graph, exactly and
without extracting a single network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial, reduce

from latency_nas.graph import OpGraph
from latency_nas.graph.normal_form.no_ops import MOVES, NEUTRAL, neutral_input
from latency_nas.graph.op_graph import CHOICE, Node, Value
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.plan.diagrams import Diagram, Diagrams
from latency_nas.search.plan.space import Context

__all__ = ["contexts_of", "merges_equals"]

_FOLDED = frozenset({"batch_norm", "add", "sub", "mul", "div"})  # by constants, into a convolution before them
_OUTPUT = -1  # the reader of the graph's outputs
_MANY = -2  # two readers or more
_NONE = -3


def merges_equals(fuse: Callable[[OpGraph], Sequence[KernelCall]]) -> bool:
    """Whether an engine runs operators once that do the same to the same value: its rules are asked.

    Args:
        fuse: Function that gives the kernels of a graph.
    """
    image = (1, 8, 8, 8)
    nodes = [
        Node(name="one", op="relu", inputs=(0,), outputs=(1,), attrs={}),
        Node(name="other", op="relu", inputs=(0,), outputs=(2,), attrs={}),
        Node(name="sum", op="add", inputs=(1, 2), outputs=(3,), attrs={}),
    ]
    calls = fuse(OpGraph(values=(Value(shape=image),) * 4, nodes=tuple(nodes), inputs=(0,), outputs=(3,)))
    return sum(call.kernel.op == "relu" for call in calls) < 2


def contexts_of(graph: OpGraph, choices: Mapping[str, int], diagrams: Diagrams, *, merged: bool) -> dict[str, Context]:
    """For each node what may differ between architectures: whether it runs, what it reads, and who reads it.

    Args:
        graph: Graph of the supernet.
        choices: Number of the choice that each place belongs to.
        diagrams: Functions of the choices, to which those of the nodes are added.
        merged: Whether the engine runs equal operators once (`merges_equals`); if so, they are one reader.

    Returns:
        The context of each node, by its name; functions that are the same in all architectures are left out.
    """
    return _Contexts(graph, choices, diagrams, merged).all()


class _Contexts:
    def __init__(self, graph: OpGraph, choices: Mapping[str, int], diagrams: Diagrams, merged: bool) -> None:
        self.graph, self.choices, self.diagrams, self.merged = graph, choices, diagrams, merged
        self.nothing = diagrams.constant(_NONE)
        self.nodes = [node for node in graph.nodes if node.op != CHOICE]
        self.makers = {index: node for node in self.nodes for index in node.outputs}
        self.roots = self._roots()
        # results of a function are kept as long as this is
        self._maker_of, self._details_of = self._maker, self._details
        self._with_reader: dict[Hashable, partial[Hashable]] = {}
        self._alone: dict[Hashable, partial[int]] = {}
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

    def all(self) -> dict[str, Context]:
        """The contexts of all nodes."""
        earlier, later = self._equals()
        none = self.diagrams.constant(False)
        found: dict[str, Context] = {}
        details: dict[str, list[Diagram]] = {}  # of each chain, by its first node
        for node in self.nodes:
            runs, first, last = self.runs[node.name], self._first(node), self._last(node)
            read = self.graph.activations(first)
            around = [
                earlier.get(node.name, none),
                *([earlier.get(first.name, none), later.get(first.name, none)] if first is not node else ()),
                *[self._input(index, first) for index in read],
                *[self._reader_kind(index) for index in last.outputs],
            ]
            if first.name not in details:
                made = [self._made(index, first) for index in read if len(read) < len(first.inputs)]
                details[first.name] = [*made, *self._moved(first)]
            found[node.name] = self._differing(runs, around), self._differing(runs, details[first.name])
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
        alone = self.diagrams.apply(self._alone.setdefault(op := self._op(node), partial(_alone, op)), reader)
        return self.diagrams.apply(self._maker_of, roots, alone)

    def _made(self, index: int, node: Node) -> Diagram:
        """The sizes of what has weights and makes a value that a node with weights reads: two such may be one."""
        return self.diagrams.apply(self._details_of, self.roots[index], self._input(index, node))

    def _details(self, root: int, made: tuple[str, int]) -> Hashable:
        if root not in self.makers or not made[1]:
            return made
        first, node, chain = self._first(self.makers[root]), self.makers[root], []
        while node is not first and node.op in _FOLDED:
            chain.append(self._op(node))
            node = self.makers[self.graph.activations(node)[0]]
        return made, *chain, self._op(node), tuple([self.graph.values[index].shape for index in node.inputs])

    def _maker(self, root: int, alone: int) -> tuple[str, int]:
        """The op that makes a value; with several readers, no engine joins it with one, and only moves are told."""
        op = self.makers[root].op if root in self.makers else ""
        return op if alone or op in MOVES else "", alone

    def _reader_kind(self, index: int) -> Diagram:
        """What reads a value: one op, in one node or in several equal ones, different ones or none."""
        if index not in self._reader_kinds:
            by_number: dict[int, list[Diagram]] = defaultdict(list)
            for number, condition in self.readers[index]:
                by_number[number].append(condition)
            found = self.nothing
            for number, conditions in by_number.items():
                kind = self._kind(number)
                with_reader = self._with_reader.setdefault(kind, partial(_with_reader, kind, self.merged))
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


def _with_reader(kind: tuple[int, Hashable], merged: bool, found: Hashable, reads: bool) -> Hashable:
    """What reads a value, another reader included: an op and whether in several nodes, or several ops."""
    number, op = kind
    if not reads:
        return found
    if found == _NONE:
        return op, False
    return (op, not merged) if number == _MANY and found in ((op, False), (op, True)) else _MANY


def _alone(op: Hashable, found: Hashable) -> int:
    """Whether an op alone reads a value: 1, 2 in several nodes, or 0."""
    return 1 if found == (op, False) else 2 if found == (op, True) else 0
