"""Networks composed of work items, so that each work item runs inside several networks and not alone.

A work item is the graph of an op, of a kernel, or of a whole network. A composed network is a set of *branches*: chains
in which each work item reads what the work item before it wrote. So activations lie in memory as in a real network, and
weights are cold because other layers ran in between. Where no work item fits, a new branch begins at an input of its
own. That costs one copy; an adapter would cost time that cannot be separated from the kernels'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from latency_nas.engine import Engine, Target
from latency_nas.graph import Node, OpGraph, Value
from latency_nas.kernel import Kernel

__all__ = ["Branches", "compose", "cover", "join", "own_kernels", "side_by_side"]

_MAX_BYTES = 64 * 2**20  # of a composed network that has more than one work item

Branches = tuple[tuple[int, ...], ...]  # ids of work items: chains, in the order in which they are written


def own_kernels(graph: OpGraph, engine: Engine, target: Target) -> set[Kernel]:
    """The kernels of a graph except copies between layouts, which depend on the layers around it."""
    return {call.kernel for call in engine.fuse(graph, target) if call.kernel.op not in engine.layout_ops}


def cover(kernels: Mapping[int, set[Kernel]], known: set[Kernel]) -> list[int]:
    """Few work items that hold every kernel that is not `known`, chosen greedily: most new kernels first."""
    missing = set().union(*kernels.values()) - known if kernels else set()
    left, taken = dict(kernels), []
    while missing:
        best = max(left, key=lambda work_item: (len(left[work_item] & missing), -work_item))
        missing -= left.pop(best)
        taken.append(best)
    return sorted(taken)


@dataclass(frozen=True, slots=True)
class _Ends:
    """What a work item reads and writes if it has one input and one output; else None."""

    reads: Value | None
    writes: Value | None

    @classmethod
    def of(cls, graph: OpGraph) -> _Ends:
        single = len(graph.inputs) == len(graph.outputs) == 1
        ends = (graph.values[graph.inputs[0]], graph.values[graph.outputs[0]]) if single else (None, None)
        return cls(*(end and replace(end, parameter="") for end in ends))


def compose(
    graphs: Mapping[int, OpGraph], engine: Engine, target: Target, *, items_per_network: int, seed: int, fold: bool
) -> list[Branches]:
    """Networks of at most `items_per_network` work items; each work item is in one of them.

    Args:
        graphs: Work item -> its graph.
        engine: Engine that runs them.
        target: What the engine's rules depend on.
        items_per_network: Largest number of work items in a network.
        seed: Seed of the order.
        fold: Whether the engine may fold a work item into the one before it, as it would in a network. If not, such
            work items are kept apart, so that each runs the same kernels as alone.
    """
    random = np.random.default_rng(seed)
    left = dict.fromkeys(int(work_item) for work_item in random.permutation(sorted(graphs)))
    ends = {work_item: _Ends.of(graph) for work_item, graph in graphs.items()}
    networks: list[Branches] = []

    def follows(first: int, second: int) -> bool:
        """Whether the second reads what the first writes, and the engine does not fold them unless it may."""
        fits = _fits(ends[first].writes, ends[second].reads)
        return fits and (fold or not _folds(graphs[first], graphs[second], engine, target))

    while left:
        branches: list[list[int]] = []
        size_bytes = 0
        while left and sum(map(len, branches)) < items_per_network:
            work_item = None
            if branches:
                work_item = next((item for item in left if follows(branches[-1][-1], item)), None)
            begins = work_item is None
            if work_item is None:
                work_item = max(left, key=lambda item: prod(_input(graphs[item]).shape))
            size_bytes += _size_bytes(graphs[work_item])
            if branches and size_bytes > _MAX_BYTES:
                break
            if begins:
                branches.append([])
            branches[-1].append(work_item)
            del left[work_item]
        networks.append(tuple(map(tuple, branches)))
    return networks


def _size_bytes(graph: OpGraph) -> int:
    """Size of all weights and activations of the graph in fp32."""
    return 4 * sum(prod(value.shape) for value in graph.values)


def _input(graph: OpGraph) -> Value:
    return graph.values[graph.inputs[0]]


def _fits(writes: Value | None, reads: Value | None) -> bool:
    """Whether one can be read as the other: unchanged, or flattened, as before the head of a network."""
    if writes is None or reads is None:
        return False
    flat = writes.shape[1:].count(1) == len(writes.shape) - 2 and reads.shape == writes.shape[:2]
    return writes.dtype == reads.dtype and (writes.shape == reads.shape or flat)


def _folds(first: OpGraph, second: OpGraph, engine: Engine, target: Target) -> bool:
    """Whether the engine runs other kernels for one graph after the other than for each alone."""
    alone = own_kernels(first, engine, target) | own_kernels(second, engine, target)
    return not alone <= own_kernels(join([first, second]), engine, target)


def join(graphs: Sequence[OpGraph]) -> OpGraph:
    """One graph of several in a chain: each reads what the one before it wrote, flattened where it takes that."""
    if len(graphs) == 1:  # its nodes keep the names that the user knows
        return graphs[0]
    values: list[Value] = []
    nodes: list[Node] = []
    outputs: tuple[int, ...] = ()
    for number, graph in enumerate(graphs):
        at = {index: len(values) + index for index in range(len(graph.values))}
        values += graph.values
        if outputs and values[outputs[0]].shape != _input(graph).shape:
            flat = (at[graph.inputs[0]],)
            nodes.append(Node(name=f"p{number}.flatten", op="reshape", inputs=outputs, outputs=flat, attrs={}))
        elif outputs:
            at |= dict(zip(graph.inputs, outputs, strict=True))
        nodes += _renumbered(graph.nodes, at, f"p{number}.")
        outputs = tuple(at[index] for index in graph.outputs)
    return OpGraph(values=tuple(values), nodes=tuple(nodes), inputs=graphs[0].inputs, outputs=outputs)


def _renumbered(nodes: Sequence[Node], at: Mapping[int, int], prefix: str) -> Iterator[Node]:
    """The nodes of a graph, with values numbered by `at` and names that begin with `prefix`."""
    for node in nodes:
        inputs, outputs = (tuple(at[index] for index in side) for side in (node.inputs, node.outputs))
        spelled = tuple(_renumbered(node.spelled, at, prefix))
        yield replace(node, name=prefix + node.name, inputs=inputs, outputs=outputs, spelled=spelled)


def side_by_side(graphs: Sequence[OpGraph]) -> OpGraph:
    """One graph of several that are not connected."""
    if len(graphs) == 1:
        return graphs[0]
    values: list[Value] = []
    nodes: list[Node] = []
    inputs: list[int] = []
    outputs: list[int] = []
    for number, graph in enumerate(graphs):
        at = {index: len(values) + index for index in range(len(graph.values))}
        values += graph.values
        nodes += _renumbered(graph.nodes, at, f"b{number}.")
        inputs += [at[index] for index in graph.inputs]
        outputs += [at[index] for index in graph.outputs]
    return OpGraph(values=tuple(values), nodes=tuple(nodes), inputs=tuple(inputs), outputs=tuple(outputs))
