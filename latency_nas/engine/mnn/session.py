"""The ops that the installed MNN runs for a model file: one run in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_nas.engine.target import Target
from latency_nas.errors import GraphError, InputMismatchError, MissingExtraError
from latency_nas.graph.input_shapes import InputShape
from latency_nas.graph.mnn.model_file import MnnFile, read_mnn_file
from latency_nas.kernel import Shape

__all__ = ["RanOp", "RanTensor", "run_once", "traced"]

_TIMEOUT_S = 600
_MEMORY_BYTES = 8 * 2**30  # of addresses, most of them of libraries; and some copies of the file
_COPIES = 8
_ERRORS = {"InputMismatchError": InputMismatchError, "MissingExtraError": MissingExtraError}
_PACKAGE = Path(__file__).parents[2]

# The modules of the process, in packages that import nothing: the whole library would take longer than MNN itself.
_PROGRAM = f"""
import resource, sys, types
resource.setrlimit(resource.RLIMIT_AS, ({{limit}}, {{limit}}))
sys.path[:] = {{path!r}}
for name in ("", ".engine", ".engine.mnn", ".graph", ".graph.mnn"):
    name = "latency_nas" + name
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [{str(_PACKAGE.parent)!r} + "/" + name.replace(".", "/")]
from latency_nas.engine.mnn.session_side import main
main()
"""


@dataclass(frozen=True, slots=True)
class RanTensor:
    """A tensor that an op read or wrote.

    Args:
        shape: Sizes.
        floats: Whether it holds floats.
        maker: Number of the op that made it; -1 for an input of the network, None for a constant.
    """

    shape: Shape
    floats: bool
    maker: int | None


@dataclass(frozen=True, slots=True)
class RanOp:
    """An op that MNN ran.

    Args:
        name: Name that MNN reports.
        type: Type that MNN reports.
        reads: Tensors that it read.
        writes: Tensors that it wrote.
    """

    name: str
    type: str
    reads: tuple[RanTensor, ...]
    writes: tuple[RanTensor, ...]


def run_once(file: Path, target: Target, input_shape: InputShape | None = None) -> tuple[MnnFile, list[RanOp]]:
    """Convert a model file where needed, run it once, and describe the ops that ran.

    Args:
        file: ONNX file or ``.mnn`` file.
        target: Threads and precision of the run.
        input_shape: Shape of the only input, or a mapping input -> shape; needed where the file leaves sizes open.

    Returns:
        The ``.mnn`` file's ops, and the ops that ran, in order.

    Raises:
        GraphError: if MNN cannot convert or run the file.
        InputMismatchError: if a size of an input is neither in the file nor given.
    """
    if not file.is_file():
        raise GraphError(f"Expected {file} to be a file, but {'it is a folder' if file.is_dir() else 'there is none'}.")
    with tempfile.TemporaryDirectory() as folder:
        network = file if file.suffix == ".mnn" else Path(folder, f"{file.stem}.mnn")
        request = {
            "source": str(file.resolve()),
            "network": str(network.resolve()),
            "input_shape": input_shape if isinstance(input_shape, Mapping | None) else list(input_shape),
            "threads": target.threads,
            "precision": target.precision,
        }
        answer = _ask(request, file, folder)
        known = read_mnn_file(network, str(file))
    return known, traced(answer["ops"], answer["inputs"])


def _ask(request: Mapping[str, Any], file: Path, folder: str) -> dict[str, Any]:
    """The answer of `session_side`, from a process that works in `folder`."""
    asked, answered = Path(folder, "request.json"), Path(folder, "answer.json")
    asked.write_text(json.dumps(request))
    limit = _MEMORY_BYTES + _COPIES * file.stat().st_size
    command = [sys.executable, "-c", _PROGRAM.format(path=sys.path, limit=limit), str(asked), str(answered)]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter itself
            command, cwd=folder, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise GraphError(f"Expected MNN to run {file} within {_TIMEOUT_S} s, but it did not.") from error
    if done.returncode or not answered.is_file():
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        how = f"by signal {-done.returncode}" if done.returncode < 0 else f"with code {done.returncode}"
        raise GraphError(f"Expected MNN to run {file}, but its process ended {how}{': ' + said if said else ''}.")
    answer: dict[str, Any] = json.loads(answered.read_text())
    if "error" in answer:
        raise _ERRORS.get(answer["kind"], GraphError)(answer["error"])
    return answer


def traced(ops: list[dict[str, Any]], inputs: list[int]) -> list[RanOp]:
    """The ops with the makers of what they read: the last one that wrote to an address.

    Args:
        ops: Ops as `Network.tensors` gives them.
        inputs: Addresses of the network's inputs.
    """
    makers: dict[int, int] = dict.fromkeys(inputs, -1)
    ran = []
    for number, op in enumerate(ops):
        reads = tuple(RanTensor(tuple(shape), floats, makers.get(address)) for shape, floats, address in op["reads"])
        makers.update({address: number for _, _, address in op["writes"]})
        writes = tuple(RanTensor(tuple(shape), floats, number) for shape, floats, _ in op["writes"])
        ran.append(RanOp(op["name"], op["type"], reads, writes))
    return ran
