"""Recurrent layers have the multiplications of their steps, written one after the other."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from latency_nas import ResourceCounter
from latency_nas.errors import GraphError
from latency_nas.graph.torch.reader import read_torch

STEPS, BATCH, FEATURES, HIDDEN = 5, 2, 8, 6


def of_steps(layer: Any, x: Tensor) -> int:
    """Torch's own count of the products of each step of a recurrent layer, with its own weights."""
    with FlopCounterMode(display=False) as counter:
        outputs = list(x.transpose(0, 1) if layer.batch_first else x)
        for number in range(layer.num_layers):
            directions = []
            for suffix in ("", "_reverse")[: 1 + layer.bidirectional]:
                own = {kind: getattr(layer, f"{kind}_l{number}{suffix}", None) for kind in ("weight_ih", "weight_hh")}
                projection = getattr(layer, f"weight_hr_l{number}{suffix}", None)
                state, states = torch.zeros(BATCH, own["weight_hh"].shape[1]), []  # type: ignore[union-attr]
                for step in outputs:
                    gates = functional.linear(step, own["weight_ih"]) + functional.linear(state, own["weight_hh"])
                    state = gates[:, : layer.hidden_size]
                    state = state if projection is None else functional.linear(state, projection)
                    states.append(state)
                directions.append(states)
            outputs = [torch.cat(both, 1) for both in zip(*directions, strict=True)]
    return int(counter.get_total_flops()) // 2


LAYERS: dict[str, Any] = {
    "RNN": nn.RNN(FEATURES, HIDDEN),
    "RNN with ReLU, both directions": nn.RNN(FEATURES, HIDDEN, 2, "relu", bidirectional=True),
    "GRU, batch first": nn.GRU(FEATURES, HIDDEN, batch_first=True),
    "GRU without biases": nn.GRU(FEATURES, HIDDEN, bias=False),
    "LSTM, two layers, both directions": nn.LSTM(FEATURES, HIDDEN, 2, bidirectional=True),
    "LSTM with projections": nn.LSTM(FEATURES, HIDDEN, proj_size=3),
    "LSTM with projections, two layers": nn.LSTM(
        FEATURES, HIDDEN, 2, batch_first=True, bidirectional=True, proj_size=3
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_multiplies_as_its_steps_do(name: str) -> None:
    layer = LAYERS[name]
    x = torch.zeros((BATCH, STEPS, FEATURES) if layer.batch_first else (STEPS, BATCH, FEATURES))
    assert ResourceCounter("macs").predict(layer, x).value == of_steps(layer, x)
    assert ResourceCounter("params").predict(layer, x).value == sum(p.numel() for p in layer.parameters())
    with warnings.catch_warnings(action="ignore"):  # oneDNN has no projections
        outputs = [tensor.shape for tensor in tree_leaves(layer(x))]
    graph = read_torch(layer, x)
    assert [graph.values[index].shape for index in graph.outputs] == outputs


class Cell(nn.Module):
    """A cell that runs over a sequence, from a first state that it is given."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: Any) -> Tensor:
        outputs = []
        for step in x:
            state = self.cell(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_cell_multiplies_as_its_layer_does(kind: str) -> None:
    cell, layer = (getattr(nn, name)(FEATURES, HIDDEN) for name in (f"{kind}Cell", kind))
    x, state = torch.zeros(STEPS, BATCH, FEATURES), torch.zeros(BATCH, HIDDEN)
    example = (x, (state, state) if kind == "LSTM" else state)
    counter = ResourceCounter("macs")
    assert counter.predict(Cell(cell), example).value == counter.predict(layer, x).value
    ops = {node.op for node in read_torch(Cell(cell), example).nodes}
    assert "scatter" not in ops  # the gates are parts of one tensor, and each is changed in place


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_cell_without_a_state_is_fused(kind: str) -> None:
    """The first state is zeros: what it is multiplied with is a constant."""

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = getattr(nn, f"{kind}Cell")(FEATURES, HIDDEN)

        def forward(self, x: Tensor) -> Any:
            return self.cell(x)

    n_gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    macs = ResourceCounter("macs").predict(First(), torch.zeros(BATCH, FEATURES)).value
    assert macs == BATCH * FEATURES * n_gates * HIDDEN


def test_packed_sequences_are_named() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(FEATURES, HIDDEN)

        def forward(self, x: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]))
            return self.lstm(packed)[0].data

    with pytest.raises(GraphError, match=r"sizes depend on the values of its tensors .*_pack_padded_sequence"):
        read_torch(Packed(), torch.zeros(STEPS, BATCH, FEATURES))
