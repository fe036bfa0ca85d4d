"""Graphs of MNN's files: priced by rule without MNN, as MNN itself runs them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fuzz_mnn import damaged, fuzz, outcome
from torch import Tensor, nn
from torch.nn import functional

from latency_nas import read_model
from latency_nas.engine import fuse
from latency_nas.engine.mnn.converter import convert
from latency_nas.errors import GraphError, InputMismatchError
from latency_nas.graph.mnn.model_file import read_mnn_file
from latency_nas.graph.mnn.reader import read_mnn
from latency_nas.graph.torch.onnx_export import export_onnx
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import Kernel, n_macs
from tests.mnn_network import lowered
from tests.zoo import ZOO

pytestmark = pytest.mark.slow  # converts by MNN, and exports by torch


def by_rule(path: Path, shape: tuple[int, ...] | None = None) -> list[Kernel]:
    return [call.kernel for call in fuse(read_model(path, input_shape=shape), "mnn")]


class Mixed(nn.Module):
    """Windows with and without rounding up, products, cuts, joins, reductions, and sizes computed from shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 8, 2, 2)
        self.norm, self.product = nn.LayerNorm(8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self.conv(x))
        x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.up(functional.interpolate(x, scale_factor=2))
        left, right = x.split([3, 5], 1)
        x = torch.cat([right, left], 1) * 0.5
        x = self.product(self.norm(x.flatten(2).transpose(1, 2)))
        return functional.softmax(x, 2)[:, 1:].mean(1)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    return convert(export_onnx(Mixed(), torch.zeros(1, 3, 18, 18), folder / "net.onnx"), folder / "net.mnn")


def test_kernels_are_those_that_mnn_runs(path: Path) -> None:
    assert by_rule(path) == lowered(path)


def test_work_is_that_of_the_module(path: Path) -> None:
    conv, up, product = 8 * 9 * 9 * 3 * 9, 8 * 8 * 8 * 8 * 2 * 2, 16 * 16 * 8 * 6
    assert sum(n_macs(kernel) for kernel in by_rule(path)) == conv + up + product


@pytest.mark.parametrize("name", ["MobileNetV3-small", "ShuffleNetV2-0.5", "ViT-Ti/16"])
def test_files_and_modules_have_the_same_kernels(name: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        model = ZOO[name][0]()
    graph = read_torch(model, input_shape=ZOO[name][1])
    path = convert(graph, tmp_path / "net.mnn")
    assert by_rule(path) == [call.kernel for call in fuse(graph, "mnn")]


def test_an_op_whose_shape_is_not_known_is_named(tmp_path: Path) -> None:
    model = nn.ReflectionPad2d(2)
    path = convert(export_onnx(model, torch.zeros(1, 3, 8, 8), tmp_path / "net.onnx"), tmp_path / "net.mnn")
    with pytest.raises(GraphError) as caught:
        read_mnn(path)
    assert str(caught.value).endswith(
        "is Padding: read the file that it was converted from, or install MNN and ask it (--kernels engine)."
    )
    assert str(caught.value).startswith(f"Expected ops of {path} whose shapes follow without MNN, but `")


def test_an_input_that_does_not_fit_is_refused(path: Path) -> None:
    (name,) = read_mnn_file(path).inputs
    with pytest.raises(InputMismatchError) as caught:
        read_mnn(path, input_shape=(1, 3, 18))
    assert str(caught.value) == (
        f"Expected 4 positive sizes for `{name}` of {path}, whose shape is [1, 3, 18, 18], but got [1, 3, 18]."
    )


def test_damaged_files_are_read_or_refused(path: Path) -> None:
    files = [path.read_bytes()]
    outcomes, _ = fuzz(1000, seed=1, damaged=lambda number: damaged(files, number), outcome=outcome)
    assert {name for name in outcomes if not name.isidentifier()} == set()
    assert min(outcomes["read"], outcomes["GraphError"]) >= 100
