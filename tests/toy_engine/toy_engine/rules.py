"""The kernels that the toy engine makes of a graph.

Two rules. A batch norm and an activation are folded into the convolution before them, an activation into a linear
layer. Convolutions, poolings and batch norms work on pixels (channels last), whereas a network's inputs and outputs
and most other ops are planes (channels first); a layout op copies one into the other, once for each value.
Element-wise ops take what comes, so that copies lie elsewhere than in MNN, which also folds a ReLU into an addition.
"""

from __future__ import annotations

from dataclasses import dataclass

from latency_nas.errors import GraphError
from latency_nas.graph import CHOICE, Node, OpGraph
from latency_nas.kernel import AttrValue, Kernel
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["fuse_toy"]

# (op, the op that follows it) -> attributes of the one kernel that both become
_FOLDS: dict[tuple[str, str], dict[str, AttrValue]] = {
    ("conv2d", "batch_norm"): {"bias": 1},
    **{(op, act): {"act": act} for op in ("conv2d", "linear") for act in ("relu", "relu6")},
}
_ON_PIXELS = frozenset({"conv2d", "pool2d", "batch_norm"})
_ON_EITHER = frozenset({"relu", "relu6", "sigmoid", "add", "mul"})


@dataclass(slots=True)
class _Step:
    """A node, and those that were folded into it."""

    nodes: list[Node]
    attrs: dict[str, AttrValue]

    @property
    def outputs(self) -> tuple[int, ...]:
        return self.nodes[-1].outputs


def _folded(graph: OpGraph) -> list[_Step]:
    steps: list[_Step] = []
    makers: dict[int, _Step] = {}
    n_consumers = graph.n_consumers()
    for node in graph.nodes:
        if node.op == CHOICE:
            raise GraphError(f"Expected a graph of one architecture, but the choice `{node.attrs['name']}` is open.")
        source = graph.activations(node)[0]
        step = makers.get(source)
        extra = _FOLDS.get((step.nodes[0].op, node.op)) if step and n_consumers[source] == 1 else None
        if step is None or extra is None or "act" in step.attrs:
            step = _Step([node], dict(node.attrs))
            steps.append(step)
        else:
            step.nodes.append(node)
            step.attrs |= extra
        makers.update(dict.fromkeys(node.outputs, step))
    return steps


class _Program:
    """Kernels in order, and in which layouts each value lies."""

    def __init__(self, graph: OpGraph) -> None:
        self.graph = graph
        self.calls: list[KernelCall] = []
        self.layouts = {index: ["planes"] for index in graph.inputs}  # the first is the one that it was made in

    def add(self, step: _Step) -> None:
        first, inputs = step.nodes[0], self.graph.activations(step.nodes[0])
        layout = "planes"
        if first.op in _ON_PIXELS and len(self.graph.values[inputs[0]].shape) == 4:
            layout = "pixels"
        elif first.op in _ON_EITHER and len({self.layouts[index][0] for index in inputs}) == 1:
            layout = self.layouts[inputs[0]][0]
        for index in inputs:
            self.need(index, layout, first)
        shapes = [[self.graph.values[index].shape for index in side] for side in (inputs, step.outputs)]
        kernel = Kernel.of(first.op, *shapes, **step.attrs)
        names = tuple(node.name for node in step.nodes)
        self.calls.append(KernelCall(kernel=kernel, layer=_layer(first), nodes=names, reader=first.name))
        self.layouts.update({index: [layout] for index in step.outputs})

    def need(self, index: int, layout: str, reader: Node) -> None:
        """Copy a value into a layout, unless it lies there in that layout."""
        stored, shape = self.layouts[index], self.graph.values[index].shape
        if layout not in stored:
            kernel = Kernel.of("raster", [shape], [shape], source=stored[0], target=layout)
            self.calls.append(KernelCall(kernel=kernel, layer=_layer(reader), nodes=(), reader=reader.name))
            stored.append(layout)


def _layer(node: Node) -> str:
    return node.modules[-1] if node.modules else ""


def fuse_toy(graph: OpGraph) -> tuple[KernelCall, ...]:
    """The kernels that the toy engine runs for a graph, in order.

    Raises:
        GraphError: if a choice is open.
    """
    program = _Program(graph)
    for step in _folded(graph):
        program.add(step)
    for index in graph.outputs if graph.nodes else ():
        program.need(index, "planes", graph.nodes[-1])
    return tuple(program.calls)
