"""Reads a ``.mnn`` file into an `OpGraph`, without MNN.

Limitations:
1. Ops whose shapes do not follow from the types in `latency_nas.graph.mnn.ops` are refused by name. MNN itself, where
   it is installed, takes these too (``LatencyEstimator.predict(..., kernels="engine")``).
2. The file does not say which constants were parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from latency_nas.errors import GraphError, KernelError
from latency_nas.graph.input_shapes import InputShape
from latency_nas.graph.mnn.known_numbers import Numbers, fold
from latency_nas.graph.mnn.model_file import MnnFile, MnnOp, read_mnn_file
from latency_nas.graph.mnn.ops import Call, Step, read_call
from latency_nas.graph.mnn.schema import DTYPES
from latency_nas.graph.mnn.windows import Attrs
from latency_nas.graph.normal_form.no_ops import is_idle_move
from latency_nas.graph.normal_form.spellings import into_parts
from latency_nas.graph.op_graph import Node, OpGraph, Value
from latency_nas.kernel import Shape

__all__ = ["read_mnn"]

_OF_MATMUL = "__matmul_converted"  # end of the names of convolutions that the converter makes of products
_N_FLOATS = 8
_OPERANDS = frozenset({
    "add", "sub", "mul", "div", "maximum", "minimum", "pow", "mod", "equal", "not_equal", "greater", "greater_equal",
    "less", "less_equal", "logical_and", "logical_or", "logical_xor", "matmul", "concat",
})  # fmt: skip


class _Builder:
    """Makes the values and nodes of the graph, one op after another."""

    def __init__(self, file: MnnFile, sizes: dict[str, Shape]) -> None:
        self.file, self.sizes = file, sizes
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self.inputs: list[int] = []
        self.index: dict[int, int] = {}  # tensor of the file -> value of the graph
        self.numbers: dict[int, Numbers] = {}
        self.floats: dict[int, tuple[float, ...]] = {}  # the first ones of each constant
        self._reshaped: dict[int, int] = {}  # output of a reshape -> its input

    def add(self, tensor: int, shape: Shape, dtype: str = "fp32") -> int:
        """Make the value of a tensor."""
        self.index[tensor] = self._new(shape, dtype, constant=tensor in self.file.constants)
        return self.index[tensor]

    def place(self, op: MnnOp) -> None:
        """Read an op."""
        fields = op.attributes
        if op.type == "Input":
            shape = self.sizes[self.file.tensors[op.outputs[0]]]
            self.inputs.append(self.add(op.outputs[0], shape, DTYPES.get(fields.get("dtype", 1), "fp32")))
        elif op.type in {"Const", "TrainableParam"}:
            shape = tuple(fields.get("dims", ()))
            self.add(op.outputs[0], shape, DTYPES.get(fields.get("dataType", 1), "fp32"))
            self.floats[op.outputs[0]] = fields.get("float32s", ())[:_N_FLOATS]
            if fields.get("int32s"):
                self.numbers[op.outputs[0]] = np.array(fields["int32s"], np.int64).reshape(shape)
        else:
            self._compute(op)

    def _compute(self, op: MnnOp) -> None:
        inputs = [index for index in op.inputs if index >= 0]
        shapes, numbers = [self._value(index).shape for index in inputs], [self.numbers.get(index) for index in inputs]
        found = fold(op, numbers, shapes)
        if found is not None:
            self.numbers[op.outputs[0]] = found
            self.add(op.outputs[0], found.shape, "int32")
            return
        constants = [index in self.file.constants for index in inputs]
        floats = [self.floats.get(index, ()) for index in inputs]
        step = read_call(Call(op, shapes, numbers, floats, constants))
        if step is None:
            raise GraphError(
                f"Expected ops of {self.file.name} whose shapes follow without MNN, but `{op.name}` is {op.type}: read "
                f"the file that it was converted from, or install MNN and ask it (--kernels engine)."
            )
        source = self._value(inputs[0])
        if not step.op or is_idle_move(step.op, step.attrs, source, replace(source, shape=step.shapes[0])):
            self.index[op.outputs[0]] = self.index[inputs[0]]
            return
        dtype = source.dtype
        sources = tuple(self.index[index] for index in inputs)
        taken = sources if step.op in _OPERANDS else sources[:1]
        if op.name.endswith(_OF_MATMUL) and (linear := self._linear(step, taken[0])) is not None:
            step, taken = linear
        if step.before is not None:
            whole = (self._new(step.before, dtype),)
            self._append(op, step.op, step.attrs, taken, whole)
            step, taken = Step("reshape", {}, step.shapes), whole
        outputs = tuple([self.add(*pair, dtype) for pair in zip(op.outputs, step.shapes, strict=False)])
        self._append(op, step.op, step.attrs, taken, outputs)

    def _linear(self, step: Step, source: int) -> tuple[Step, tuple[int, ...]] | None:
        """A convolution that the converter made of a product, as the product; None if its input is another."""
        n_features, given = self.values[source].shape[1], self._reshaped.get(source, source)
        shape = self.values[given].shape
        if not shape or shape[-1] != n_features:
            return None
        attrs = {name: value for name, value in step.attrs.items() if name in {"bias", "act"}}
        return Step("linear", attrs, ((*shape[:-1], step.shapes[0][1]),)), (given,)

    def _append(self, op: MnnOp, name: str, attrs: Attrs, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        node = Node(name=f"{op.name}/{name}", op=name, attrs=attrs, inputs=inputs, outputs=outputs, modules=(op.name,))
        by_number = len(op.inputs) == 1 and not op.attributes.get("slicePoints")
        self.nodes.append(into_parts(node) if name == "split" and by_number else node)
        if name == "reshape":
            self._reshaped[outputs[0]] = inputs[0]

    def _new(self, shape: Shape, dtype: str, *, constant: bool = False) -> int:
        self.values.append(Value(shape=shape, dtype=dtype, constant=constant))
        return len(self.values) - 1

    def _value(self, tensor: int) -> Value:
        if tensor not in self.index:
            raise ValueError(f"tensor {tensor} is read before it is made")
        return self.values[self.index[tensor]]


def read_mnn(source: str | Path, *, input_shape: InputShape | None = None) -> OpGraph:
    """Read a ``.mnn`` file.

    Args:
        source: File.
        input_shape: Shape of the only input, or a mapping input -> shape; needed where the file leaves sizes open.

    Returns:
        The graph. The module of each op is the file's op.

    Raises:
        GraphError: if the file is damaged, or has an op whose shapes cannot be computed.
        InputMismatchError: if the input does not fit, or a size is neither in the file nor given.
    """
    file = read_mnn_file(Path(source))
    builder = _Builder(file, file.sizes(input_shape))
    for op in file.ops:
        try:
            builder.place(op)
        except GraphError:
            raise
        except (ArithmeticError, IndexError, KeyError, MemoryError, TypeError, ValueError) as error:
            raise GraphError(f"Expected `{op.name}` of {file.name} to be a valid {op.type}, but {error}.") from error
    return _checked(builder, file)


def _checked(builder: _Builder, file: MnnFile) -> OpGraph:
    tensors: Sequence[str] = file.tensors
    places = {name: index for index, name in enumerate(tensors)}
    outputs = [builder.index.get(places.get(name, -1)) for name in file.outputs]
    if not outputs or None in outputs:
        raise file_error(file, f"it makes no {', '.join(file.outputs) or 'output'}")
    graph = OpGraph(
        values=tuple(builder.values),
        nodes=tuple(builder.nodes),
        inputs=tuple(builder.inputs),
        outputs=tuple(index for index in outputs if index is not None),
    ).without_dead_nodes()
    for node in graph.nodes:
        try:
            graph.kernel(node)
        except KernelError as error:
            raise GraphError(f"Expected `{node.name}` of {file.name} to be a valid kernel. {error}") from error
    return graph


def file_error(file: MnnFile, reason: str) -> GraphError:
    """The error of a file that does not hold together."""
    return GraphError(f"Expected {file.name} to be a whole .mnn file, but {reason}.")
