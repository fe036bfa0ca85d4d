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
from math import prod
from pathlib import Path

from latency_nas.errors import GraphError
from latency_nas.graph.input_shapes import InputShape
from latency_nas.graph.normal_form.spellings import normalized
from latency_nas.graph.op_graph import OpGraph
from latency_nas.graph.paddle.builder import build
from latency_nas.graph.paddle.pdmodel import parse_pdmodel
from latency_nas.graph.paddle.pir import parse_pir
from latency_nas.graph.paddle.program import PaddleProgram
from latency_nas.graph.paddle.steps import with_additions
from latency_nas.kernel import DTYPES, Shape

__all__ = ["program_shapes", "read_paddle", "read_program", "read_with_sums"]

_PARSERS = {".pdmodel": parse_pdmodel, ".json": parse_pir}

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
    model_file: _Path, param_file: _Path | None = None, *, input_shape: InputShape | None = None
) -> OpGraph:
    """Read a Paddle inference model.

    Args:
        model_file: Program, ``.pdmodel`` or PIR ``.json``.
        param_file: Weights, ``.pdiparams``. The graph is read without them; if given, their file is checked.
        input_shape: Shape of the only input, or a mapping input -> shape, where the program has dynamic sizes. A
            dynamic batch is 1 by default.

    Returns:
        The graph. The name of each node ends in ``#`` and the operator's position in the file.

    Raises:
        GraphError: if a file is missing, truncated or malformed, or leaves a shape open.
        InputMismatchError: if `input_shape` does not fit the program.

    Example:
        >>> read_paddle("model.pdmodel", input_shape=(1, 3, 224, 224))  # doctest: +SKIP
    """
    return normalized(with_additions(read_with_sums(model_file, param_file, input_shape=input_shape)))


def read_with_sums(
    model_file: _Path, param_file: _Path | None = None, *, input_shape: InputShape | None = None
) -> OpGraph:
    """As `read_paddle`, not in normal form, and with a node of op ``paddle.sum`` for each sum of several tensors."""
    return build(read_program(model_file, param_file), str(model_file), input_shape).graph()


def program_shapes(program: PaddleProgram, source: _Path, *, input_shape: InputShape | None = None) -> dict[str, Shape]:
    """The shapes of all variables that a program uses, without open sizes.

    Args:
        program: Program of `read_program`.
        source: Name of the program in messages.
        input_shape: Shape of the input, as in `read_paddle`.

    Raises:
        GraphError: as `read_paddle`.
        InputMismatchError: as `read_paddle`.
    """
    builder = build(program, str(source), input_shape)
    return {name: builder.values[index].shape for name, index in builder.index.items()}
