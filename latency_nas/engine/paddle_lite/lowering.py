"""The kernels that Paddle-Lite itself runs for a Paddle program on ARM: the operators of its optimised program.

The optimiser runs on x86-64, in the Python that has Paddle-Lite, and gives a program as it runs on ARM.

Limitations:
1. Dropout and assignments are left out as everywhere, though Paddle-Lite runs them as copies. So are a squeeze or
   flatten before a linear layer, which moves nothing, and what is computed from shapes alone.
2. A recurrent operator counts as one kernel a layer. Other operators outside the vocabulary keep Paddle's name.
3. A PIR ``.json``, which Paddle-Lite cannot read, is first rewritten as a ``.pdmodel``, with random weights.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from latency_nas.engine.paddle_lite.environment import find_lite_python
from latency_nas.engine.paddle_lite.program import rewrite_for_lite
from latency_nas.errors import GraphError, KernelError
from latency_nas.graph.input_shapes import InputShape
from latency_nas.graph.op_graph import Value
from latency_nas.graph.paddle.builder import ProgramBuilder, build
from latency_nas.graph.paddle.ops import Attrs, operands, read_op
from latency_nas.graph.paddle.program import PaddleOp, PaddleProgram, PaddleVariable
from latency_nas.graph.paddle.reader import read_paddle, read_program
from latency_nas.graph.paddle.writer import write_paddle
from latency_nas.kernel import Kernel, Shape, shared_kernel
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["lower_lite"]

_LIMIT_S = 600
# memory_optimize_pass gives variables the memory, and the name, of others: shapes would be of the last user
_SCRIPT = """
import sys
from paddlelite.lite import CxxConfig, Place, PrecisionType, TargetType, create_paddle_predictor
model, weights, folder = sys.argv[1:]
config = CxxConfig()
config.set_model_file(model)
config.set_param_file(weights)
kinds = (PrecisionType.FP32, PrecisionType.INT32, PrecisionType.INT64)
config.set_valid_places([Place(TargetType.ARM, kind) for kind in kinds] + [Place(TargetType.Host, PrecisionType.FP32)])
config.add_discarded_pass("memory_optimize_pass")
create_paddle_predictor(config).save_optimized_pb_model(folder)
"""
_FLATTENS = frozenset({"flatten_contiguous_range", "squeeze2", "reshape2"})
_COPIES = frozenset({"feed", "fetch", "dropout", "assign"})
_RECURRENT = frozenset({"lstm", "gru", "rnn"})
_BINARY = frozenset({"add", "sub", "mul", "div"})


def lower_lite(file: Path, input_shape: InputShape | None = None) -> tuple[KernelCall, ...]:
    """The kernels that Paddle-Lite's optimiser makes of a program for ARM, in order.

    Args:
        file: Program, a ``.pdmodel`` with its ``.pdiparams`` beside it, or a PIR ``.json``.
        input_shape: Shape of the only input, or a mapping input -> shape; needed where the program leaves sizes open.

    Raises:
        GraphError: if the program cannot be read, or Paddle-Lite cannot optimise it.
        InputMismatchError: if a size of an input is neither in the program nor given.
        MeasureError: if a ``.json`` has operators that cannot be rewritten.
        MissingExtraError: if there is no Python with Paddle-Lite.
    """
    with TemporaryDirectory() as folder:
        model, weights = _for_lite(file, Path(folder), input_shape)
        program = _optimised(file, model, weights, Path(folder) / "optimised")
    try:
        return _kernels(program, f"the optimised program of {file}", input_shape)
    except (KernelError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, GraphError):
            raise
        raise GraphError(f"Expected the optimised program of {file} to have valid kernels. {error}") from error


def _for_lite(file: Path, folder: Path, input_shape: InputShape | None) -> tuple[Path, Path]:
    """The files of a program that Paddle-Lite can read, and of its weights."""
    model, weights = folder / "model.pdmodel", file.with_suffix(".pdiparams")
    if file.suffix == ".pdmodel":
        if not weights.is_file():
            raise GraphError(f"Expected the weights of {file} at {weights}, but they are not there.")
        model.write_bytes(rewrite_for_lite(file.read_bytes()))
        return model, weights
    program, data = write_paddle(read_paddle(file, input_shape=input_shape))
    weights = folder / "model.pdiparams"
    model.write_bytes(program)
    weights.write_bytes(data)
    return model, weights


def _optimised(file: Path, model: Path, weights: Path, target: Path) -> PaddleProgram:
    command = [str(part) for part in (find_lite_python(), "-c", _SCRIPT, model, weights, target)]
    try:
        run = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)  # noqa: S603 - our own script
    except subprocess.TimeoutExpired as error:
        raise GraphError(f"Expected Paddle-Lite to optimise {file} within {_LIMIT_S} s, but it did not.") from error
    if run.returncode:  # it ends by aborting
        said = next((line for line in reversed(run.stderr.decode(errors="replace").splitlines()) if line.strip()), "")
        raise GraphError(
            f"Expected Paddle-Lite to optimise {file}, but it ends with exit status {run.returncode}: {said[:300]}"
        )
    made = target.with_suffix(".pdmodel")
    (target / "model").rename(made)
    return read_program(made)


def _kernels(program: PaddleProgram, source: str, input_shape: InputShape | None) -> tuple[KernelCall, ...]:
    plain = replace(program, ops=tuple(replace(op, type=_plain(op.type)) for op in program.ops))
    built = build(replace(plain, variables=_merged(plain)), source, input_shape)
    values = {name: built.values[index] for name, index in built.index.items()}
    readers = {name: op for op in program.ops for names in op.inputs.values() for name in names}
    calls = []
    for number, op in enumerate(program.ops):
        if not _is_skipped(op, values, readers):
            kernels = _layers(built, number) if op.type == "rnn" else []
            layer, name = op.layer, f"{op.layer}/{op.type}#{number}"
            calls += [
                KernelCall(kernel=kernel, layer=layer, nodes=(name,), reader=name)
                for kernel in kernels or [_kernel(op, values)]
            ]
    return tuple(calls)


def _is_skipped(op: PaddleOp, values: Mapping[str, Value], readers: Mapping[str, PaddleOp]) -> bool:
    if op.type in _FLATTENS:
        (made,) = op.outputs["Out"]
        after = readers.get(made, op)
        after = readers.get(after.outputs["Out"][0], op) if after.type == "dropout" else after
        if after.type == "fc" and len(values[made].shape) == 2:
            return True
    return op.type in _COPIES or all(values[name].constant for name in _results(op))


def _merged(program: PaddleProgram) -> Mapping[str, PaddleVariable]:
    """The variables, with weights of merged convolutions as large as their bias: their own shape is the first one's."""
    variables = dict(program.variables)
    for op in program.ops:
        if op.type in ("conv2d", "depthwise_conv2d") and "Bias" in op.inputs:
            ((bias,), (weight,)) = op.inputs["Bias"], op.inputs["Filter"]
            shape = (*variables[bias].shape, *variables[weight].shape[1:])
            variables[weight] = replace(variables[weight], shape=shape)
    return variables


