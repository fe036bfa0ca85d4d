"""The kernels of the program that Paddle-Lite's own optimiser makes for ARM, by another interpreter."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from latency_nas.engine.paddle_lite.program import rewrite_for_lite
from latency_nas.graph import Value
from latency_nas.graph.paddle.builder import build
from latency_nas.graph.paddle.ops import operands, read_op
from latency_nas.graph.paddle.program import PaddleOp, PaddleProgram, PaddleVariable
from latency_nas.graph.paddle.reader import read_program
from latency_nas.kernel import Kernel, Shape

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


def optimised(python: Path, model: Path, folder: Path) -> PaddleProgram:
    """What opt makes of a ``.pdmodel`` and the ``.pdiparams`` beside it."""
    target = folder / f"{model.stem}-lite"
    rewritten = folder / f"{model.stem}-rewritten.pdmodel"
    rewritten.write_bytes(rewrite_for_lite(model.read_bytes()))
    command = [python, "-c", _SCRIPT, rewritten, model.with_suffix(".pdiparams"), target]
    subprocess.run(command, check=True, capture_output=True, timeout=2000)  # noqa: S603 - this test's own script
    (target / "model").rename(target / "model.pdmodel")
    return read_program(target / "model.pdmodel")


def kernels(program: PaddleProgram, input_shape: Shape | None = None) -> Counter[str]:
    """The kernels of an optimised program.

    Dropout and assignments, copies there, are left out as everywhere, and so is a squeeze or flatten before `fc` that
    was not taken into it, and what is computed from shapes alone.

    Args:
        program: Program that the optimiser made.
        input_shape: Shape of the input, where the program leaves it open.
    """
    plain = replace(program, ops=tuple(replace(op, type=_plain(op.type)) for op in program.ops))
    built = build(replace(plain, variables=_merged(plain)), "the optimised program", input_shape)
    values = {name: built.values[index] for name, index in built.index.items()}
    readers = {name: op for op in program.ops for names in op.inputs.values() for name in names}

    def skipped(op: PaddleOp) -> bool:
        if op.type in ("flatten_contiguous_range", "squeeze2", "reshape2"):
            (made,) = op.outputs["Out"]
            after = readers[made]
            after = readers[after.outputs["Out"][0]] if after.type == "dropout" else after
            return after.type == "fc" and len(values[made].shape) == 2
        return op.type in ("feed", "fetch", "dropout", "assign") or all(values[name].constant for name in _results(op))

    return Counter(_kernel(op, values).key for op in program.ops if not skipped(op))


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
    return kind.removeprefix("fusion_").removesuffix("_activation")


def _results(op: PaddleOp) -> list[str]:
    return [name for slot in ("Output", "Out", "Y") for name in op.outputs.get(slot, ())]


def _kernel(op: PaddleOp, values: Mapping[str, Value]) -> Kernel:
    def shape(name: str) -> Shape:
        return values[name].shape

    out = [shape(name) for name in _results(op)]
    names = [name for name in operands(op) if name not in op.inputs.get("Bias", ())]
    act = op.attrs.get("act_type") or op.attrs.get("activation_type") or ""
    more = {"act": act} if act else {}
    if op.type == "fc":  # whose in_num_col_dims is 1 whatever its input
        (source,), n_inputs = map(shape, op.inputs["Input"]), shape(op.inputs["W"][0])[0]
        rows = source if source[-1] == n_inputs else (source[0], n_inputs)
        return Kernel.of("linear", [rows], out, bias=int("Bias" in op.inputs), **more)
    plain = replace(op, type=_plain(op.type))
    name, attrs = read_op(plain, [shape(item) for item in names], out[0])
    if name == "conv2d" or name == "conv_transpose2d":
        attrs["bias"] = int("Bias" in op.inputs)
    whole = name in ("matmul", "add", "sub", "mul", "div")
    inputs = [shape(item) for item in names if whole or not values[item].constant]
    if whole and name != "matmul" and (axis := int(op.attrs.get("axis", -1))) >= 0 and len(inputs[1]) < len(inputs[0]):
        inputs[1] = inputs[1] + (1,) * (len(inputs[0]) - axis - len(inputs[1]))
    if name in ("mul", "add") and op.type == "scale":
        name, attrs = "paddle.scale", {}
    return Kernel.of(name, inputs, out, **attrs, **more)
