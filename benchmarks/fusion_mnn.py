"""Compares the kernels that the rules give for MNN with the ops that MNN executes, for the zoo or for ONNX files.

    PYTHONPATH=. python benchmarks/fusion_mnn.py [--exporter] [NETWORK ...]
    PYTHONPATH=. python benchmarks/fusion_mnn.py FOLDER [--input-shape FILE:INPUT=1,3,48,320 ...]

Each network of the zoo of the tests is converted by this library's writer, or with ``--exporter`` by torch's own
exporter. With the exporter, the kernels that are read from the ONNX file are also compared with those read from torch.
Of a folder, every ONNX file is converted with fixed input shapes. A size that a file leaves open is 1 for the first
axis, 3 for the second of four, and otherwise 320; ``--input-shape`` states others, for files whose names contain FILE.
Prints a line for each network, with the first difference and the open sizes that were chosen.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch

from latency_nas.engine import ExecutedOp
from latency_nas.engine.mnn.converter import convert
from latency_nas.engine.mnn.fusion import fuse_mnn
from latency_nas.engine.mnn.mnn_engine import MNN
from latency_nas.engine.serving import RunnerError
from latency_nas.errors import GraphError, InputMismatchError, KernelError, MeasureError
from latency_nas.graph.onnx.reader import read_onnx
from latency_nas.graph.torch.onnx_export import export_onnx
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import Shape
from latency_nas.kernel.kernel_call import KernelCall
from tests.mnn_network import executed_ops
from tests.zoo import ZOO, example_input

_Shapes = Mapping[str, Shape]


def compared(calls: Sequence[KernelCall], executed: Sequence[ExecutedOp]) -> str:
    """The numbers of kernels and of ops, and whether they are the same."""
    expected = MNN().executed_ops(calls)
    numbers = f"{len(expected)} kernels, {len(executed)} ops"
    if MNN().agree(executed, expected):
        return f"{numbers}, in order"
    if sorted(map(repr, executed)) == sorted(map(repr, expected)):
        return f"{numbers}, in another order"
    pairs = zip(executed, expected, strict=False)
    first = next((i for i, pair in enumerate(pairs) if not MNN().agrees(*pair)), min(len(executed), len(expected)))
    ran, wanted = (next(iter(side[first:]), None) for side in (executed, expected))
    return f"{numbers}, DIFFERENT at {first}: ran {ran}, by rule {wanted}"


def of_zoo(name: str, folder: Path, *, exporter: bool) -> str:
    """The result for one network of the zoo."""
    model = ZOO[name][0]()
    graph = read_torch(model, example_input(name))
    calls = fuse_mnn(graph)
    if not exporter:
        return compared(calls, executed_ops(convert(graph, folder / "net.mnn")))
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):  # the exporter drops those that are zero
            torch.nn.init.uniform_(parameter)
    source = export_onnx(model, example_input(name), folder / "net.onnx")
    read = fuse_mnn(read_onnx(source))
    same = [call.kernel for call in read] == [call.kernel for call in calls]
    executed = executed_ops(convert(source, folder / "net.mnn"))
    return f"{compared(read, executed)}, from torch {'the same' if same else 'others'}"


def of_file(source: Path, folder: Path, given: _Shapes) -> str:
    """The result for one ONNX file."""
    model = onnx.load(str(source))
    shapes, chosen = _fixed(model, given)
    onnx.save(model, str(folder / "net.onnx"))
    calls = fuse_mnn(read_onnx(source, input_shape=shapes))
    text = compared(calls, executed_ops(convert(folder / "net.onnx", folder / "net.mnn")))
    return text + "".join(f"; open sizes of {name}: {shape}" for name, shape in chosen.items())


def _fixed(model: onnx.ModelProto, given: _Shapes) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Write sizes into the inputs of a model. Returns all shapes, and those that were neither stated nor given."""
    weights = {tensor.name for tensor in model.graph.initializer}
    shapes, chosen = dict[str, Shape](), dict[str, Shape]()
    for value in model.graph.input:
        if value.name in weights:
            continue
        sizes = value.type.tensor_type.shape.dim
        shape = given.get(value.name) or tuple(_size(axis, len(sizes), size) for axis, size in enumerate(sizes))
        if value.name not in given and any(size.dim_value < 1 for size in sizes):
            chosen[value.name] = shape
        del sizes[:]
        for size in shape:
            sizes.add(dim_value=size)
        shapes[value.name] = shape
    return shapes, chosen


def _size(axis: int, rank: int, size: onnx.TensorShapeProto.Dimension) -> int:
    return int(size.dim_value) if size.dim_value > 0 else 1 if axis == 0 else 3 if (axis, rank) == (1, 4) else 320


def _given(texts: Sequence[str], source: Path) -> dict[str, Shape]:
    """The shapes that the command line states for a file."""
    found = {}
    for text in texts:
        part, _, rest = text.partition(":")
        name, _, sizes = rest.partition("=")
        if part in source.name:
            found[name] = tuple(int(size) for size in sizes.split(",") if size)
    return found


def main() -> None:
    """Go through the zoo, or a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exporter", action="store_true")
    parser.add_argument("--input-shape", action="append", default=[], help="FILE:INPUT=1,3,48,320")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    files = [file for name in args.names if Path(name).is_dir() for file in sorted(Path(name).glob("*.onnx"))]
    for name in files or args.names or ZOO:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                if isinstance(name, Path):
                    text = of_file(name, Path(folder), _given(args.input_shape, name))
                else:
                    text = of_zoo(name, Path(folder), exporter=args.exporter)
            except (GraphError, InputMismatchError, KernelError, MeasureError, RunnerError) as error:
                text = f"NOT RUN: {str(error)[:200]}"
        title = name.name if isinstance(name, Path) else name
        print(f"{title}: {text} ({time.perf_counter() - start:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