def _plain(kind: str) -> str:
    """The operator whose activation was merged into it."""
    return kind.removeprefix("fusion_").removesuffix("_activation")


def _results(op: PaddleOp) -> list[str]:
    return [name for slot in ("Output", "Out", "Y") for name in op.outputs.get(slot, ())]


def _layers(built: ProgramBuilder, number: int) -> list[Kernel]:
    """The layers of a recurrent operator."""
    return [built.kernel(node) for node in built.nodes if node.op in _RECURRENT and node.name.endswith(f"#{number}")]


def _kernel(op: PaddleOp, values: Mapping[str, Value]) -> Kernel:
    def shape(name: str) -> Shape:
        return values[name].shape

    results = _results(op)
    out, dtype = tuple(map(shape, results)), values[results[0]].dtype
    names = [name for name in operands(op) if name not in op.inputs.get("Bias", ())]
    act = op.attrs.get("act_type") or op.attrs.get("activation_type") or ""
    more: Attrs = {"act": act} if act else {}
    if op.type == "fc":  # whose in_num_col_dims is 1 whatever its input
        source, n_inputs = shape(op.inputs["Input"][0]), shape(op.inputs["W"][0])[0]
        rows = source if source[-1] == n_inputs else (source[0], n_inputs)
        attrs = {"bias": int("Bias" in op.inputs), **more}
        return shared_kernel("linear", (rows,), out, tuple(attrs.items()), dtype)
    name, attrs = read_op(replace(op, type=_plain(op.type)), [shape(item) for item in names], out[0])
    if name in ("conv2d", "conv_transpose2d"):
        attrs["bias"] = int("Bias" in op.inputs)
    whole = name == "matmul" or name in _BINARY
    inputs = [shape(item) for item in names if whole or not values[item].constant]
    if name in _BINARY and (axis := int(op.attrs.get("axis", -1))) >= 0 and len(inputs[1]) < len(inputs[0]):
        inputs[1] = inputs[1] + (1,) * (len(inputs[0]) - axis - len(inputs[1]))
    if op.type == "scale":
        name, attrs = "paddle.scale", {}
    return shared_kernel(name, tuple(inputs), out, tuple((attrs | more).items()), dtype)
