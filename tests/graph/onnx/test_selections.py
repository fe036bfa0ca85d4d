"""Kernels that select, look up or sort elements, as ONNX models: their shapes, their values, and that MNN runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from latency_nas.engine import Target, get_engine
from latency_nas.engine.mnn.device_side import opened
from latency_nas.graph.onnx.writer import save_onnx
from latency_nas.kernel import Kernel
from latency_nas.measure.kernel_graph import kernel_graph

MAP = (1, 4, 6, 6)
KERNELS = [
    *(Kernel.of("where", [MAP] * n, [MAP], scalar=scalar) for n, scalar in ((1, 1), (2, 1))),
    *(Kernel.of("where", [MAP] * n, [MAP]) for n in (2, 3)),
    Kernel.of("index", [(1, 16)], [(1, 1, 1, 16)], dtype="bool"),
    Kernel.of("index", [(4, 8, 32)], [(4, 8, 8)]),
    Kernel.of("embedding", [(1, 16)], [(1, 16, 32)]),
    Kernel.of("cumsum", [(1, 8, 16)], [(1, 8, 16)], axis=2),
    Kernel.of("cumsum", [(1, 16)], [(1, 16)], axis=1, dtype="int64"),
    Kernel.of("topk", [(1, 16, 8)], [(1, 16, 3)], axis=2, k=3),
    *(Kernel.of(op, [MAP], [MAP]) for op in ("rsqrt", "sqrt", "log")),
    Kernel.of("pow", [MAP], [MAP], scalar=1),
]
TYPES = {"fp32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64, "bool": onnx.TensorProto.BOOL}


def written(kernel: Kernel, folder: Path) -> Path:
    return save_onnx(kernel_graph(kernel, get_engine("mnn"), Target()), folder / "m.onnx")


def result(kernel: Kernel, folder: Path, *inputs: np.ndarray) -> Any:
    (made,) = ReferenceEvaluator(str(written(kernel, folder))).run(
        None, {f"input_{position}": values for position, values in enumerate(inputs)}
    )
    return made


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.key)
def test_kernels_are_written_with_their_shapes_and_types_and_run(kernel: Kernel, tmp_path: Path) -> None:
    source = written(kernel, tmp_path)
    inferred = onnx.shape_inference.infer_shapes(onnx.load(source), check_type=True, strict_mode=True)
    values = {info.name: info.type.tensor_type for info in (*inferred.graph.value_info, *inferred.graph.input)}
    made = values[kernel.op]
    assert tuple(size.dim_value for size in made.shape.dim) == kernel.outputs[0]
    assert made.elem_type == TYPES[kernel.dtype]
    shapes = [tuple(size.dim_value for size in info.type.tensor_type.shape.dim) for info in inferred.graph.input]
    assert shapes == list(kernel.inputs)
    ready = opened(str(get_engine("mnn").write(source, tmp_path / "m.mnn")))
    assert min(ready.run_ms(2)) > 0


def test_values_are_those_of_the_op(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=MAP).astype(np.float32)
    mask = x > 0
    numbered = result(Kernel.of("where", [MAP] * 2, [MAP], scalar=1), tmp_path, mask, x)
    assert np.array_equal(numbered, np.where(mask, x, np.float32(0.5)))
    assert np.array_equal(result(Kernel.of("where", [MAP] * 3, [MAP]), tmp_path, mask, x, -x), np.abs(x))
    assert result(Kernel.of("rsqrt", [MAP], [MAP]), tmp_path, x) == pytest.approx(1 / np.sqrt(np.abs(x)))
    assert result(Kernel.of("pow", [MAP], [MAP], scalar=1), tmp_path, x) == pytest.approx(np.abs(x) ** 3)
    added = result(Kernel.of("cumsum", [MAP], [MAP], axis=2), tmp_path, x)
    assert added == pytest.approx(np.cumsum(x, 2), abs=1e-5)
    largest = result(Kernel.of("topk", [MAP], [(1, 4, 6, 2)], axis=3, k=2), tmp_path, x)
    assert np.array_equal(largest, np.sort(x, 3)[..., :-3:-1])


def test_a_lookup_reads_different_elements_from_all_of_its_input(tmp_path: Path) -> None:
    x = np.arange(4 * 8 * 32, dtype=np.float32).reshape(4, 8, 32)
    found = result(Kernel.of("index", [x.shape], [(4, 8, 8)]), tmp_path, x)
    assert len(np.unique(found)) == found.size
    assert found.max() >= x.max() - 4
