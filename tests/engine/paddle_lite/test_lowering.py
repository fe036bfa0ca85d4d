"""Paddle-Lite's own word: its optimiser really runs, and is asked for the kernels of a program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from torch import nn

from latency_nas.engine import Target, fuse, get_engine
from latency_nas.engine.lowered import lower_kernels
from latency_nas.errors import GraphError
from latency_nas.graph.paddle.proto import ProgramDesc
from latency_nas.graph.paddle.writer import write_paddle
from latency_nas.graph.torch.reader import read_torch

LITE = get_engine("paddle-lite")


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.gate = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(16, 16, 1), nn.Hardsigmoid())
        self.head = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(16, 8, 3, 2, 1, groups=8), nn.Hardswish())

    def forward(self, x):  # type: ignore[no-untyped-def]
        y = self.stem(x)
        return self.head(y), self.gate(y)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program whose input leaves all sizes open but that of its channels."""
    path = tmp_path_factory.mktemp("lowering") / "gated.pdmodel"
    program, weights = write_paddle(read_torch(Gated().eval(), input_shape=(1, 3, 32, 32)))
    opened = ProgramDesc.FromString(program)
    for variable in opened.blocks[0].vars:
        if variable.name == opened.blocks[0].ops[0].outputs[0].arguments[0]:
            variable.type.dense_tensor.tensor.dims[:] = [-1, 3, -1, -1]
    path.write_bytes(opened.SerializeToString())
    path.with_suffix(".pdiparams").write_bytes(weights)
    return path


@pytest.mark.usefixtures("lite_python")
@pytest.mark.parametrize("size", [32, 64])
def test_the_optimised_program_has_the_kernels_by_rule(file: Path, size: int) -> None:
    shape = (1, 3, size, size)
    expected = fuse(read_torch(Gated().eval(), input_shape=shape), "Paddle-Lite")
    made = LITE.lower(file, Target(), input_shape=shape)
    assert made is not None
    assert sorted(call.kernel.key for call in made) == sorted(call.kernel.key for call in expected)
    whole = lower_kernels(file, LITE, target=Target(), input_shape=shape, kernels="engine")
    assert (whole.source, whole.engine) == ("engine", f"Paddle-Lite {LITE.installed_version()}")


def test_installed_version_is_that_of_the_python(lite_python: Path) -> None:
    code = "from importlib.metadata import version; print(version('paddlelite'))"
    told = subprocess.run([lite_python, "-c", code], capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert LITE.installed_version() == told.strip()


def test_no_python_no_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LATENCY_NAS_LITE_PYTHON", str(tmp_path / "bin" / "python"))
    assert LITE.installed_version() == ""


@pytest.mark.usefixtures("lite_python")
def test_weights_that_are_missing_or_too_short(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pdmodel"
    copy.write_bytes(file.read_bytes())
    weights = copy.with_suffix(".pdiparams")
    with pytest.raises(GraphError) as caught:
        LITE.lower(copy, Target(), input_shape=(1, 3, 32, 32))
    assert str(caught.value) == f"Expected the weights of {copy} at {weights}, but they are not there."
    weights.write_bytes(b"")
    with pytest.raises(GraphError) as caught:
        LITE.lower(copy, Target(), input_shape=(1, 3, 32, 32))
    assert str(caught.value).startswith(f"Expected Paddle-Lite to optimise {copy}, but it ends with exit status -6: ")
