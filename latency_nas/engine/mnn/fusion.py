"""The kernels that MNN makes of an operator graph, on a CPU.

Checked against MNN 3.6.1 itself: for the networks of the tests, the list equals the ops that MNN executes, in order.
Three things decide it: what its converter folds together (`latency_nas.engine.mnn.folding`), which ops work on
channels packed by four (`_PACKED`), and that ops which only move data (`_VIEWS`) are merged into the one copy, MNN's
*Raster*, that a consumer needs.

Limitations:
1. A split is taken to state its sizes, as this library writes it; where it only counts its parts, as torch's exporter
   writes a chunk, MNN leaves them packed, and joins the moves of several blocks of a ShuffleNet into one. What is
   shuffled is taken to be one tensor, or parts that hold whole groups; an activation after it, MNN runs before it.
2. An addition of a constant for each channel counts as one of equal shapes, though MNN runs it as a loop.
3. Networks of several outputs are listed in the model's order; MNN may run a branch earlier or later.
4. Ops outside `_PACKED`, `_POINTWISE`, `BINARY` and `_VIEWS` are taken to read and write unpacked tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from latency_nas.engine.mnn.folding import BINARY, fold
from latency_nas.graph.op_graph import Node, OpGraph
from latency_nas.kernel import AttrValue, Shape, shared_kernel
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["fuse_mnn"]

_PACKED = frozenset({"conv2d", "conv_transpose2d", "pool2d", "batch_norm", "resize"})
_POINTWISE = frozenset({  # in whatever layout they are given
    "relu", "relu6", "leaky_relu", "hard_swish", "sigmoid", "swish", "tanh", "gelu",
})  # fmt: skip
_VIEWS = frozenset({"reshape", "transpose", "concat", "split", "slice"})


@dataclass(frozen=True, slots=True)
class _Stored:
    """How a value lies in memory: packed by four channels or plain; a view has no memory of its own yet.

    A view of channels side by side keeps the layout of its parts (`joined`); one of what a linear layer wrote, merely
    reshaped, is `flat`; one whose axes were moved is `moved`. One whose channels were `shuffled` is copied before
    it is cut, or laid out anew: MNN joins two moves of data into one only where both run along the same axes.
    """

    shapes: tuple[Shape, ...]
    packed: bool
    view: bool = False
    joined: bool = False
    flat: bool = False
    moved: bool = False
    shuffled: bool = False


class _Layout:
    """Walks folded nodes in order, inserting the copies between packed and plain memory."""

    def __init__(self, graph: OpGraph) -> None:
        self.graph = graph
        self.calls: list[KernelCall] = []
        self.stored = {index: _Stored((graph.values[index].shape,), packed=False) for index in graph.inputs}
        self.makers = {index: node for node in graph.nodes for index in node.outputs}
        self._copies: dict[tuple[int, bool, Shape], None] = {}

    def emit(
        self, node: Node, names: tuple[str, ...], op: str, inputs: tuple[Shape, ...], output: Shape, **attrs: AttrValue
    ) -> None:
        dtype = self.graph.values[node.outputs[0]].dtype
        kernel = shared_kernel(op, inputs, (output,), tuple(attrs.items()), dtype)
        layer = node.modules[-1] if node.modules else ""
        self.calls.append(KernelCall(kernel=kernel, layer=layer, nodes=names, reader=node.name))

    def need(self, node: Node, index: int, *, packed: bool, shape: Shape, always: bool = False) -> Shape:
        """Make the value lie in memory as `shape`, with a copy if it does not; a copy serves all later readers."""
        held = self.stored[index]
        if held.shuffled and (packed, shape) != (held.joined, self.shape(index)):
            held = self._materialize(node, index)
        wanted = (index, packed, shape)
        fits = not held.view and held.packed == packed and held.shapes == (shape,)
        if (always or not fits) and wanted not in self._copies:
            self._copies[wanted] = None
            names = {True: "packed", False: "plain"}
            self.emit(node, (), "raster", held.shapes, shape, source=names[held.packed], target=names[packed])
        return shape

    def _materialize(self, node: Node, index: int) -> _Stored:
        """Copy a shuffled view, in its own shape and layout."""
        held, shape = self.stored[index], self.shape(index)
        self.need(node, index, packed=held.joined, shape=shape)
        self.stored[index] = _Stored((shape,), packed=held.joined)
        return self.stored[index]

    def shape(self, index: int) -> Shape:
        return self.graph.values[index].shape

    def place(self, node: Node, names: tuple[str, ...]) -> None:
        """Emit the kernels of one folded node."""
        inputs, output = self.graph.activations(node), node.outputs[0]
        if node.op in _VIEWS:
            self._view(node)
        elif node.op == "linear" and len(self.shape(inputs[0])) >= 2:
            self._linear(node, names)
        elif node.op == "conv2d" and self._is_split(node):
            self._groups(node, names)
        elif node.op in _PACKED:
            source = self.need(node, inputs[0], packed=True, shape=self.shape(inputs[0]))
            self.emit(node, names, node.op, (source,), self.shape(output), **node.attrs)
            self.stored[output] = _Stored((self.shape(output),), packed=True)
        elif node.op in _POINTWISE and (not self.stored[inputs[0]].view or self.stored[inputs[0]].flat):
            held = self.stored[inputs[0]]
            self.emit(node, names, node.op, held.shapes, held.shapes[0], **node.attrs)
            self.stored[output] = held
        elif node.op in _POINTWISE and self.stored[inputs[0]].joined:
            source = self.need(node, inputs[0], packed=True, shape=self.shape(inputs[0]))
            self.emit(node, names, node.op, (source,), source, **node.attrs)
            self.stored[output] = _Stored((source,), packed=True)
        elif node.op == "hard_sigmoid":
            self._hard_sigmoid(node, names)
        elif node.op in BINARY and inputs:
            self._binary(node, names)
        elif node.op == "reduce_mean" and len(self.shape(inputs[0])) == 4 and node.attrs["axes"] == (2, 3):
            self._spatial_mean(node, names)
        else:
            plain = tuple(self.need(node, index, packed=False, shape=self.shape(index)) for index in inputs)
            self.emit(node, names, node.op, plain, self.shape(output), **node.attrs)
            self.stored.update({index: _Stored((self.shape(index),), packed=False) for index in node.outputs})

    def _held(self, index: int) -> _Stored:
        """Where a view reads a value from: the copy of it that was made, if one was."""
        for packed in (True, False):
            if (index, packed, self.shape(index)) in self._copies:
                return _Stored((self.shape(index),), packed=packed)
        return self.stored[index]

    @staticmethod
    def _is_packed(held: _Stored) -> bool:
        return held.packed and (not held.view or held.joined)

    def _shuffled(self, node: Node) -> int | None:
        """What the node is the last of three to shuffle, by swapping groups with channels; None where it is not."""
        swap = self.makers.get(node.inputs[0])
        split = self.makers.get(swap.inputs[0]) if swap and swap.op == "transpose" else None
        if swap is None or split is None or node.op != "reshape" or split.op != "reshape":
            return None
        source, target = self.shape(split.inputs[0]), self.shape(node.outputs[0])
        swaps = swap.attrs["perm"] == (0, 2, 1, 3, 4) and source == target and prod(source[2:]) > 1
        return split.inputs[0] if swaps else None

    def _view(self, node: Node) -> None:
        inputs = self.graph.activations(node)
        source = self._shuffled(node)
        if source is not None:
            before = self._held(source)
            self.stored[node.outputs[0]] = replace(
                before, view=True, joined=self._is_packed(before), moved=True, shuffled=True
            )
            return
        if node.op in {"split", "slice"} and self.stored[inputs[0]].shuffled:
            self._materialize(node, inputs[0])
        constants = [index for index in node.inputs if self.graph.values[index].constant and node.op == "concat"]
        sources = [self._held(index) for index in inputs]
        packed = any(item.packed for item in sources)
        moves = packed or node.op != "reshape" or sources[0].view
        shapes = tuple(shape for item in sources for shape in item.shapes)
        shapes = tuple(self.shape(index) for index in constants) + shapes
        flat = node.op == "reshape" and sources[0].flat
        moved = sources[0].moved or node.op == "transpose"
        n_packed = sum(self._is_packed(item) for item in sources)  # what most are, a concatenation is; a split is plain
        joined = node.op in {"concat", "slice"} and 2 * n_packed > len(sources)
        for output in node.outputs:
            held = shapes if moves else (self.shape(output),)
            self.stored[output] = _Stored(held, packed=packed, view=moves, joined=joined, flat=flat, moved=moved)

    def _is_split(self, node: Node) -> bool:
        """Whether a convolution has groups and is not depthwise."""
        return node.attrs["group"] not in {1, self.shape(node.inputs[0])[1]}

    def _groups(self, node: Node, names: tuple[str, ...]) -> None:
        """A convolution a group, each with a copy of its channels."""
        n_groups = int(str(node.attrs["group"]))
        source, output = (self.shape(index) for index in (node.inputs[0], node.outputs[0]))
        held = self._held(node.inputs[0])
        read, made = ((shape[0], shape[1] // n_groups, *shape[2:]) for shape in (source, output))
        for _ in range(n_groups):
            kinds: dict[str, AttrValue] = {"source": "packed" if held.packed else "plain", "target": "packed"}
            self.emit(node, (), "raster", held.shapes, read, **kinds)
            self.emit(node, names, "conv2d", (read,), made, **(dict(node.attrs) | {"group": 1}))
            names = ()
        self.stored[node.outputs[0]] = _Stored((made,) * n_groups, packed=True, view=True, joined=True)

    def _linear(self, node: Node, names: tuple[str, ...]) -> None:
        """A linear layer runs as a 1 x 1 convolution between two reshapes."""
        index, output = self.graph.activations(node)[0], node.outputs[0]
        rows = prod(self.shape(index)[:-1])
        shapes = [(rows, self.shape(value)[-1], 1, 1) for value in (index, output)]
        held = self.stored[index]
        if held.moved and held.shapes[0][-1] != shapes[0][1] and held.shapes[0][1] != shapes[0][1]:
            self.need(node, index, packed=False, shape=shapes[0])  # the features come from several axes
            held = self.stored[index] = _Stored((shapes[0],), packed=False)
        self.need(node, index, packed=True, shape=shapes[0], always=True)
        attrs: dict[str, AttrValue] = {
            "kernel": (1, 1),
            "stride": (1, 1),
            "pad": (0,) * 4,
            "dilation": (1, 1),
            "group": 1,
            "bias": 0,
        }
        self.emit(node, names, "conv2d", (shapes[0],), shapes[1], **(attrs | dict(node.attrs)))
        self.stored[output] = _Stored((shapes[1],), packed=True, view=True, flat=True)

    def _hard_sigmoid(self, node: Node, names: tuple[str, ...]) -> None:
        """Spelt out as x * 1/6 + 1/2, then clamped."""
        index, output = self.graph.activations(node)[0], node.outputs[0]
        held = self.stored[index]
        steps: tuple[tuple[str, dict[str, AttrValue]], ...] = (
            ("mul", {"scalar": 1}),
            ("add", {"scalar": 1}),
            ("relu6", {}),
        )
        for op, attrs in steps:
            self.emit(node, names, op, held.shapes, held.shapes[0], **attrs)
        self.stored[output] = held

    def _binary(self, node: Node, names: tuple[str, ...]) -> None:
        """Both operands in one layout and of one shape; what is smaller is copied larger first."""
        inputs, shape = self.graph.activations(node), self.shape(node.outputs[0])
        packed = all(self._is_packed(self.stored[index]) for index in inputs)
        packed = packed and (len(inputs) > 1 or "scalar" in node.attrs)
        sources = tuple(self.need(node, index, packed=packed, shape=shape) for index in inputs)
        self.emit(node, names, node.op, sources, shape, **node.attrs)
        self.stored[node.outputs[0]] = _Stored((shape,), packed=packed)

    def _spatial_mean(self, node: Node, names: tuple[str, ...]) -> None:
        """Reduced over one axis of a plain copy."""
        index = self.graph.activations(node)[0]
        n, c, *spatial = self.shape(index)
        source, reduced = (n * c, prod(spatial), 1), (n * c, 1, 1)
        self.need(node, index, packed=False, shape=source)
        self.emit(node, names, "reduce_mean", (source,), reduced, axes=(1,), keepdim=1)
        self.stored[node.outputs[0]] = _Stored((reduced,), packed=False, view=True)

    def finish(self, last: Node) -> None:
        """Outputs leave the network unpacked."""
        for index in self.graph.outputs:
            if index in self.stored:
                self.need(last, index, packed=False, shape=self.shape(index))


def fuse_mnn(graph: OpGraph) -> tuple[KernelCall, ...]:
    """The kernels that MNN runs for `graph`, in order.

    Args:
        graph: the graph of one architecture, without open choices.

    Raises:
        GraphError: if a choice is open.
    """
    layout = _Layout(graph)
    folded = fold(graph)
    for node, names in folded:
        layout.place(node, names)
    if folded:
        layout.finish(folded[-1][0])
    return tuple(layout.calls)
