"""Which kernels read which parameters: each element counts where it is read first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from latency_nas.graph.op_graph import OpGraph
from latency_nas.graph.parameters import ParameterPart, count_elements
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["with_parameters"]

_Parts = tuple[ParameterPart, ...] | None  # None: the graph does not know


def with_parameters(graph: OpGraph, calls: Sequence[KernelCall]) -> tuple[KernelCall, ...]:
    """The calls, each with the number of elements of parameters that it is the first to read.

    What is read by a node that no call carries out, such as a view, counts for the call that runs next.

    Args:
        graph: Graph without open choices.
        calls: Kernels that an engine runs for it, in order.
    """
    values = graph.values
    read: dict[str, list[_Parts]] = {}  # of the nodes that read constants
    for node in graph.nodes:
        parts = [values[index].parts for index in node.inputs if values[index].constant]
        if parts and any(part is None or part for part in parts):
            read[node.name] = parts
    if not calls:
        return ()
    carried = [[name for name in call.nodes if name in read] for call in calls]
    left = read.keys() - set(chain.from_iterable(carried))
    if left:
        _carry(left, graph, calls, carried)
    seen: dict[str, set[ParameterPart]] = {}
    return tuple([
        KernelCall(
            kernel=call.kernel, layer=call.layer, nodes=call.nodes, reader=call.reader,
            n_params=_n_new([part for name in names for part in read[name]], seen) if names else 0,
        )
        for call, names in zip(calls, carried, strict=True)
    ])  # fmt: skip


def _carry(left: Iterable[str], graph: OpGraph, calls: Sequence[KernelCall], carried: Sequence[list[str]]) -> None:
    """Give each node that no call carries out to the first call that runs for it or for a later one."""
    places = {node.name: place for place, node in enumerate(graph.nodes)}
    ends = [max((places.get(name, -1) for name in (*call.nodes, call.reader)), default=-1) for call in calls]
    for name in sorted(left, key=places.__getitem__):
        later = (number for number, end in enumerate(ends) if end >= places[name])
        carried[next(later, len(calls) - 1)].append(name)


def _n_new(read: Sequence[_Parts], seen: dict[str, set[ParameterPart]]) -> int | None:
    """The elements of parameters that were not seen yet; None if the graph does not know them."""
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
