"""Ops of other libraries than torch's own are unknown, whatever op of torch is called alike."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latency_nas import ResourceCounter, read_model
from latency_nas.errors import GraphError, MissingKernelError

NAMES = ("relu", "clone", "view", "zeros_like", "dropout", "mul_")


@pytest.fixture(scope="module", autouse=True)
def library() -> Iterator[None]:
    """Ops that compute, by names of aten's ops."""
    made = torch.library.Library("toy", "DEF")
    for name in NAMES:
        made.define(f"{name}(Tensor x, Tensor weight) -> (Tensor, Tensor[])")
        made.impl(name, lambda x, weight: (x @ weight, [x * 2]), "CompositeExplicitAutograd")
        torch.library.register_fake(f"toy::{name}", lambda x, weight: (x @ weight, [x * 2]), lib=made)
    yield
    made._destroy()


class Calls(nn.Module):
    """A script needs the ops by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.ops.toy.relu(x, self.weight)[0]
        x = torch.ops.toy.clone(x, self.weight)[1][0]
        x = torch.ops.toy.view(x, self.weight)[0]
        x = torch.ops.toy.zeros_like(x, self.weight)[0]
        x = torch.ops.toy.dropout(x, self.weight)[0]
        return torch.ops.toy.mul_(x, self.weight)[0] + 1


def sources(folder: Path) -> dict[str, Any]:
    """The same model in all the forms that torch has."""
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.export(Calls(), (torch.zeros(2, 8),))
        torch.export.save(program, folder / "program.pt2")
        script = torch.jit.script(Calls())
        torch.jit.save(script, folder / "script.pt")
        trace = torch.jit.trace(Calls(), torch.zeros(2, 8))
    files = {name: str(folder / name) for name in ("program.pt2", "script.pt")}
    return {"module": Calls(), "program": program, "script": script, "trace": trace} | files


def test_an_op_of_another_library_is_unknown_and_named(tmp_path: Path) -> None:
    for name, source in sources(tmp_path).items():
        graph = read_model(source, torch.zeros(2, 8))
        assert [node.op for node in graph.nodes] == [f"toy::{op}" for op in NAMES] + ["add"], name
        assert graph.kernel(graph.nodes[0]).key == "toy::relu [2,8] -> [2,8] [2,8] dtype=fp32"
        with pytest.raises(MissingKernelError, match="toy::relu"):
            ResourceCounter("macs").predict(graph)


def test_sizes_of_unknown_ops_must_be_fixed(tmp_path: Path) -> None:
    path = tmp_path / "open.pt2"
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.export.save(torch.export.export(Calls(), (torch.zeros(2, 8),), dynamic_shapes=({0: batch},)), path)
    with pytest.raises(GraphError) as caught:
        read_model(path, input_shape=(2, 8))
    assert str(caught.value) == (
        f"Expected fixed sizes of what ops of other libraries than torch's make, but those of toy::relu are open in "
        f"{path}: export it with fixed sizes."
    )


def test_primitives_are_the_ops_that_they_stand_for() -> None:
    class Primitives(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.ops.prims.transpose(torch.ops.prims.mul(x, x), (1, 0))
            return torch.ops.prims.convert_element_type(torch.ops.prims.sum(x, (1,)), torch.float16)

    graph = read_model(Primitives(), torch.zeros(2, 8))
    assert [(node.op, dict(node.attrs)) for node in graph.nodes] == [
        ("mul", {}), ("transpose", {"perm": (1, 0)}), ("reduce_sum", {"axes": (1,), "keepdim": 0}), ("cast", {}),
    ]  # fmt: skip


def test_quantisers_of_exported_programs_are_known() -> None:
    from torch.ao.quantization.fx import _decomposed  # noqa: F401 - declares the ops

    class Quantised(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            ops = torch.ops.quantized_decomposed
            return ops.dequantize_per_tensor(
                ops.quantize_per_tensor(x, 0.1, 0, -128, 127, torch.int8), 0.1, 0, -128, 127, torch.int8
            )

    assert [node.op for node in read_model(Quantised(), torch.zeros(2, 8)).nodes] == ["quantize", "dequantize"]
