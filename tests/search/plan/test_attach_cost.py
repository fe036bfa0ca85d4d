"""What attaching and a step do not do: compute a convolution, and wait for a device."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from latency_nas.engine import fuse
from latency_nas.search.loss.loss import LatencyLoss
from tests.search.supernet.test_styles import IMAGE, MadeUp, auto_former, fbnet, image, ofa
from tests.styles import AutoFormer, Darts, Fbnet, Ofa, PcDarts


class RealOps(TorchDispatchMode):
    """Counts the operators that run on real tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not any(isinstance(leaf, FakeTensor) for leaf in tree_leaves((args, kwargs))):
            self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("make", "attach"), [(Darts, image), (Fbnet, fbnet), (Ofa, ofa)], ids=["DARTS", "FBNet", "OFA"]
)
def test_attaching_computes_no_convolution(make: type[nn.Module], attach: Any) -> None:
    net = make()
    with RealOps() as real:
        attach(LatencyLoss(MadeUp()), net)
    heavy = {name: n for name, n in real.counts.items() if any(op in name for op in ("conv", "mm", "linear", "norm"))}
    assert heavy == {}


def test_the_count_sees_real_convolutions() -> None:
    with RealOps() as real, torch.no_grad():
        Fbnet()(IMAGE, 5.0)
    assert real.counts["convolution"] > 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_does_not_wait_for_the_gpu() -> None:
    net = Fbnet().cuda()
    latency = LatencyLoss(MadeUp(), target_ms=None).cuda()
    latency.attach(net, run=lambda net: net(IMAGE.cuda(), 5.0))
    latency().backward()  # the first step copies the plan to the device
    torch.cuda.set_sync_debug_mode("error")
    try:
        latency().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(block.thetas.grad.abs().max() > 0 for block in net.blocks)


def gated_cells() -> PcDarts:
    """So many cells that the gates of edges and operations are multiplied."""
    return PcDarts(reductions=[False, True, False])


def eight_cells() -> Darts:
    """As many cells as DARTS searches with; those after a third and two thirds of them reduce."""
    return Darts(reductions=[number in (2, 5) for number in range(8)])


@pytest.mark.parametrize(
    ("make", "attach", "n_at_most"),
    [
        (eight_cells, image, 130),
        (PcDarts, image, 40),
        (gated_cells, image, 40),
        (AutoFormer, auto_former, 60),
        (Ofa, ofa, 100),
    ],
    ids=["DARTS of 8 cells", "PC-DARTS", "PC-DARTS of 3 cells", "AutoFormer", "OFA"],
)
def test_attaching_reads_few_architectures(
    make: Any, attach: Any, n_at_most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few of 4^10 and of 768, though copies in a cell, and between cells of DARTS, depend on several choices."""
    n_fused = Counter[str]()

    def counted(*args: Any) -> Any:
        n_fused["graphs"] += 1
        return fuse(*args)

    monkeypatch.setattr("latency_nas.estimate.estimator.fuse", counted)
    torch.manual_seed(0)
    attach(LatencyLoss(MadeUp()), make())
    assert 10 < n_fused["graphs"] <= n_at_most
