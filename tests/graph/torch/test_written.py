"""Writing into tensors: what memory holds after it, whatever tensor it is read by, and nodes that nobody reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latency_nas import ResourceCounter
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import n_macs

IMAGE = torch.rand(1, 8, 16, 16)
CONV = 8 * 8 * 9 * 256  # MACs


class Net(nn.Module):
    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.conv, self.other, self.function = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1), forward
        self.register_buffer("cache", torch.zeros(1, 8, 16, 16))

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def slices(net: Any, x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :4] = x[:, :4]
    return net.conv(y)


def a_buffer(net: Any, x: Tensor) -> Tensor:
    net.cache[:, :4] = x[:, :4]
    return net.conv(net.cache)


def out(net: Any, x: Tensor) -> Tensor:
    y = torch.empty(1, 8, 16, 16)
    torch.mul(x, 2, out=y)
    return net.conv(y)


def a_view_of_a_view(net: Any, x: Tensor) -> Tensor:
    y = torch.zeros(1, 8, 16, 16)
    y.view(8, 256)[:4].view(4, 16, 16).copy_(x[0, :4])
    return net.conv(y)


def a_view_that_was_there_before(net: Any, x: Tensor) -> Tensor:
    y = torch.zeros(1, 8, 16, 16)
    rows = y.view(8, 16, 16)
    y += x
    return net.conv(rows.unsqueeze(0))


def by_index(net: Any, x: Tensor) -> Tensor:
    y = torch.zeros(1, 8, 16, 16)
    y[:, torch.tensor([1, 3])] = x[:, :2]
    return net.conv(y)


def scattered(net: Any, x: Tensor) -> Tensor:
    y = torch.zeros(1, 8, 16, 16).index_add_(1, torch.tensor([0, 2]), x[:, :2])
    return net.conv(y)


def the_base_of_a_view(net: Any, x: Tensor) -> Tensor:
    y = x * 2
    y[:, :4].mul_(3)
    return net.conv(y)


def gathered(net: Any, x: Tensor) -> Tensor:
    y = torch.zeros(4)
    y[0] = x.mean()
    return net.conv(x * y.sum())


WAYS = (
    slices, a_buffer, out, a_view_of_a_view, a_view_that_was_there_before, by_index, scattered, the_base_of_a_view,
    gathered,
)  # fmt: skip


@pytest.mark.parametrize("forward", WAYS, ids=lambda way: str(way.__name__))
def test_what_follows_is_no_constant(forward: Callable[..., Tensor]) -> None:
    net = Net(forward)
    graph = read_torch(net, IMAGE)
    assert sum(n_macs(graph.kernel(node)) for node in graph.nodes) == CONV
    made = {index: node for node in graph.nodes for index in node.outputs}
    seen, left = set(), list(graph.outputs)
    while left:  # from the output back to the input
        index = left.pop()
        seen.add(index)
        left += made[index].inputs if index in made else ()
    assert set(graph.inputs) <= seen
    assert not net.cache.any()


def test_a_write_reaches_the_writes_after_it() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        y = torch.zeros(1, 8, 16, 16)
        y[:, :4] = net.conv(x)[:, :4]
        y[:, 4:] = net.other(x)[:, 4:]
        return y

    ops = [node.op for node in read_torch(Net(forward), IMAGE).nodes if node.op != "reshape"]
    assert ops == ["conv2d", "slice", "scatter", "conv2d", "slice", "scatter"]


def test_what_is_overwritten_is_not_run() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.conv(x)
        y.copy_(x)
        return net.other(y)

    assert [node.op for node in read_torch(Net(forward), IMAGE).nodes] == ["conv2d"]


def test_a_constant_written_over_an_activation() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.conv(x)
        y.zero_()
        return x + net.other(y).sum()

    assert [node.op for node in read_torch(Net(forward), IMAGE).nodes] == ["add"]


def test_nodes_that_no_output_needs() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        net.conv(x)
        return net.other(x)

    assert ResourceCounter("macs").predict(Net(forward), IMAGE).value == 8 * 8 * 256

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0]

    assert "reduce_mean" not in [node.op for node in read_torch(First(), torch.rand(1, 4, 16)).nodes]


def test_outputs_in_objects() -> None:
    class Result:
        def __init__(self, logits: Tensor) -> None:
            self.logits = {"first": [logits]}

    def forward(net: Any, x: Tensor) -> Result:
        return Result(net.conv(x))

    assert [node.op for node in read_torch(Net(forward), IMAGE).nodes] == ["conv2d"]


def test_a_part_of_a_constant_that_is_written_keeps_the_rest_apart() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        gates = torch.zeros(2, 18)
        first, second, _ = gates.chunk(3, 1)
        first.add_(x.flatten(1)[:, :6].expand(2, 6))
        return second.flatten() + gates.flatten()[:12]

    graph = read_torch(Net(forward), torch.zeros(2, 3, 2, 2))
    assert {node.op for node in graph.nodes} <= {"reshape", "slice", "add", "scatter", "index"}
    assert all(node.attrs["axes"] for node in graph.nodes if node.op == "slice")
    assert ResourceCounter("macs").predict(Net(forward), torch.zeros(2, 3, 2, 2)).value == 0
