"""The kernels that MNN runs for an operator graph, on a CPU.

This is checked against MNN 3.6.1: for the networks of the tests, the list equals the ops that MNN executes, in order.
Three facts determine the kernels. MNN's converter folds ops together (`latency_nas.engine.mnn.folding`). Some ops work
on channels packed by four (`_PACKED`). Ops that only move data (`_VIEWS`) do not run: MNN merges them into one copy,
its *Raster*, where a reader needs one.

Limitations:
1. A split is assumed to state its sizes, as this library writes it. Torch's exporter writes a chunk as a number of
   parts; MNN then leaves the parts packed, and joins the moves of several blocks of a ShuffleNet into one. A shuffle is
   assumed to be of one tensor, or of parts that hold whole groups. MNN moves an activation
   after a shuffle to before it.
2. An addition of a constant for each channel counts as one of equal shapes. MNN runs it as a loop.
3. The kernels of networks with several outputs are in the model's order. MNN may run a branch earlier or later.
4. Ops outside `_PACKED`, `_POINTWISE`, `BINARY` and `_VIEWS` are assumed to read and write unpacked tensors.
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
_POINTWISE = frozenset({  # run in the layout of their input
    "relu", "relu6", "leaky_relu", "hard_swish", "sigmoid", "swish", "tanh", "gelu",
})  # fmt: skip
_VIEWS = frozenset({"reshape", "transpose", "concat", "split", "slice", "roll", "flip"})


@dataclass(frozen=True, slots=True)
class _Stored:
    """How a value is stored: packed by four channels, or plain. A view has no memory of its own yet.

    Args:
        shapes: Shapes of the stored parts; a view may have several.
        packed: Whether the channels are packed by four.
        view: Whether the value is a view, which is copied only where a reader needs it.
        joined: Whether the view joins channels side by side, which keeps the layout of its parts.
        flat: Whether the view is a reshaped output of a linear layer.
        moved: Whether axes of the view were moved.
        shuffled: Whether channels were shuffled. Such a view is copied before it is cut or stored in another layout:
            MNN joins two moves of data into one only where both run along the same axes.
    """

    shapes: tuple[Shape, ...]
    packed: bool
    view: bool = False
    joined: bool = False
    flat: bool = False
    moved: bool = False
    shuffled: bool = False


class _Layout:
    """Takes folded nodes in order, and inserts the copies between packed and plain layouts."""

    def __init__(self, graph: OpGraph) -> None:
        self.graph = graph
        self.calls: list[KernelCall] = []
        self.stored = {index: _Stored((graph.values[index].shape,), packed=False) for index in graph.inputs}
        self.makers = {index: node for node in graph.nodes for index in node.outputs}
        self._copies: dict[tuple[int, bool, Shape], None] = {}

    def emit(
        self, node: Node, names: tuple[str, ...], op: str, inputs: tuple[Shape, ...], output: Shape, **attrs: AttrValue
    ) -> None:
        """Append a kernel that runs for `node` and computes the nodes of these names."""
        dtype = self.graph.values[node.outputs[0]].dtype
        kernel = shared_kernel(op, inputs, (output,), tuple(attrs.items()), dtype)
        layer = node.modules[-1] if node.modules else ""
        self.calls.append(KernelCall(kernel=kernel, layer=layer, nodes=names, reader=node.name))

    def need(self, node: Node, index: int, *, packed: bool, shape: Shape, always: bool = False) -> Shape:
        """Store a value in this shape and layout: by a copy, unless it is stored so or was copied so before."""
        stored = self.stored[index]
        if stored.shuffled and (packed, shape) != (stored.joined, self.shape(index)):
            stored = self._materialize(node, index)
        wanted = (index, packed, shape)
        fits = not stored.view and stored.packed == packed and stored.shapes == (shape,)
        if (always or not fits) and wanted not in self._copies:
            self._copies[wanted] = None
            names = {True: "packed", False: "plain"}
            self.emit(node, (), "raster", stored.shapes, shape, source=names[stored.packed], target=names[packed])
        return shape

    def _materialize(self, node: Node, index: int) -> _Stored:
        """Copy a shuffled view, in its own shape and layout."""
        stored, shape = self.stored[index], self.shape(index)
        self.need(node, index, packed=stored.joined, shape=shape)
        self.stored[index] = _Stored((shape,), packed=stored.joined)
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
            stored = self.stored[inputs[0]]
            self.emit(node, names, node.op, stored.shapes, stored.shapes[0], **node.attrs)
            self.stored[output] = stored
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

    def _source_of_view(self, index: int) -> _Stored:
        """What a view of the value reads: a copy of it, if one was made."""
        for packed in (True, False):
            if (index, packed, self.shape(index)) in self._copies:
                return _Stored((self.shape(index),), packed=packed)
        return self.stored[index]

    @staticmethod
    def _is_packed(stored: _Stored) -> bool:
        return stored.packed and (not stored.view or stored.joined)

    def _shuffled(self, node: Node) -> int | None:
        """The value that a reshape, a transpose and this reshape shuffle; None where they do not swap groups."""
        swap = self.makers.get(node.inputs[0])
        split = self.makers.get(swap.inputs[0]) if swap and swap.op == "transpose" else None
        if swap is None or split is None or node.op != "reshape" or split.op != "reshape":
            return None
        source, target = self.shape(split.inputs[0]), self.shape(node.outputs[0])
        swaps = swap.attrs["perm"] == (0, 2, 1, 3, 4) and source == target and prod(source[2:]) > 1
        return split.inputs[0] if swaps else None

    def _view(self, node: Node) -> None:
        """Store the outputs of an op that only moves data as views of its inputs."""
        inputs = self.graph.activations(node)
        source = self._shuffled(node)
        if source is not None:
            before = self._source_of_view(source)
            self.stored[node.outputs[0]] = replace(
                before, view=True, joined=self._is_packed(before), moved=True, shuffled=True
            )
            return
        if node.op in {"split", "slice"} and self.stored[inputs[0]].shuffled:
            self._materialize(node, inputs[0])
        constants = [index for index in node.inputs if self.graph.values[index].constant and node.op == "concat"]
        sources = [self._source_of_view(index) for index in inputs]
        packed = any(item.packed for item in sources)
        moves = packed or node.op != "reshape" or sources[0].view
        shapes = tuple(shape for item in sources for shape in item.shapes)
        shapes = tuple(self.shape(index) for index in constants) + shapes
        flat = node.op == "reshape" and sources[0].flat
        moved = sources[0].moved or node.op == "transpose"
        # The parts of a split are plain: `joined` is for concatenations and slices only.
        n_packed = sum(self._is_packed(item) for item in sources)  # a concatenation takes the layout of the majority
        joined = node.op in {"concat", "slice"} and 2 * n_packed > len(sources)
        for output in node.outputs:
            parts = shapes if moves else (self.shape(output),)
            self.stored[output] = _Stored(parts, packed=packed, view=moves, joined=joined, flat=flat, moved=moved)

    def _is_split(self, node: Node) -> bool:
        """Whether a convolution has groups and is not depthwise. MNN splits it by groups."""
        return node.attrs["group"] not in {1, self.shape(node.inputs[0])[1]}

    def _groups(self, node: Node, names: tuple[str, ...]) -> None:
        """Emit a convolution for each group, each after a copy of the group's channels."""
        n_groups = int(str(node.attrs["group"]))
        source, output = (self.shape(index) for index in (node.inputs[0], node.outputs[0]))
        stored = self._source_of_view(node.inputs[0])
        read, made = ((shape[0], shape[1] // n_groups, *shape[2:]) for shape in (source, output))
        for _ in range(n_groups):
            kinds: dict[str, AttrValue] = {"source": "packed" if stored.packed else "plain", "target": "packed"}
            self.emit(node, (), "raster", stored.shapes, read, **kinds)
            self.emit(node, names, "conv2d", (read,), made, **(dict(node.attrs) | {"group": 1}))
            names = ()  # the node counts as part of the first convolution
        self.stored[node.outputs[0]] = _Stored((made,) * n_groups, packed=True, view=True, joined=True)

    def _linear(self, node: Node, names: tuple[str, ...]) -> None:
        """Emit a linear layer: MNN runs it as a 1 x 1 convolution between two reshapes."""
        index, output = self.graph.activations(node)[0], node.outputs[0]
        rows = prod(self.shape(index)[:-1])
        shapes = [(rows, self.shape(value)[-1], 1, 1) for value in (index, output)]
        stored = self.stored[index]
        if stored.moved and stored.shapes[0][-1] != shapes[0][1] and stored.shapes[0][1] != shapes[0][1]:
            self.need(node, index, packed=False, shape=shapes[0])  # the features come from several axes
            stored = self.stored[index] = _Stored((shapes[0],), packed=False)
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
        """Emit a hard sigmoid: MNN computes x * 1/6 + 1/2 and clamps it."""
        index, output = self.graph.activations(node)[0], node.outputs[0]
        stored = self.stored[index]
        steps: tuple[tuple[str, dict[str, AttrValue]], ...] = (
            ("mul", {"scalar": 1}),
            ("add", {"scalar": 1}),
            ("relu6", {}),
        )
        for op, attrs in steps:
            self.emit(node, names, op, stored.shapes, stored.shapes[0], **attrs)
        self.stored[output] = stored

    def _binary(self, node: Node, names: tuple[str, ...]) -> None:
        """Emit an op of two operands. Both need the same layout and shape, so a smaller one is expanded by a copy."""
        inputs, shape = self.graph.activations(node), self.shape(node.outputs[0])
        packed = all(self._is_packed(self.stored[index]) for index in inputs)
        packed = packed and (len(inputs) > 1 or "scalar" in node.attrs)
        sources = tuple(self.need(node, index, packed=packed, shape=shape) for index in inputs)
        self.emit(node, names, node.op, sources, shape, **node.attrs)
        self.stored[node.outputs[0]] = _Stored((shape,), packed=packed)

    def _spatial_mean(self, node: Node, names: tuple[str, ...]) -> None:
        """Emit a mean over height and width: MNN reduces one axis of a plain copy."""
        index = self.graph.activations(node)[0]
        n, c, *spatial = self.shape(index)
        source, reduced = (n * c, prod(spatial), 1), (n * c, 1, 1)
        self.need(node, index, packed=False, shape=source)
        self.emit(node, names, "reduce_mean", (source,), reduced, axes=(1,), keepdim=1)
        self.stored[node.outputs[0]] = _Stored((reduced,), packed=False, view=True)

    def finish(self, last: Node) -> None:
        """Unpack the outputs of the network."""
        for index in self.graph.outputs:
            if index in self.stored:
                self.need(last, index, packed=False, shape=self.shape(index))


def fuse_mnn(graph: OpGraph) -> tuple[KernelCall, ...]:
    """The kernels that MNN runs for `graph`, in order.

    Args:
        graph: Graph of one architecture, without open choices.

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
