"""The kernels that MNN runs for an operator graph, on a CPU.

This is checked against MNN 3.6.1: for the networks of the tests, the list equals the ops that MNN executes, in order.
The stages follow those of MNN. The converter has ops of its own (`latency_nas.engine.mnn.expansions`), joins spellings
(`latency_nas.engine.mnn.templates`), folds ops together and sorts them (`latency_nas.engine.mnn.steps`), and chooses a
layout for each value (`latency_nas.engine.mnn.layouts`). Ops that only move data are kept as views
(`latency_nas.engine.mnn.views`). Where a kernel needs the data of a view, one copy, MNN's *Raster*, makes it of all
moves before that join (`latency_nas.engine.mnn.regions`).

Limitations:
1. The kernels of networks with several outputs are in the order of output names as this library writes them.
2. A roll is one move, and a padding that mirrors or repeats counts as one with zeros.
3. Two equal ops of the same two activations count twice, though MNN runs one: in cells that skip, what an edge costs
   would depend on four others.
4. Ops outside the tables of `latency_nas.engine.mnn.layouts` are assumed to read and write unpacked tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from latency_nas.engine.mnn.expansions import expanded
from latency_nas.engine.mnn.layouts import KEEPS_LAYOUT, PACKED, layouts_of
from latency_nas.engine.mnn.regions import Region, Tensor, full, join
from latency_nas.engine.mnn.steps import BINARY, Program, Step, fold
from latency_nas.engine.mnn.templates import join_templates
from latency_nas.engine.mnn.views import VIEWS, broadcast
from latency_nas.graph.op_graph import OpGraph
from latency_nas.kernel import AttrValue, Shape, shared_kernel
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["fuse_mnn"]

_NUMBER: Mapping[str, AttrValue] = {"scalar": 1}
# op -> the ops that compute both of its branches
_SELECTED: Mapping[str, tuple[tuple[str, Mapping[str, AttrValue]], ...]] = {
    "elu": (("expm1", {}), ("mul", _NUMBER), ("greater", _NUMBER)),
    "selu": (("expm1", {}), ("mul", _NUMBER), ("greater", _NUMBER), ("mul", _NUMBER)),
}
_LAYOUT = {True: "packed", False: "plain"}


class _Run:
    """Takes the steps of a program in order, and emits their kernels and the copies that these need."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.packed = layouts_of(program)
        self.calls: list[KernelCall] = []
        self.tensors: dict[int, Tensor] = {index: Tensor(program.shape(index)) for index in program.graph.inputs}
        self.outputs = set(program.graph.outputs)
        self._converted: dict[int, Tensor] = {}

    # ---- tensors ----

    def tensor(self, index: int) -> Tensor:
        """The tensor of a value; a constant has one from its first use."""
        if index not in self.tensors:
            self.tensors[index] = Tensor(self.program.shape(index))
        return self.tensors[index]

    def read(self, index: int, *, packed: bool) -> Tensor:
        """The tensor of a value in a layout. A value is converted once, for all who read it in the other layout."""
        tensor = self.tensor(index)
        if self.packed.get(index, packed) == packed:
            return tensor
        if index not in self._converted:
            self._converted[index] = Tensor(tensor.shape, packed, [full(tensor)])
        return self._converted[index]

    def copy(self, step: Step, tensor: Tensor) -> None:
        """Give a view memory of its own: join the moves before it, copy those that do not join, then it."""
        if not tensor.is_view or tensor.regions is None:
            return
        regions, i = tensor.regions, 0
        while i < len(regions):
            while regions[i].origin.is_view:
                joined = [join(inner, regions[i]) for inner in regions[i].origin.regions or ()]
                kept = [region for region in joined if region is not None]
                if len(kept) < len(joined) or not joined:
                    break
                regions[i] = kept[0]
                regions += [region for region in kept[1:] if prod(region.size)]
                if not prod(regions[i].size):
                    break
            if prod(regions[i].size):
                self.copy(step, regions[i].origin)
            i += 1
        tensor.regions[:] = [region for region in regions if prod(region.size)]
        self._raster(step, tensor, tensor.regions)
        tensor.copied = True

    def _raster(self, step: Step, tensor: Tensor, regions: Sequence[Region]) -> None:
        shapes = tuple(region.origin.shape for region in regions)
        source = _LAYOUT[any(region.origin.packed for region in regions)]
        self.emit(step, (), "raster", shapes, tensor.shape, source=source, target=_LAYOUT[tensor.packed])

    # ---- kernels ----

    def emit(
        self, step: Step, names: tuple[str, ...], op: str, inputs: tuple[Shape, ...], output: Shape, **attrs: AttrValue
    ) -> None:
        """Append a kernel that runs for a step and computes the nodes of these names."""
        dtype = self.program.values[(step.outputs or step.inputs)[0]].dtype
        kernel = shared_kernel(op, inputs, (output,), tuple(attrs.items()), dtype)
        layer = step.node.modules[-1] if step.node.modules else ""
        self.calls.append(KernelCall(kernel=kernel, layer=layer, nodes=names, reader=step.node.name))

    def place(self, step: Step) -> None:
        """Emit the kernels of a step."""
        if step.op == "output":
            self.copy(step, self.read(step.inputs[0], packed=False))
            return
        outputs = [Tensor(self.program.shape(index), self.packed[index]) for index in step.outputs]
        self.tensors.update(zip(step.outputs, outputs, strict=True))
        if step.op in VIEWS:
            self._view(step, outputs)
        elif step.op in {"conv2d", "conv_transpose2d"} and self._is_split(step):
            self._groups(step, outputs[0])
        elif step.op in BINARY:
            self._binary(step, outputs[0])
        elif step.op.startswith("reduce_"):
            self._reduce(step, outputs[0])
        elif step.op in _SELECTED:
            self._selected(step, outputs[0])
        elif step.op == "where":
            self._where(step, outputs[0])
        else:
            self._compute(step, outputs)
        for index, tensor in zip(step.outputs, outputs, strict=True):
            if index in self.outputs and not self.packed[index]:
                self.copy(step, tensor)

    def _view(self, step: Step, outputs: Sequence[Tensor]) -> None:
        packed = outputs[0].packed if step.op != "unpack" else self.packed[step.inputs[0]]
        inputs = [self.read(index, packed=packed) for index in step.inputs]
        if step.op == "split":
            inputs = inputs[:1]
        for tensor in outputs if step.op != "unpack" else ():
            tensor.packed = inputs[0].packed
        VIEWS[step.op](inputs, outputs, step.attrs)

    def _compute(self, step: Step, outputs: Sequence[Tensor]) -> None:
        """Emit an op that reads whole tensors in the layout of its output."""
        inputs = [
            self.read(index, packed=outputs[0].packed and (not position or step.op not in PACKED))
            for position, index in enumerate(step.inputs)
        ]
        for tensor in inputs:
            self.copy(step, tensor)
        if step.op in KEEPS_LAYOUT:
            outputs[0].packed = inputs[0].packed
        shapes = tuple(
            tensor.shape
            for tensor, index in zip(inputs, step.inputs, strict=True)
            if not self.program.values[index].constant
        )
        self.emit(step, step.names, step.op, shapes, outputs[0].shape, **step.attrs)

    def _binary(self, step: Step, output: Tensor) -> None:
        """Emit an op of two operands. A smaller one is expanded by a copy, or read in a loop if it is plain.

        The layout is that of the operand with more axes. A constant is plain, whatever the converter planned.
        """
        tensors = [self.read(index, packed=output.packed) for index in step.inputs]
        output.packed = max(tensors, key=lambda tensor: len(tensor.shape)).packed
        if len(tensors) == 2 and all(prod(tensor.shape) > 1 for tensor in tensors):
            small = [prod(t.shape) != prod(output.shape) or t.packed != output.packed for t in tensors]
            floats = self.program.values[step.inputs[0]].dtype in {"fp32", "fp16", "bf16"}
            if output.packed or all(small) or not floats or "act" in step.attrs:
                tensors = [
                    Tensor(output.shape, output.packed, broadcast(tensor, output.shape)) if expand else tensor
                    for tensor, expand in zip(tensors, small, strict=True)
                ]
        for tensor in tensors:
            self.copy(step, tensor)
        known = [self.program.values[index].constant for index in step.inputs]
        shapes = tuple(tensor.shape for tensor, constant in zip(tensors, known, strict=True) if not constant)
        self.emit(step, step.names, step.op, shapes, output.shape, **step.attrs)

    def _where(self, step: Step, output: Tensor) -> None:
        """Emit a selection. Masks and operands that are smaller than the output are expanded by copies, not numbers."""
        tensors = [self.read(index, packed=output.packed) for index in step.inputs]
        for position, tensor in enumerate(tensors):
            if 1 < prod(tensor.shape) < prod(output.shape):
                tensors[position] = Tensor(output.shape, output.packed, broadcast(tensor, output.shape))
            self.copy(step, tensors[position])
        known = [self.program.values[index].constant for index in step.inputs]
        shapes = tuple(tensor.shape for tensor, constant in zip(tensors, known, strict=True) if not constant)
        self.emit(step, step.names, step.op, shapes, output.shape, **step.attrs)

    def _reduce(self, step: Step, output: Tensor) -> None:
        """Emit a reduction. Over several axes, MNN reduces one run of neighbours after another, as a single axis."""
        tensor = self.read(step.inputs[0], packed=False)
        value = step.attrs["axes"]
        axes = value if isinstance(value, tuple) else ()
        if len(axes) == 1:
            self.copy(step, tensor)
            self.emit(step, step.names, step.op, (tensor.shape,), output.shape, **step.attrs)
            return
        for shape in _runs(tensor.shape, axes):
            source = Tensor(shape, regions=[full(tensor)])
            self.copy(step, source)
            tensor = Tensor((shape[0], 1, shape[2]))
            self.emit(step, step.names, step.op, (shape,), tensor.shape, axes=(1,), keepdim=1)
        output.regions = [full(tensor)]

    def _selected(self, step: Step, output: Tensor) -> None:
        """Emit an op that MNN computes for all elements, positive or not, and then selects from."""
        tensor = self.read(step.inputs[0], packed=output.packed)
        self.copy(step, tensor)
        for op, attrs in _SELECTED[step.op]:
            self.emit(step, step.names, op, (tensor.shape,), tensor.shape, **attrs)
        self.emit(step, step.names, "where", (tensor.shape,) * 3, tensor.shape)

    def _is_split(self, step: Step) -> bool:
        """Whether a convolution has groups and is not depthwise. MNN splits it by groups."""
        groups, c_in = int(str(step.attrs["group"])), self.program.shape(step.inputs[0])[1]
        return groups not in {1, c_in} or (groups == c_in > 1 and self.program.shape(step.outputs[0])[1] != c_in)

    def _groups(self, step: Step, output: Tensor) -> None:
        """Emit a convolution for each group, each after a copy of the group's channels."""
        n_groups = int(str(step.attrs["group"]))
        source = self.read(step.inputs[0], packed=True)
        read, made = (
            [Tensor((shape[0], shape[1] // n_groups, *shape[2:]), packed=True) for _ in range(n_groups)]
            for shape in (source.shape, output.shape)
        )
        VIEWS["split"]([source], read, {"axis": 1})
        names = step.names
        for one, result in zip(read, made, strict=True):
            self.copy(step, one)
            self.emit(step, names, step.op, (one.shape,), result.shape, **(dict(step.attrs) | {"group": 1}))
            names = ()  # the node counts as part of the first convolution
        VIEWS["concat"](made, [output], {"axis": 1})


def _runs(shape: Shape, axes: Sequence[int]) -> list[tuple[int, int, int]]:
    """For each run of neighbouring axes that is reduced: the sizes before it, its own, and those after it."""
    left, runs, i = list(shape), list[tuple[int, int, int]](), 0
    while i < len(axes):
        first = last = axes[i]
        while i + 1 < len(axes) and axes[i + 1] == last + 1:
            i, last = i + 1, last + 1
        size = prod(left[first : last + 1])
        if size > 1:
            runs.append((prod(left[:first]), size, prod(left[last + 1 :])))
        left[first : last + 1] = [1] * (last + 1 - first)
        i += 1
    return runs or [(1, 1, prod(shape))]


def fuse_mnn(graph: OpGraph) -> tuple[KernelCall, ...]:
    """The kernels that MNN runs for `graph`, in order.

    Args:
        graph: Graph of one architecture, without open choices.

    Raises:
        GraphError: if a choice is open.
    """
    program = expanded(graph)
    join_templates(program)
    fold(program)
    run = _Run(program)
    for step in program.steps:
        run.place(step)
    return tuple(run.calls)
