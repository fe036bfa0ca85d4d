"""The same network through torch, ONNX and both of Paddle's formats: the same kernels."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from latency_nas.engine import fuse
from latency_nas.graph import OpGraph
from latency_nas.graph.onnx.reader import read_onnx
from latency_nas.graph.paddle.reader import read_paddle
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import Kernel
from tests.paddle_zoo import TWINS, export
from tests.zoo import TINY_BERT, ZOO, Bert

pytestmark = pytest.mark.usefixtures("exporter_tables_read_once")

NAMES = [name for name in TWINS if name != "wide_resnet50_2"]  # ResNet50 but for its 69 million weights
SHAPE = (1, 3, 64, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("paddle", reason="exports need paddlepaddle")
    return export(tmp_path_factory.mktemp("twins"), *NAMES)


def exported(network: nn.Module, *inputs: Tensor) -> bytes:
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):  # else the exporter drops those that are zero
            nn.init.uniform_(parameter)
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, inputs, target, dynamo=True, verbose=False)
    return target.getvalue()


def kernels(graph: OpGraph, engine: str = "Paddle-Lite") -> Counter[Kernel]:
    """Products with the operands in one order: Paddle's networks multiply gates by features, torch's the other way."""
    made = [call.kernel for call in fuse(graph, engine)]
    return Counter(replace(k, inputs=tuple(sorted(k.inputs))) if k.op == "mul" else k for k in made)


def in_order(graph: OpGraph) -> list[Kernel]:
    return [call.kernel for call in fuse(graph, "MNN")]


@pytest.mark.parametrize("name", NAMES)
def test_all_sources_give_the_same_kernels(folder: Path, name: str) -> None:
    network = ZOO[TWINS[name]][0]().eval()
    ours = read_torch(network, input_shape=SHAPE)
    by_torch = kernels(ours)
    assert by_torch.total() > 25
    assert kernels(read_paddle(folder / f"{name}.pdmodel")) == by_torch
    assert kernels(read_paddle(folder / f"{name}.json")) == by_torch
    by_onnx = read_onnx(exported(network, torch.zeros(SHAPE)))  # once, since an export takes long
    assert kernels(by_onnx) == by_torch
    assert in_order(by_onnx) == in_order(ours)


class Masked(nn.Module):
    """BERT with its mask as an input; without one, transformers makes another wherever it is exported."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = Bert(**TINY_BERT)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        return self.bert.encoder(input_ids, attention_mask=mask, return_dict=False)[0]


def test_bert_is_the_same_by_torch_and_onnx() -> None:
    network, inputs = Masked().eval(), (torch.zeros((1, 16), dtype=torch.int64), torch.zeros(1, 1, 16, 16))
    by_onnx, by_torch = read_onnx(exported(network, *inputs)), read_torch(network, inputs)
    for engine in ("MNN", "Paddle-Lite"):
        assert kernels(by_onnx, engine) == kernels(by_torch, engine)
    assert sum(kernel.op == "softmax" for kernel in kernels(by_torch).elements()) == TINY_BERT["num_hidden_layers"]
