"""Two processes that train one search: real DDP on gloo, and FSDP's sharded parameters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from latency_nas.search.loss.constraint import AugmentedLagrangian
from latency_nas.search.loss.loss import LatencyLoss
from tests.supernets import MatrixNet, loss_of

LR, N_EPOCHS, N_BATCHES = 0.5, 2, 3


def batches_of(rank: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(rank)
    return [
        (torch.randn(6, 1, 8, 8, generator=generator), torch.randint(3, (6,), generator=generator))
        for _ in range(N_BATCHES)
    ]


def make_net() -> MatrixNet:
    """The architecture parameters are a plain tensor, which DDP does not know."""
    torch.manual_seed(0)
    net = MatrixNet()
    with torch.no_grad():
        net.matrix.neg_()
    return net


def attached(net: MatrixNet) -> LatencyLoss:
    return loss_of(net, choices=net.choices(), at=0.2, penalty=AugmentedLagrangian("equality", rho=0.5, every=1))


def run(program: str, folder: Path) -> None:
    """Run a program that writes into `folder`, in a new interpreter, with the tests' import path."""
    program = f"import sys\nsys.path[:0] = {sys.path}\n{program}"
    command = [sys.executable, "-W", "ignore", "-c", program, str(folder)]
    result = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, timeout=2000, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert result.returncode == 0, result.stderr


DDP = """
import json, pathlib, torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader
from latency_nas import LatencyCallback
from tests.integrate.test_lightning_ranks import LR, N_EPOCHS, attached, batches_of, make_net

class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = make_net()
        self.latency = attached(self.net)

    def setup(self, stage):
        self.net.matrix.data += self.trainer.global_rank  # different at the start on each rank

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def train_dataloader(self):
        return DataLoader(batches_of(self.trainer.global_rank), batch_size=None)

    def configure_optimizers(self):
        return torch.optim.SGD([*self.parameters(), self.net.matrix], lr=LR)

    def on_train_end(self):
        found = {
            "multiplier": self.latency.penalty.multiplier.item(),
            "n_steps": int(self.latency.penalty.n_steps),
            "matrix": self.net.matrix.tolist(),
            "history": callback.history,
        }
        (folder / f"{self.trainer.global_rank}.json").write_text(json.dumps(found))

folder = pathlib.Path(sys.argv[1])
callback = LatencyCallback()
strategy = DDPStrategy(process_group_backend="gloo", start_method="fork", find_unused_parameters=False)
trainer = Trainer(
    callbacks=callback, accelerator="cpu", devices=2, strategy=strategy, max_epochs=N_EPOCHS, logger=False,
    use_distributed_sampler=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
)
trainer.fit(Module(), ckpt_path=None)
"""


FSDP = """
import copy, torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from tests.supernets import ChainNet, loss_of

def work(rank, file):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    torch.manual_seed(0)
    net = ChainNet()
    whole = copy.deepcopy(net)
    expected = loss_of(whole, at=0.2, penalty="equality")
    loss = loss_of(net, at=0.2, penalty="equality")
    mesh = init_device_mesh("cpu", (2,))
    for block in net.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(net, mesh=mesh)
    for item in (expected, loss):
        item.penalty.multiplier.fill_(0.5)
        item().backward()
    assert loss.architecture() == expected.architecture()
    assert loss.expected_ms().item() == expected.expected_ms().item()
    for alpha, other in zip(net.alphas(), whole.alphas()):
        assert type(alpha).__name__ == "DTensor"
        torch.testing.assert_close(alpha.grad.full_tensor(), other.grad)
    loss.step()
    dist.destroy_process_group()
    if rank == 0:
        (folder / "sharded").write_text("same")

mp.start_processes(work, args=(folder / "rendezvous",), nprocs=2, start_method="fork")
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the ranks of both programs wrote; one interpreter imports Lightning for both."""
    folder = tmp_path_factory.mktemp("ranks")
    run(DDP + FSDP, folder)
    return folder


def test_two_ranks_are_one_search(found: Path) -> None:
    first, second = (json.loads((found / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1))
    assert first == second
    assert first["n_steps"] == N_EPOCHS * N_BATCHES
    net = make_net()
    latency = attached(net)
    optimizer = torch.optim.SGD([*net.parameters(), net.matrix], lr=LR)
    for _ in range(N_EPOCHS):
        for pair in zip(batches_of(0), batches_of(1), strict=True):
            optimizer.zero_grad()
            for x, y in pair:
                (latency.combine(functional.cross_entropy(net(x), y)) / 2).backward()
            optimizer.step()
            latency.step()
    assert first["multiplier"] == pytest.approx(latency.penalty.multiplier.item(), rel=1e-6)
    assert first["multiplier"] > 0
    torch.testing.assert_close(torch.tensor(first["matrix"]), net.matrix.detach(), rtol=1e-4, atol=1e-5)


def test_sharded_architecture_parameters_give_the_same_term(found: Path) -> None:
    assert (found / "sharded").read_text(encoding="utf-8") == "same"
