"""Branches of a network that the values of its inputs decide: the graph of each combination of decisions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from latency_nas.errors import GraphError
from latency_nas.graph.op_graph import BRANCH, OpGraph

__all__ = ["Decided", "decide_branches", "open_branches"]

_MAX_GRAPHS = 64


@dataclass(frozen=True, slots=True)
class Decided:
    """A graph without open branches.

    Args:
        graph: Graph of what runs.
        decisions: Whether each condition is true, by the name of the branch. A branch that does not run is left out.
    """

    graph: OpGraph
    decisions: tuple[tuple[str, bool], ...] = ()


def open_branches(graph: OpGraph) -> tuple[str, ...]:
    """The names of the conditions that only an input's values decide, in order; that of an inner branch comes first."""
    return tuple(dict.fromkeys(str(node.attrs["name"]) for node in graph.nodes if node.op == BRANCH))


def decide_branches(graph: OpGraph) -> list[Decided]:
    """The graphs of all combinations of decisions; the graph itself if it has no open branch.

    The nodes that compute a condition are kept, since the engine runs them whatever the result.

    Raises:
        GraphError: if there are more than 64 combinations.
    """
    found = []
    for decided in _decided(Decided(graph)):
        found.append(decided)
        if len(found) > _MAX_GRAPHS:
            names = open_branches(graph)
            raise GraphError(
                f"Expected conditions that combine in at most {_MAX_GRAPHS} ways, but {len(names)} are open "
                f"({', '.join(names[:5])}{', ...' if len(names) > 5 else ''}): make constants of the inputs that "
                f"decide them."
            )
    return found


def _decided(before: Decided) -> Iterator[Decided]:
    names = open_branches(before.graph)
    if not names:
        yield before
        return
    for value in (False, True):
        graph = _take(before.graph, names[-1], value)
        yield from _decided(Decided(graph, (*before.decisions, (names[-1], value))))


def _take(graph: OpGraph, name: str, value: bool) -> OpGraph:
    """The graph in which a condition is decided."""
    nodes = [
        replace(node, inputs=(node.inputs[0], node.inputs[1 + value]))
        if node.op == BRANCH and node.attrs["name"] == name
        else node
        for node in graph.nodes
    ]
    alive = replace(graph, nodes=tuple(nodes)).without_dead_nodes()
    made = {index for node in alive.nodes for index in node.outputs}
    alias: dict[int, int] = {}
    kept, conditions = [], []
    for node in alive.nodes:
        inputs = tuple(alias.get(index, index) for index in node.inputs)
        if node.op == BRANCH and node.attrs["name"] == name:
            alias[node.outputs[0]] = inputs[1]
            conditions += [index for index in inputs[:1] if index in made]
        else:
            kept.append(node.reading(alias))
    outputs = tuple(alias.get(index, index) for index in graph.outputs)
    read = tuple(index for index in dict.fromkeys(conditions) if index not in outputs)
    names = graph.output_names and graph.output_names + tuple(f"{name}.{number}" for number in range(len(read)))
    return replace(graph, nodes=tuple(kept), outputs=outputs + read, output_names=names)
