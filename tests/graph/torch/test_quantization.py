"""Models that are prepared for quantisation are read as they are deployed, and their observers see nothing."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latency_nas import ResourceCounter
from latency_nas.graph.torch.reader import read_torch

SIDE = 8


class Net(nn.Module):
    def __init__(self) -> None:
        from torch.ao.quantization import DeQuantStub, QuantStub

        super().__init__()
        self.first, self.last = QuantStub(), DeQuantStub()
        self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
        self.linear = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(self.first(x))))
        y: Tensor = self.last(self.linear(x.mean((2, 3))))
        return y


@pytest.fixture(params=["fbgemm", "qnnpack"])
def prepared(request: pytest.FixtureRequest) -> dict[str, nn.Module]:
    """One network, prepared for training and for calibration; weights for each channel, and for each tensor."""
    from torch.ao import quantization

    with warnings.catch_warnings(action="ignore"):
        training, calibration, fused = Net().train(), Net().eval(), Net().train()
        quantization.fuse_modules_qat(fused, [["conv", "norm", "act"]], inplace=True)
        for model in (training, fused):
            model.qconfig = quantization.get_default_qat_qconfig(request.param)  # type: ignore[assignment]
            quantization.prepare_qat(model, inplace=True)
        calibration.qconfig = quantization.get_default_qconfig(request.param)  # type: ignore[assignment]
        quantization.prepare(calibration, inplace=True)
    return {"training": training, "fused": fused, "calibration": calibration}


def _state(model: nn.Module) -> dict[str, Any]:
    return {name: tensor.tolist() for name, tensor in model.state_dict().items()}


def test_what_is_deployed_is_read_and_no_observer_changes(prepared: dict[str, nn.Module]) -> None:
    ops = {}
    for name, model in prepared.items():
        before, training = _state(model), model.training
        graph = read_torch(model, input_shape=(1, 3, SIDE, SIDE))
        ops[name] = [f"{node.op} {graph.values[node.outputs[0]].dtype}" for node in graph.nodes]
        assert _state(model) == before
        assert model.training is training
        assert not any("forward" in vars(module) for module in model.modules())
    ends = ["reduce_mean fp32", "linear fp32", "quantize int8", "dequantize fp32"]
    assert ops == {
        "fused": ["quantize int8", "conv2d int8", "batch_norm int8", "relu int8", "dequantize fp32", *ends],
        "training": ["quantize int8", "conv2d int8", "batch_norm int8", "dequantize fp32", "relu fp32", *ends],
        "calibration": ["conv2d fp32", "batch_norm fp32", "relu fp32", *ends[:2]],
    }


def test_quantisation_changes_no_number_of_multiplications(prepared: dict[str, nn.Module]) -> None:
    counter = ResourceCounter("macs")
    expected = 8 * 6 * 6 * 27 + 8 * 4
    for model in (Net(), *prepared.values()):
        assert counter.predict(model, torch.zeros(1, 3, SIDE, SIDE)).value == expected
