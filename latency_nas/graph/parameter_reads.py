"""Counts the parameters that each kernel reads. An element counts only for its first reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from latency_nas.graph.op_graph import OpGraph
from latency_nas.graph.parameters import ParameterPart, count_elements
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["with_parameters"]

_Parts = tuple[ParameterPart, ...] | None  # None: the graph does not record parameters


def with_parameters(graph: OpGraph, calls: Sequence[KernelCall]) -> tuple[KernelCall, ...]:
    """The calls, each with the number of parameters that it is the first to read.

    If no call computes a node, such as a view, the parameters that it reads count for the call that runs next.

    Args:
        graph: Graph without open choices.
        calls: Kernels that an engine runs for the graph, in order.
    """
    values = graph.values
    read: dict[str, list[_Parts]] = {}  # name of a node -> the parts that it reads
    for node in graph.nodes:
        parts = [values[index].parts for index in node.inputs if values[index].constant]
        if parts and any(part is None or part for part in parts):
            read[node.name] = parts
    if not calls:
        return ()
    computed = [[name for name in call.nodes if name in read] for call in calls]
    left = read.keys() - set(chain.from_iterable(computed))
    if left:
        _assign(left, graph, calls, computed)
    seen: dict[str, set[ParameterPart]] = {}
    return tuple([
        KernelCall(
            kernel=call.kernel, layer=call.layer, nodes=call.nodes, reader=call.reader,
            n_params=_n_new([part for name in names for part in read[name]], seen) if names else 0,
        )
        for call, names in zip(calls, computed, strict=True)
    ])  # fmt: skip


def _assign(left: Iterable[str], graph: OpGraph, calls: Sequence[KernelCall], computed: Sequence[list[str]]) -> None:
    """Assign each node that no call computes to the first call that runs for this node or a later one."""
    places = {node.name: place for place, node in enumerate(graph.nodes)}
    ends = [max((places.get(name, -1) for name in (*call.nodes, call.reader)), default=-1) for call in calls]
    for name in sorted(left, key=places.__getitem__):
        later = (number for number, end in enumerate(ends) if end >= places[name])
        computed[next(later, len(calls) - 1)].append(name)


def _n_new(read: Sequence[_Parts], seen: dict[str, set[ParameterPart]]) -> int | None:
    """Number of elements that were not read before; None if the graph does not record parameters."""
    if None in read:
        return None
    n_new = 0
    for part in chain.from_iterable([parts for parts in read if parts]):
        before = seen.get(part.name)
        if before is None:
            seen[part.name] = {part}
            n_new += count_elements([part])
        elif part not in before:
            n_new += count_elements([part, *before]) - count_elements(before)
            before.add(part)
    return n_new
