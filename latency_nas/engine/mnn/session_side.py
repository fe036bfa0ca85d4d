"""Converts a model and runs it once, in a process of its own: a file that crashes MNN ends only that process.

It needs MNN, the standard library, and the modules of this library that import nothing else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from latency_nas.engine.mnn.converter import convert
from latency_nas.engine.mnn.device_side import Network
from latency_nas.engine.serving import RunnerError
from latency_nas.errors import GraphError, LatencyNASError
from latency_nas.graph.mnn.model_file import read_mnn_file

__all__ = ["answer", "main"]

_CONTROL = frozenset({"If", "While"})


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The ops that MNN runs.

    Args:
        request: ``source`` (an ONNX file or a ``.mnn`` file), ``network`` (the ``.mnn`` file, which is written if the
            source is another), ``input_shape``, ``threads``, ``precision``.

    Returns:
        ``ops``, as `Network.tensors` gives them, and ``inputs``, the addresses of the inputs; otherwise ``error`` and
        ``kind``, the name of its class.
    """
    source, path, given = Path(request["source"]), Path(request["network"]), request["input_shape"]
    try:
        if path != source:
            convert(source, path)
        file = read_mnn_file(path, str(source))
        if path != source and isinstance(given, dict):  # the converter drops inputs that nothing reads
            given = {name: shape for name, shape in given.items() if name in file.inputs}
        sizes = file.sizes(given)
        if control := next((op for op in file.ops if op.type in _CONTROL), None):
            raise GraphError(
                f"Expected {source} to be a network without control flow, since MNN runs none in a session, but "
                f"`{control.name}` is {control.type}."
            )
        network = Network(str(path), threads=request["threads"], precision=request["precision"], shapes=sizes)
        return {"ops": network.tensors(), "inputs": network.input_addresses}
    except (RunnerError, LatencyNASError) as error:
        return {"error": str(error), "kind": type(error).__name__}


def main() -> None:
    """Answer the request in the file that is the first argument, into the file that is the second."""
    request, target = map(Path, sys.argv[1:])
    target.write_text(json.dumps(answer(json.loads(request.read_text()))))
