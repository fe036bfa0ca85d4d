"""Reads Paddle's inference models, ``.pdmodel`` and PIR ``.json``, into an `OpGraph`, without Paddle.

Limitations:
1. Only the outermost block is read: a loop or a branch is one node, ``paddle.while``.
2. An unknown operator becomes ``paddle.name``. If its output's shape is open, it is refused.
3. Dropout is left out, in either of Paddle's modes.
4. Weights are not read. Their file must only exist and be long enough.
5. All tensors that the program keeps count as parameters, except running statistics, scales and zero points. A program
   does not distinguish a layer's buffers from its parameters.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod
from pathlib import Path

from latency_nas.errors import GraphError, InputMismatchError, KernelError, short_repr
from latency_nas.graph.int8 import in_int8
from latency_nas.graph.op_graph import Node, OpGraph, Value
from latency_nas.graph.paddle.biases import with_biases
from latency_nas.graph.paddle.ops import RANDOM, SIDE_SLOTS, Attrs, is_identity, operands, read_op
from latency_nas.graph.paddle.pdmodel import parse_pdmodel
from latency_nas.graph.paddle.pir import parse_pir
from latency_nas.graph.paddle.program import PaddleOp, PaddleProgram
from latency_nas.graph.paddle.shapes import infer_shapes
from latency_nas.graph.parameters import ParameterPart
from latency_nas.kernel import DTYPES, OPS, Kernel, Shape, shared_kernel

__all__ = ["program_shapes", "read_paddle", "read_program"]

_PARSERS = {".pdmodel": parse_pdmodel, ".json": parse_pir}
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

_Path = str | os.PathLike[str]


def read_program(model_file: _Path, param_file: _Path | None = None) -> PaddleProgram:
    """Read the operators and variables in the file of a Paddle inference model.

    Args:
        model_file: Program, ``.pdmodel`` or PIR ``.json``.
        param_file: Weights, ``.pdiparams``. The program is read without them; if given, their file is checked.

    Raises:
        GraphError: if a file is missing, truncated, or of another kind.
    """
    path = Path(model_file)
    if path.suffix not in _PARSERS:
        raise GraphError(f"Expected a Paddle program, .pdmodel or .json, but got {path}.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GraphError(f"Expected a Paddle program at {path}, but it cannot be read ({error.strerror}).") from error
    program = _PARSERS[path.suffix](data, str(path))
    if param_file is not None:
        _check_weights(path, Path(param_file), program)
    return program


def _check_weights(model: Path, weights: Path, program: PaddleProgram) -> None:
    """Refuse a file that is shorter than the tensors, which it contains one after another."""
    kept = [variable for variable in program.variables.values() if variable.persistable and variable.dtype in DTYPES]
    needed = sum(
        DTYPES[variable.dtype] * prod(variable.shape) for variable in kept if min(variable.shape, default=1) > 0
    )
    try:
        size = weights.stat().st_size
    except OSError as error:
        raise GraphError(
            f"Expected the weights of {model} at {weights}, but they cannot be read ({error.strerror})."
        ) from error
    if size < needed:
        raise GraphError(
            f"Expected {weights} to hold the {needed} bytes of weights that {model} names, but it has {size} bytes: "
            f"it is truncated or belongs to another model."
        )


def read_paddle(
    model_file: _Path, param_file: _Path | None = None, *, input_shape: Sequence[int] | None = None
) -> OpGraph:
    """Read a Paddle inference model.

    Args:
        model_file: Program, ``.pdmodel`` or PIR ``.json``.
        param_file: Weights, ``.pdiparams``. The graph is read without them; if given, their file is checked.
        input_shape: Shape of the input, where the program has dynamic sizes. A dynamic batch is 1 by default.

    Returns:
        The graph. The name of each node ends in ``#`` and the operator's position in the file.

    Raises:
        GraphError: if a file is missing, truncated or malformed, or leaves a shape open.
        InputMismatchError: if `input_shape` does not fit the program.

    Example:
        >>> read_paddle("model.pdmodel", input_shape=(1, 3, 224, 224))  # doctest: +SKIP
    """
    return _build(read_program(model_file, param_file), model_file, input_shape).graph()


def program_shapes(
    program: PaddleProgram, source: _Path, *, input_shape: Sequence[int] | None = None
) -> dict[str, Shape]:
    """The shapes of all variables that a program uses, without open sizes.

    Args:
        program: Program of `read_program`.
        source: Name of the program in messages.
        input_shape: Shape of the input, as in `read_paddle`.

    Raises:
        GraphError: as `read_paddle`.
        InputMismatchError: as `read_paddle`.
    """
    builder = _build(program, source, input_shape)
    return {name: builder.values[index].shape for name, index in builder.index.items()}


def _build(program: PaddleProgram, source: _Path, input_shape: Sequence[int] | None) -> _Builder:
    builder = _Builder(program, str(source), None if input_shape is None else tuple(input_shape))
    for number, op in enumerate(program.ops):
        try:
            builder.add(number, op)
        except _MALFORMED as error:
            if isinstance(error, GraphError):
                raise
            reason = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)
            raise GraphError(
                f"Expected the operators of {source} to fit each other, but number {number} ({op.type}) does not: "
                f"{reason}."
            ) from error
    return builder


class _Builder:
    """Makes nodes and values of operators, in order."""

    def __init__(self, program: PaddleProgram, source: str, input_shape: Shape | None) -> None:
        self.source = source
        self.input_shape = input_shape
        self.n_inputs = sum(op.type == "feed" for op in program.ops)
        self.variables = program.variables
        self.no_parameters = {
            name for op in program.ops for slot in _NO_PARAMETERS.get(op.type, ()) for name in op.inputs.get(slot, ())
        }
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self.index: dict[str, int] = {}
        self.sound: set[tuple[Shape, str]] = set()  # tensors that were checked before
        self.literals: set[int] = set()  # constants that the program states, and values computed only from them

    def add(self, number: int, op: PaddleOp) -> None:
        """Add the node of an operator; none if it computes a constant or changes nothing."""
        if op.type == "feed":
            (name,) = op.outputs["Out"]
            self.inputs.append(self.define(name, self.input_shape_of(name)))
            return
        known = self.index
        inputs = [known[name] if name in known else self.find(name) for name in operands(op)]
        if op.type == "fetch":
            self.outputs.extend(inputs)
            return
        values = self.values
        shapes = [values[index].shape for index in inputs]
        results = [name for slot, names in op.outputs.items() if slot not in SIDE_SLOTS for name in names]
        targets = self.shapes_of(results, op, shapes)
        if op.type not in RANDOM and all(values[index].constant for index in inputs):
            parts = tuple(dict.fromkeys(part for index in inputs for part in values[index].parts or ()))
            made = {self.define(name, shape, parts) for name, shape in zip(results, targets, strict=True)}
            self.literals |= made if self.literals.issuperset(inputs) else set()
        elif results and is_identity(op, shapes[:1], targets[0]):
            self.index[results[0]] = inputs[0]
        elif results:
            kind, attrs = self.read(op, inputs, shapes, targets[0])
            made_in_order = tuple(self.define(name, shape) for name, shape in zip(results, targets, strict=True))
            modules = (op.layer,) if op.layer else ()
            name = f"{op.layer}/{op.type}#{number}"
            node = Node(name=name, op=kind, attrs=attrs, inputs=tuple(inputs), outputs=made_in_order, modules=modules)
            self.kernel(node)
            self.nodes.append(node)

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

    def define(self, name: str, shape: Shape, parts: tuple[ParameterPart, ...] | None = None) -> int:
        """Add a value of a name; its index. The value is a constant if `parts` is not None."""
        variable = self.variables.get(name)
        dtype = variable.dtype if variable else "fp32"
        if (shape, dtype) not in self.sound:
            self.check(name, shape, dtype)
        parameter = name if variable and variable.persistable else ""
        constant = parts is not None
        self.values.append(Value(shape=shape, dtype=dtype, constant=constant, parameter=parameter, parts=parts))
        index = self.index[name] = len(self.values) - 1
        return index

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
        if self.input_shape is not None:
            fits = len(declared) == len(self.input_shape) and all(
                size in (-1, given) for size, given in zip(declared, self.input_shape, strict=True)
            )
            if self.n_inputs != 1 or not fits:
                raise InputMismatchError(
                    f"Expected `input_shape` to fit the one input of {self.source}, but it has {self.n_inputs}, "
                    f"{short_repr(name)} of shape {declared}, and `input_shape` is {short_repr(self.input_shape)}."
                )
            return self.input_shape
        shape = (1, *declared[1:]) if declared[:1] == (-1,) else declared
        if min(shape, default=0) < 0:
            raise GraphError(
                f"Expected the input {short_repr(name)} of {self.source} to have fixed sizes, but they are {declared}: "
                f"give `input_shape`."
            )
        return shape

    def shapes_of(self, names: Sequence[str], op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
        """The shapes of an operator's outputs: as declared, or inferred if the program leaves sizes open."""
        declared = [self.variables[name].shape if name in self.variables else (-1,) for name in names]
        if not [shape for shape in declared if shape and min(shape) < 0]:
            return declared
        inferred = list(infer_shapes(op, shapes))
        if len(inferred) != len(names):
            raise ValueError(f"it has {len(names)} results, and rules for {len(inferred)}")
        return inferred

    def kernel(self, node: Node) -> Kernel:
        """The kernel of a single node. Making it checks the shapes, while the operator's place in the file is known."""
        values = self.values
        shapes = tuple([values[index].shape for index in node.inputs if not values[index].constant])
        outputs = tuple([values[index].shape for index in node.outputs])
        return shared_kernel(node.op, shapes, outputs, tuple(node.attrs.items()), values[node.outputs[0]].dtype)

    def graph(self) -> OpGraph:
        """The graph of all operators that were read."""
        if not self.inputs or not self.outputs:
            raise GraphError(f"Expected {self.source} to have inputs and outputs (feed, fetch), but it lacks them.")
        values, nodes = tuple(self.values), tuple(self.nodes)
        graph = OpGraph(values=values, nodes=nodes, inputs=tuple(self.inputs), outputs=tuple(self.outputs))
        return in_int8(with_biases(graph), always=_QUANTISED).without_dead_nodes()
