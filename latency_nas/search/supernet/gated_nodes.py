"""`GatedGraph`: prices a supernet whose choices among tensors decide together what is deployed at all.

A tensor that only untaken summands read is not computed in the network that is deployed. Whether this is so depends on
a few choices in most supernets: on one for a block that the depth of a stage leaves out. In cells it depends on the
edges of all nodes, and of all cells that follow: a plan with a cost for each such case would have millions.

Where there are many cases, the expectation multiplies gates instead, as in the literature: a candidate of an edge costs
its own gate, times the gate of the edge, times its cost. What computes a summand and nothing else runs where that
summand is taken; everything else always runs. The sum itself costs nothing, since one summand is left of it. This is
the network that takes one summand of each sum, except that it also has what nothing reads in that architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod

from latency_nas.graph import Node, OpGraph
from latency_nas.graph.op_graph import CHOICE
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.plan.diagrams import Diagrams
from latency_nas.search.plan.space import Context
from latency_nas.search.supernet.contexts import contexts_of

__all__ = ["GatedGraph", "entangled_choices"]

_MAX_CASES = 16  # of the choices on which it depends whether a tensor is read

_Condition = Mapping[str, frozenset[int]]  # choice among tensors -> the indices of which one has to be taken


def entangled_choices(graph: OpGraph) -> frozenset[str]:
    """The choices among tensors that decide together, in many cases, whether a tensor is read."""
    sizes = graph.choices
    readers: dict[int, list[frozenset[str]]] = {index: [frozenset()] for index in graph.outputs}
    found: set[str] = set()
    for node in reversed(graph.nodes):
        outputs = [readers.get(index, []) for index in node.outputs]
        decide = [frozenset[str]().union(*output) if all(output) else frozenset[str]() for output in outputs]
        choices = frozenset[str]().union(*decide) if all(decide) else frozenset[str]()
        if is_among_tensors(node):
            choices |= {str(node.attrs["name"])}
        if prod(sizes[name] for name in choices) > _MAX_CASES:
            found |= choices
            choices = frozenset()
        for index in node.inputs:
            if not graph.values[index].constant:
                readers.setdefault(index, []).append(choices)
    return frozenset(found)


def is_among_tensors(node: Node) -> bool:
    """Whether a node is a choice among tensors."""
    return node.op == CHOICE and "parameters" in node.attrs


class GatedGraph:
    """A graph in which some choices among tensors are sums whose summands run under conditions.

    Args:
        graph: Graph of a supernet.
        names: Names of these choices.
    """

    def __init__(self, graph: OpGraph, names: frozenset[str]) -> None:
        self.names = names
        self._conditions = _conditions(graph, names)
        self._sums: set[str] = set()
        self.graph = self._as_sums(graph) if names else graph

    def _as_sums(self, graph: OpGraph) -> OpGraph:
        nodes, values = [], list(graph.values)
        for node in graph.nodes:
            if node.op != CHOICE or node.attrs["name"] not in self.names:
                nodes.append(node)
                continue
            total = node.inputs[0]
            for number, index in enumerate(node.inputs[1:], 1):
                is_last = number == len(node.inputs) - 1
                if not is_last:
                    values.append(values[node.outputs[0]])
                output = node.outputs[0] if is_last else len(values) - 1
                name = f"{node.name}/{number}"
                self._sums.add(name)
                nodes.append(replace(node, name=name, op="add", attrs={}, inputs=(total, index), outputs=(output,)))
                total = output
        return replace(graph, nodes=tuple(nodes), values=tuple(values))

    def calls(
        self, architecture: Mapping[str, int], fuse: Callable[[OpGraph], Sequence[KernelCall]]
    ) -> Sequence[KernelCall]:
        """What the engine runs for an architecture.

        Args:
            architecture: Index of the candidate of each choice of the graph.
            fuse: Function that gives the kernels of a graph.
        """
        calls = fuse(self.graph.extract({name: architecture[name] for name in self.graph.choices}))
        return [call for call in calls if self._runs(call, architecture)] if self.names else calls

    def contexts(self, choices: Mapping[str, int], diagrams: Diagrams, *, merged: bool) -> dict[str, Context]:
        """What surrounds each operator (see `latency_nas.search.supernet.contexts`), where the gates let it run.

        Args:
            choices: Number of the choice that each place belongs to.
            diagrams: Functions of the choices.
            merged: Whether the engine runs equal operators once.
        """
        found = contexts_of(self.graph, choices, diagrams, merged=merged)
        for node, condition in self._conditions.items() if self.names else ():
            for name, taken in condition.items():
                is_taken = diagrams.apply(taken.__contains__, diagrams.choice(choices[name]))
                where, details = (
                    tuple([diagrams.where(is_taken, function) for function in part])
                    for part in found.get(node, ((), ()))
                )
                found[node] = (*where, is_taken), details
        return found

    def _runs(self, call: KernelCall, architecture: Mapping[str, int]) -> bool:
        nodes = call.nodes or (call.reader,)
        return any(
            node not in self._sums
            and all(architecture[name] in taken for name, taken in self._conditions.get(node, {}).items())
            for node in nodes
        )


def _conditions(graph: OpGraph, names: frozenset[str]) -> dict[str, _Condition]:
    """Name of a node -> what has to be taken for anything to read its outputs, as far as one reader does not decide."""
    readers: dict[int, list[_Condition]] = {index: [{}] for index in graph.outputs}
    conditions: dict[str, _Condition] = {}
    for node in reversed(graph.nodes):
        found = _any_of([condition for index in node.outputs for condition in readers.get(index, [])])
        conditions[node.name] = found
        for number, index in enumerate(node.inputs):
            name = str(node.attrs.get("name", "")) if node.op == CHOICE else ""
            own = {name: frozenset({number})} if name in names else {}
            readers.setdefault(index, []).append({**found, **own})
    return conditions


def _any_of(conditions: Sequence[_Condition]) -> _Condition:
    if not conditions:
        return {}
    first, *others = conditions
    return {
        name: taken.union(*(other[name] for other in others))
        for name, taken in first.items()
        if all(name in other for other in others)
    }
