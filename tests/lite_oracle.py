"""The kernels of the program that Paddle-Lite's own optimiser makes for ARM, by another interpreter."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

from latency_nas.engine.paddle_lite.program import rewrite_for_lite
from latency_nas.graph.paddle.ops import operands, read_op
from latency_nas.graph.paddle.program import PaddleOp, PaddleProgram
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


def kernels(program: PaddleProgram) -> Counter[str]:
    """The kernels of an optimised program.

    Dropout, a copy there, is left out as everywhere, and so is a squeeze or flatten before `fc` that was not taken
    into it.
    """
    readers = {name: op for op in program.ops for names in op.inputs.values() for name in names}

    def skipped(op: PaddleOp) -> bool:
        if op.type in ("flatten_contiguous_range", "squeeze2", "reshape2"):
            (made,) = op.outputs["Out"]
            after = readers[made]
            after = readers[after.outputs["Out"][0]] if after.type == "dropout" else after
            return after.type == "fc" and len(program.variables[made].shape) == 2
        return op.type in ("feed", "fetch", "dropout")

    return Counter(_kernel(op, program).key for op in program.ops if not skipped(op))


def _kernel(op: PaddleOp, program: PaddleProgram) -> Kernel:
    def shape(name: str) -> Shape:
        return program.variables[name].shape

    def weight(name: str) -> bool:
        return program.variables[name].persistable

    out = [shape(name) for slot in ("Output", "Out", "Y") for name in op.outputs.get(slot, ())]
    names = [name for name in operands(op) if name not in op.inputs.get("Bias", ())]
    act = op.attrs.get("act_type") or op.attrs.get("activation_type") or ""
    more = {"act": act} if act else {}
    if op.type == "fc":  # whose in_num_col_dims is 1 whatever its input
        (source,), n_inputs = map(shape, op.inputs["Input"]), shape(op.inputs["W"][0])[0]
        rows = source if source[-1] == n_inputs else (source[0], n_inputs)
        return Kernel.of("linear", [rows], out, bias=int("Bias" in op.inputs), **more)
    kind = op.type.removeprefix("fusion_").removesuffix("_activation")
    plain = PaddleOp(type=kind, inputs=op.inputs, outputs=op.outputs, attrs=op.attrs)
    name, attrs = read_op(plain, [shape(item) for item in names], out[0])
    if name == "conv2d" or name == "conv_transpose2d":
        attrs["bias"] = int("Bias" in op.inputs)
    whole = name in ("matmul", "add", "sub", "mul", "div")
    inputs = [shape(item) for item in names if whole or not weight(item)]
    if whole and name != "matmul" and (axis := int(op.attrs.get("axis", -1))) >= 0 and len(inputs[1]) < len(inputs[0]):
        inputs[1] = inputs[1] + (1,) * (len(inputs[0]) - axis - len(inputs[1]))
    if name in ("mul", "add") and op.type == "scale":
        name, attrs = "paddle.scale", {}
    return Kernel.of(name, inputs, out, **attrs, **more)
