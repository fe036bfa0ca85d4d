"""Makes the nodes and values of a Paddle program's operators, in order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from latency_nas.errors import GraphError, InputMismatchError, KernelError, short_repr
from latency_nas.graph.input_shapes import InputShape
from latency_nas.graph.int8 import in_int8
from latency_nas.graph.normal_form.computed_weights import by_weights
from latency_nas.graph.normal_form.no_ops import number_in
from latency_nas.graph.op_graph import Node, OpGraph, Value
from latency_nas.graph.paddle.biases import with_biases
from latency_nas.graph.paddle.folding import Numbers, compute, typed, with_numbers
from latency_nas.graph.paddle.literals import LIKE, filled, scale_number, stated_number
from latency_nas.graph.paddle.ops import RANDOM, SIDE_SLOTS, Attrs, is_identity, made_by, operands, read_op
from latency_nas.graph.paddle.program import PaddleOp, PaddleProgram, shapes_by_name
from latency_nas.graph.paddle.shapes import infer_shapes, why_not_inferred
from latency_nas.graph.paddle.steps import read_steps
from latency_nas.graph.parameters import ParameterPart
from latency_nas.kernel import DTYPES, OPS, WITH_SIDE_OUTPUTS, Kernel, Shape, shared_kernel

__all__ = ["ProgramBuilder", "build"]

_MALFORMED = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, KernelError)
_MAX_SIZES, _LARGEST = 8, 2**31  # of a kernel's shapes
# Paddle-Lite has kernels of these ops that read int8 and write fp32.
_QUANTISED = frozenset({"conv2d", "conv_transpose2d", "linear"})

# operator -> slots of kept variables that training does not change by gradients
_NO_PARAMETERS: dict[str, tuple[str, ...]] = {
    "batch_norm": ("Mean", "Variance"),
    "sync_batch_norm": ("Mean", "Variance"),
    "quantize_linear": ("Scale", "ZeroPoint", "InAccum", "InState"),
    "dequantize_linear": ("Scale", "ZeroPoint", "InAccum", "InState"),
}


def build(program: PaddleProgram, source: str, input_shape: InputShape | None) -> ProgramBuilder:
    """Add all operators of a program.

    Args:
        program: Program.
        source: Name of the program in messages.
        input_shape: Shape of the only input, or a mapping input -> shape.

    Raises:
        GraphError: if an operator does not fit the others, or leaves a shape open.
        InputMismatchError: if `input_shape` does not fit the program.
    """
    builder = ProgramBuilder(program, source, shapes_by_name(program, source, input_shape))
    with np.errstate(all="ignore"):  # numbers of a damaged program
        for number, op in enumerate(program.ops):
            _add(builder, number, op)
    return builder


def _add(builder: ProgramBuilder, number: int, op: PaddleOp) -> None:
    try:
        builder.add(number, op)
    except _MALFORMED as error:
        if isinstance(error, GraphError):
            raise
        reason = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)
        raise GraphError(
            f"Expected the operators of {builder.source} to fit each other, but number {number} ({op.type}) does not: "
            f"{reason}."
        ) from error


class ProgramBuilder:
    """Makes nodes and values of operators, in order."""

    def __init__(self, program: PaddleProgram, source: str, input_shapes: Mapping[str, Shape]) -> None:
        self.source = source
        self.input_shapes = input_shapes
        self.variables = program.variables
        self.no_parameters = {
            name for op in program.ops for slot in _NO_PARAMETERS.get(op.type, ()) for name in op.inputs.get(slot, ())
        }
        self.read_names = program.variables.keys() & {name for op in program.ops for name in operands(op)}
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self.index: dict[str, int] = {}
        self.sound: set[tuple[Shape, str]] = set()  # tensors that were checked before
        self.literals: set[int] = set()  # constants that the program states, and values computed only from them
        self.numbers: dict[str, Numbers] = {}  # name of a variable -> its numbers, where they follow from shapes

    def add(self, number: int, op: PaddleOp) -> None:
        """Add the node of an operator; none if it computes a constant or changes nothing."""
        if op.type == "feed":
            (name,) = op.outputs["Out"]
            self.inputs.append(self.define(name, self.input_shape_of(name)))
            return
        op, known = with_numbers(op, self.numbers) if self.numbers else op, self.index
        names = operands(op)
        inputs, values = [known[name] if name in known else self.find(name) for name in names], self.values
        if op.type == "fetch":
            self.outputs.extend(inputs)
            return
        shapes = [values[index].shape for index in inputs]
        axis = op.attrs.get("axis", -1) if op.type.startswith("elementwise_") else -1
        if axis >= 0 and values[inputs[1]].constant and 0 < len(shapes[1]) < len(shapes[0]) - axis:
            shapes[1] = shapes[1] + (1,) * (len(shapes[0]) - axis - len(shapes[1]))
            inputs[1] = self.define("", shapes[1], values[inputs[1]].parts)
        results = made_by(op)
        numbers = compute(op, names, shapes, self.numbers)
        if numbers is not None and len(numbers) == len(results):
            self.state(results, numbers)
            return
        targets = self.shapes_of(results, op, shapes)
        made = dict(zip(results, targets, strict=True)) | self.side_results(op)
        if op.type in LIKE:
            self.set_literal(self.define(results[0], targets[0], ()), filled(op, [values[index] for index in inputs]))
        elif op.type not in RANDOM and all(values[index].constant for index in inputs):
            constants = [self.define(name, shape, self.parts(inputs)) for name, shape in made.items()]
            for index in constants if self.literals.issuperset(inputs) else ():
                stated = stated_number(op, *read_op(op, shapes, targets[0]), [values[index] for index in inputs])
                self.set_literal(index, stated)
        elif results and is_identity(op, shapes[:1], targets[0]):
            for name, shape in list(made.items())[1:]:  # the mask of a dropout, which drops nothing
                self.define(name, shape, ())
            self.index[results[0]] = inputs[0]
        elif results and not self.add_steps(number, op, inputs, results, targets):
            kind, attrs = self.read(op, inputs, shapes, targets[0])
            outputs = [self.define(*item) for item in made.items()]
            self.emit(f"#{number}", op, kind, attrs, inputs, outputs)
            if kind == "mul" and scale_number(op, kind) == 0:
                self.values[outputs[0]] = replace(self.values[outputs[0]], number=0.0, literal=True)

    def side_results(self, op: PaddleOp) -> dict[str, Shape]:
        """The shapes of results that only few programs read, and this one does."""
        names = {name for slot in SIDE_SLOTS & op.outputs.keys() for name in op.outputs[slot]} & self.read_names
        return {name: self.variables[name].shape for name in sorted(names) if not self.variables[name].persistable}

    def add_steps(
        self, number: int, op: PaddleOp, inputs: Sequence[int], results: Sequence[str], targets: Sequence[Shape]
    ) -> bool:
        """Add the nodes of an operator that is read as several; False if it is not."""
        count = itertools.count()

        def emit(kind: str, attrs: Attrs, sources: Sequence[int], shape: Shape) -> int:
            dtype = self.variables[results[0]].dtype
            if all(self.values[index].constant for index in sources):
                return self.define("", shape, self.parts(sources), dtype=dtype)
            made = self.define("", shape, dtype=dtype)
            self.emit(f".{next(count)}#{number}", op, kind, attrs, sources, [made])
            return made

        made = read_steps(op, inputs, self.values, targets, emit)
        if made is None:
            return False
        for name, index, shape in zip(results, made, targets, strict=True):
            if self.values[index].shape != shape:
                raise ValueError(f"its result is {self.values[index].shape} and not {shape}")
            self.numbers.pop(name, None)
            self.index[name] = index
        return True

    def emit(
        self, suffix: str, op: PaddleOp, kind: str, attrs: Attrs, inputs: Sequence[int], outputs: Sequence[int]
    ) -> None:
        """Add a node of an operator."""
        node = Node(
            name=f"{op.layer}/{op.type}{suffix}", op=kind, attrs=attrs, inputs=tuple(inputs), outputs=tuple(outputs),
            modules=(op.layer,) if op.layer else (),
        )  # fmt: skip
        self.nodes.append(by_weights(node, self.values))
        self.kernel(self.nodes[-1])

    def state(self, names: Sequence[str], numbers: Sequence[Numbers]) -> None:
        """Define variables of known numbers."""
        for name, item in zip(names, numbers, strict=True):
            index = self.define(name, item.shape, ())
            self.set_literal(index, number_in(item))
            self.numbers[name] = typed(item, self.values[index].dtype)

    def set_literal(self, index: int, number: float | None) -> None:
        """Record that a constant is of the program's code, with the number that all its elements are."""
        self.literals.add(index)
        if number is not None:
            self.values[index] = replace(self.values[index], number=number, literal=True)

    def read(self, op: PaddleOp, inputs: Sequence[int], shapes: Sequence[Shape], target: Shape) -> tuple[str, Attrs]:
        """The op and attributes of an operator, corrected where operands are weights or numbers."""
        kind, attrs = read_op(op, shapes, target)
        if kind == "matmul" and self.values[inputs[1]].constant and len(shapes[1]) == 2 and not op.attrs.get("trans_x"):
            return "linear", {"bias": 0}
        if (
            self.literals
            and "scalar" in OPS.get(kind, ((), ()))[1]
            and any(index in self.literals and prod(self.values[index].shape) == 1 for index in inputs)
        ):
            attrs = {**attrs, "scalar": 1}
        return kind, attrs

    def find(self, name: str) -> int:
        """Index of the value of a weight: a variable that no operator has computed."""
        variable = self.variables.get(name)
        if variable is None or not variable.persistable:
            raise GraphError(
                f"Expected each operator of {self.source} to read weights or what an earlier operator made, "
                f"but {short_repr(name)} is neither."
            )
        whole = (ParameterPart(name, (prod(variable.shape),)),)
        return self.define(name, variable.shape, () if name in self.no_parameters else whole)

    def define(
        self, name: str, shape: Shape, parts: tuple[ParameterPart, ...] | None = None, *, dtype: str = "fp32"
    ) -> int:
        """Add a value of a name, or of none; its index. The value is a constant if `parts` is not None.

        `dtype` is used where the program has no variable of the name.
        """
        self.numbers.pop(name, None)
        variable = self.variables.get(name)
        dtype = variable.dtype if variable else dtype
        if (shape, dtype) not in self.sound:
            self.check(name, shape, dtype)
        parameter = name if variable and variable.persistable else ""
        constant = parts is not None
        self.values.append(Value(shape=shape, dtype=dtype, constant=constant, parameter=parameter, parts=parts))
        index = len(self.values) - 1
        if name:
            self.index[name] = index
        return index

    def parts(self, inputs: Sequence[int]) -> tuple[ParameterPart, ...]:
        """The parts of parameters that constants hold."""
        return tuple(dict.fromkeys(part for index in inputs for part in self.values[index].parts or ()))

    def check(self, name: str, shape: Shape, dtype: str) -> None:
        """Check that kernels can have a tensor of this type and shape."""
        if dtype not in DTYPES:
            raise GraphError(
                f"Expected tensors of type {', '.join(DTYPES)} in {self.source}, but {short_repr(name)} is {dtype}."
            )
        if len(shape) > _MAX_SIZES or (shape and not 0 <= min(shape) <= max(shape) <= _LARGEST):
            raise GraphError(
                f"Expected tensors of {self.source} to have at most {_MAX_SIZES} sizes from 0 to 2^31, "
                f"but {short_repr(name)} has {short_repr(shape)}."
            )
        self.sound.add((shape, dtype))

    def input_shape_of(self, name: str) -> Shape:
        """The shape of an input: as the caller gave it, or as declared, with 1 for an open batch."""
        declared = self.variables[name].shape
        given = self.input_shapes.get(name)
        if given is not None:
            fits = len(declared) == len(given) and all(
                size in (-1, wanted) for size, wanted in zip(declared, given, strict=True)
            )
            if not fits:
                raise InputMismatchError(
                    f"Expected `input_shape` to fit the input {short_repr(name)} of {self.source}, whose shape is "
                    f"{declared}, but got {short_repr(given)}."
                )
            return given
        shape = (1, *declared[1:]) if declared[:1] == (-1,) else declared
        if min(shape, default=0) < 0:
            raise GraphError(
                f"Expected the input {short_repr(name)} of {self.source} to have fixed sizes, but they are {declared}: "
                f"give `input_shape`."
            )
        return shape

    def shapes_of(self, names: Sequence[str], op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
        """The shapes of an operator's outputs. Declared shapes are used only where there is no rule."""
        reason = why_not_inferred(op)
        if not reason:
            inferred = list(infer_shapes(op, shapes))
            if len(inferred) != len(names):
                raise ValueError(f"it has {len(names)} results, and rules for {len(inferred)}")
            return inferred
        declared = [self.variables[name].shape if name in self.variables else (-1,) for name in names]
        if any(min(shape, default=0) < 0 for shape in declared):
            raise ValueError(reason)
        return declared

    def kernel(self, node: Node) -> Kernel:
        """The kernel of a single node. Making it checks the shapes, while the operator's place in the file is known."""
        values = self.values
        shapes = tuple([values[index].shape for index in node.inputs if not values[index].constant])
        outputs = tuple([values[index].shape for index in node.outputs[: 1 if node.op in WITH_SIDE_OUTPUTS else None]])
        return shared_kernel(node.op, shapes, outputs, tuple(node.attrs.items()), values[node.outputs[0]].dtype)

    def graph(self) -> OpGraph:
        """The graph of all operators that were read."""
        if not self.inputs or not self.outputs:
            raise GraphError(f"Expected {self.source} to have inputs and outputs (feed, fetch), but it lacks them.")
        values, nodes = tuple(self.values), tuple(self.nodes)
        graph = OpGraph(values=values, nodes=nodes, inputs=tuple(self.inputs), outputs=tuple(self.outputs))
        return in_int8(with_biases(graph), always=_QUANTISED).without_dead_nodes()
