"""One door for every kind of model."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch
from torch import nn

from latency_nas import LatencyEstimator
from latency_nas.errors import GraphError
from latency_nas.graph.paddle.reader import read_paddle
from latency_nas.graph.reader import make_model, read_model
from latency_nas.kernel import Kernel
from latency_nas.table import Datasheet, Entry, LatencyTable

PROGRAM = Path(__file__).parents[1] / "golden/paddleslim/mobilenet_v1.pdmodel.gz"


def test_torch_module_and_callable() -> None:
    by_shape = read_model(nn.ReLU(), input_shape=[1, 8])
    assert by_shape == read_model(nn.ReLU(), torch.zeros(1, 8)) == read_model("torch.nn:ReLU", input_shape=(1, 8))


def test_paddle_program(tmp_path: Path) -> None:
    path = tmp_path / "net.pdmodel"
    path.write_bytes(gzip.decompress(PROGRAM.read_bytes()))
    assert read_model(path) == read_model(str(path)) == read_paddle(path)
    path.with_suffix(".pdiparams").write_bytes(b"")  # found beside it, and checked
    with pytest.raises(GraphError, match="it is truncated or belongs to another model"):
        read_model(path)


def test_estimator_takes_them_all() -> None:
    relu = Kernel.of("relu", [(1, 8)], [(1, 8)])
    sheet = Datasheet(device="Example board", engine="MNN", method="measured")
    estimator = LatencyEstimator(LatencyTable.of({relu: Entry(latency_ms=0.5)}, sheet))
    assert estimator.predict("torch.nn:ReLU", input_shape=(1, 8)).latency_ms == 0.5


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "net.pb",
            (
                "Expected a model's file (.onnx, .mnn, .pdmodel, .json, .pt2, .pt, .pth, .jit, .ts, .torchscript) or "
                "package.module:callable, but got 'net.pb'."
            ),
        ),
        (3, "Expected a torch module, a Paddle layer, a model's file or an ONNX model, but got 3."),
        (
            "torch.nn:Nothing",
            (
                "Expected 'torch.nn:Nothing' to be package.module:callable that gives a torch module, but it fails "
                "(AttributeError: module 'torch.nn' has no attribute 'Nothing')."
            ),
        ),
        ("builtins:dict", "Expected 'builtins:dict' to give a torch module, but it gives dict."),
    ],
)
def test_what_is_no_model(source: object, message: str) -> None:
    with pytest.raises(GraphError) as caught:
        read_model(source)
    assert str(caught.value) == message


def test_working_folder_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets.py").write_text("from torch import nn\n\ndef small():\n    return nn.ReLU()\n")
    monkeypatch.chdir(tmp_path)
    assert isinstance(make_model("my_nets:small"), nn.ReLU)


class Shifted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum() + torch.ones(())


def test_a_number_is_no_bias() -> None:
    assert [node.op for node in read_model(Shifted(), input_shape=(2, 3)).nodes] == ["reduce_sum", "add"]
