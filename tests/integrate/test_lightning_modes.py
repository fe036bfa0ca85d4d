"""The callback in the ways in which people train: by hand, alternating, compiled, mixed, resumed, by YAML."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import torch
import yaml
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from torch import Tensor, nn
from torch.nn import functional

from latency_nas.errors import SearchError
from latency_nas.estimate.resource_counter import ResourceCounter
from latency_nas.integrate.lightning import LatencyCallback
from latency_nas.search.loss.constraint import AugmentedLagrangian
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.loss.targets import Targets
from latency_nas.table import Entry, LatencyTable, save_table
from tests.integrate.test_lightning import Batches, assert_same, by_hand, fit, make_module, make_net
from tests.supernets import EXAMPLE, ChainNet, MatrixNet, loss_of, table_of

LIB = lightning.pytorch
LR = 0.5

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]


def dearest_first(net: ChainNet) -> ChainNet:
    with torch.no_grad():
        for alpha in net.alphas():
            alpha.neg_()
    return net


def constraint(every: int = 1) -> AugmentedLagrangian:
    return AugmentedLagrangian("equality", rho=0.5, every=every)


# --- optimising by hand


class Manual(LightningModule):
    """Weights and architecture parameters have an optimizer each; the module calls the loss itself."""

    def __init__(self, net: nn.Module, latency: LatencyLoss | None) -> None:
        super().__init__()
        self.net, self.latency = net, latency
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        number = batch_idx % 2
        optimizer = self.optimizers()[number]
        self.toggle_optimizer(optimizer)
        loss = functional.cross_entropy(self.net(batch[0]), batch[1])
        if number == 1 and self.latency is not None:
            loss = self.latency.combine(loss)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.untoggle_optimizer(optimizer)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        named = list(self.net.named_parameters())
        split = [[p for name, p in named if ("alpha" in name) == chosen] for chosen in (False, True)]
        return [torch.optim.SGD(parameters, lr=LR) for parameters in split]


def test_manual_optimization_with_a_loss_that_the_module_holds() -> None:
    net = dearest_first(make_net())
    module = Manual(net, loss_of(net, at=0.2, penalty=constraint()))
    callback = LatencyCallback(final_temperature=0.5)
    fit(LIB, module, callback)
    assert callback.loss is module.latency
    assert int(module.latency.penalty.n_steps) == 4  # two of four batches are the architecture's
    assert [figures["latency/temperature"] for figures in callback.history] == [1.0, 0.5]
    assert callback.history[-1]["latency/multiplier"] == module.latency.penalty.multiplier.item() > 0
    assert "training_step" not in module.__dict__


class Metric(nn.Module):
    """Its ``==`` is no comparison, as that of torchmetrics' metrics."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = nn.Module.__hash__


def test_a_metric_in_a_module_that_optimises_by_hand_is_not_taken_for_the_loss() -> None:
    net = make_net()
    loss, module = loss_of(net), Manual(net, loss_of(net))
    module.latency = Metric()
    with pytest.raises(SearchError, match=r"Expected Manual, which optimises by hand, to hold the loss and to call it"):
        fit(LIB, module, LatencyCallback(loss))


class Forgetful(Manual):
    """Holds a loss, but does not call it."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.manual_backward(functional.cross_entropy(self.net(batch[0]), batch[1]))
        self.optimizers()[0].step()


def test_manual_optimization_that_forgets_the_loss_gets_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    net = make_net()
    with caplog.at_level(logging.WARNING, logger="latency_nas"):
        fit(LIB, Forgetful(net, loss_of(net)), LatencyCallback(), max_epochs=1)
    (message,) = caplog.messages
    assert message == (
        "The training step has not called the loss: with manual optimization, write "
        "`loss = self.latency.combine(loss)` before manual_backward."
    )


def test_a_module_without_a_loss_is_refused() -> None:
    with pytest.raises(SearchError) as caught:
        fit(LIB, make_module(LIB, make_net()), LatencyCallback())
    assert str(caught.value) == (
        "Expected Toy to hold one latency loss, but it holds 0: give the callback the loss, or several of them as "
        "Targets."
    )


def test_a_training_step_that_calls_the_loss_itself_gets_nothing_added() -> None:
    net, expected = make_net(), make_net()
    loss = loss_of(net, at=0.1, weight=3.0)
    module = make_module(LIB, net, lambda task_loss, _: task_loss + loss())
    fit(LIB, module, LatencyCallback(loss))
    by_hand(expected, loss_of(expected, at=0.1, weight=3.0))
    assert_same(net, expected)


# --- steps of the architecture only


class Alternating(LightningModule):
    """One optimizer for both; with `toggles`, weights and architecture parameters require a gradient in turn."""

    def __init__(self, net: ChainNet, *, toggles: bool) -> None:
        super().__init__()
        self.net, self.toggles = net, toggles

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.toggles:
            for name, parameter in self.net.named_parameters():
                parameter.requires_grad_(("alpha" in name) == (batch_idx % 2 == 1))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=LR)


def is_odd(module: Any, batch: Any, batch_idx: int) -> bool:
    return batch_idx % 2 == 1


@pytest.mark.parametrize("criterion", ["requires_grad", "function", "method"])
def test_the_term_joins_steps_of_the_architecture_only(criterion: str) -> None:
    net = make_net()
    module = Alternating(net, toggles=criterion == "requires_grad")
    if criterion == "method":
        module.is_arch_step = lambda batch, batch_idx: batch_idx % 2 == 1
    loss = loss_of(net, at=0.1, penalty=constraint())
    callback = LatencyCallback(loss, apply_to="arch", arch_step=is_odd if criterion == "function" else None)
    fit(LIB, module, callback)
    assert loss.n_terms == int(loss.penalty.n_steps) == 4


def test_the_term_joins_all_steps_by_default() -> None:
    net = make_net()
    loss = loss_of(net, at=0.1, penalty=constraint())
    fit(LIB, Alternating(net, toggles=False), LatencyCallback(loss))
    assert loss.n_terms == int(loss.penalty.n_steps) == 8


def test_accumulated_gradients_are_one_step() -> None:
    net = make_net()
    loss = loss_of(net, at=0.1, penalty=constraint())
    fit(LIB, make_module(LIB, net), LatencyCallback(loss), accumulate_grad_batches=2)
    assert loss.n_terms == 8
    assert int(loss.penalty.n_steps) == 4


# --- precision, compilers


@pytest.mark.filterwarnings("ignore:You passed `Trainer:UserWarning")
@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU.*")
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "bf16-true"])
def test_precision_does_not_round_multipliers(precision: str) -> None:
    net = dearest_first(make_net())
    loss = loss_of(net, at=0.2, penalty=constraint())
    module = make_module(LIB, net, lambda task_loss, _: task_loss)
    module.latency = loss  # cast with the module
    if precision == "bf16-true":
        module.training_step = lambda batch, batch_idx: functional.cross_entropy(net(batch[0]).float(), batch[1])
    fit(LIB, module, LatencyCallback(), precision=precision)
    assert loss.penalty.multiplier.dtype == torch.float64
    assert loss.penalty.multiplier.item() > 0


def test_a_compiled_supernet_trains_as_it_does_uncompiled() -> None:
    net, expected = make_net(), make_net()
    module = make_module(LIB, net)
    loss = loss_of(net, at=0.1, penalty=constraint())
    module.net = torch.compile(net, backend="eager")
    fit(LIB, module, LatencyCallback(loss), max_epochs=1)
    other = loss_of(expected, at=0.1, penalty=constraint())
    fit(LIB, make_module(LIB, expected), LatencyCallback(other), max_epochs=1)
    assert_same(net, expected)
    assert loss.penalty.multiplier.item() == pytest.approx(other.penalty.multiplier.item(), rel=1e-6) != 0


# --- stopping, and what is logged


def test_a_stable_search_on_its_target_is_stopped() -> None:
    net = make_net()
    loss = loss_of(net, at=0.0)  # the argmax architecture is the cheapest one
    trainer = fit(LIB, make_module(LIB, net), LatencyCallback(loss, stop_after=2), max_epochs=9)
    assert trainer.current_epoch == 3  # the first, and two more like it
    other = dearest_first(make_net())
    off_target = loss_of(other, at=0.0, weight=0.0)
    trainer = fit(LIB, make_module(LIB, other), LatencyCallback(off_target, stop_after=2), max_epochs=4)
    assert trainer.current_epoch == 4


def test_the_summary_is_logged_and_its_columns_add_up(caplog: pytest.LogCaptureFixture) -> None:
    net = make_net()
    loss = loss_of(net)
    with caplog.at_level(logging.INFO, logger="latency_nas"):
        callback = LatencyCallback(loss)
        fit(LIB, make_module(LIB, net), callback, max_epochs=1)
    (text,) = [message for message in caplog.messages if "The most probable architecture" in message]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    costs = {row[0]: float(row[3]) for row in rows}
    assert list(costs) == [*loss.plan.choices, "whatever is chosen", "in all", "expected", "target"]
    total = sum(costs[name] for name in (*loss.plan.choices, "whatever is chosen"))
    assert costs["in all"] == pytest.approx(total, abs=2e-3) == pytest.approx(loss.argmax_ms(), abs=2e-3)
    shares = [float(row[-1].rstrip("%")) for row in rows if row[-1]]
    assert sum(shares) == pytest.approx(100, abs=0.3)


def test_several_targets_have_figures_of_their_own() -> None:
    net = make_net()
    latency = Targets({"phone": loss_of(net, at=0.3), "size": LatencyLoss(ResourceCounter("params"), weight=1e-6)})
    latency.attach(net, EXAMPLE)
    callback = LatencyCallback(latency)
    fit(LIB, make_module(LIB, net), callback, max_epochs=1)
    (figures,) = callback.history
    assert {"latency/phone/target_ms", "latency/size/argmax_params", "latency/entropy"} <= figures.keys()
    assert not [name for name in figures if name.startswith("latency/size/") and name.endswith("_ms")]
    n_params = sum(p.numel() for p in net.subnet(latency.architecture()).parameters())
    assert figures["latency/size/argmax_params"] == n_params


def test_what_is_no_latency_is_not_called_so() -> None:
    net = make_net()
    loss = LatencyLoss(ResourceCounter("params"), weight=1e-6)
    loss.attach(net, EXAMPLE)
    callback = LatencyCallback(loss)
    trainer = fit(LIB, make_module(LIB, net), callback, max_epochs=1)
    assert set(trainer.progress_bar_metrics) == {"expected_params"}
    assert {name for name in callback.history[0] if name.count("/") == 1} == {
        "latency/expected_params", "latency/argmax_params", "latency/temperature", "latency/entropy"
    }  # fmt: skip


# --- checkpoints


class PlainAlphas(LightningModule):
    """As in DARTS: the architecture parameters are a plain tensor, which the optimizer is given explicitly."""

    def __init__(self, net: MatrixNet) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([{"params": self.parameters()}, {"params": [self.net.matrix]}], lr=LR, momentum=0.9)


def search_plain(net: MatrixNet, folder: Path, ckpt_path: Path | None = None) -> LatencyLoss:
    loss = loss_of(net, choices=net.choices(), at=0.2, penalty=constraint(2), temperature=2.0)
    saver = ModelCheckpoint(dirpath=folder, filename="{epoch}", save_top_k=-1)
    callback = LatencyCallback(loss, final_temperature=0.5)
    options = {"max_epochs": 4, "enable_checkpointing": True, "ckpt_path": ckpt_path}
    fit(LIB, PlainAlphas(net), callback, saver, **options)
    return loss


def make_matrix_net() -> MatrixNet:
    torch.manual_seed(0)
    return MatrixNet()


def test_a_resumed_search_is_the_uninterrupted_one_to_the_last_bit(tmp_path: Path) -> None:
    whole, resumed = make_matrix_net(), make_matrix_net()
    loss = search_plain(whole, tmp_path)
    other = search_plain(resumed, tmp_path / "again", tmp_path / "epoch=1.ckpt")
    assert torch.equal(resumed.matrix, whole.matrix)
    assert not torch.equal(whole.matrix, make_matrix_net().matrix)
    for name, tensor in loss.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    assert loss.temperature.item() == 0.5
    assert loss.penalty.multiplier.item() != 0


def test_another_table_cannot_go_on_with_the_search(tmp_path: Path) -> None:
    net = make_net()
    trainer = fit(LIB, make_module(LIB, net), LatencyCallback(loss_of(net)), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "search.ckpt")
    table = table_of(net)
    rows = {kernel: Entry(latency_ms=2 * row.latency_ms) for kernel, row in table.items()}
    slower = LatencyLoss(LatencyTable.of(rows, table.datasheet))
    slower.attach(net, EXAMPLE)
    with pytest.raises(SearchError) as caught:
        fit(LIB, make_module(LIB, net), LatencyCallback(slower), ckpt_path=tmp_path / "search.ckpt")
    assert str(caught.value) == (
        f"Expected the table with which the search began (fingerprint {table.fingerprint()[:12]}), but the loss has "
        f"another ({slower.fingerprint()[:12]}): load the former, or begin a new search."
    )


# --- LightningCLI


class Searched(LightningModule):
    """What a user's module looks like; found by LightningCLI through its import path."""

    def __init__(self) -> None:
        super().__init__()
        self.net = make_net()
        self.example_input_array = EXAMPLE

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return functional.cross_entropy(self.net(batch[0]), batch[1])

    def train_dataloader(self) -> Batches:
        return Batches()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=LR)


@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
def test_lightning_cli_configures_it_by_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = save_table(table_of(make_net()), tmp_path / "table.parquet")
    constraint = {
        "class_path": "latency_nas.search.loss.constraint.AugmentedLagrangian",
        "init_args": {"kind": "equality"},
    }
    loss = {"table": str(table), "target_ms": 4.5, "penalty": constraint}
    loss = {"class_path": "latency_nas.LatencyLoss", "init_args": loss}
    callback = {"class_path": "latency_nas.LatencyCallback", "init_args": {"loss": loss, "final_temperature": 0.5}}
    quiet = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
    trainer = {"max_epochs": 2, "accelerator": "cpu", "callbacks": [callback], **dict.fromkeys(quiet, False)}
    config = tmp_path / "search.yaml"
    config.write_text(yaml.safe_dump({"seed_everything": False, "trainer": trainer}), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["search.py", "fit", "--config", str(config)])
    cli = LightningCLI(Searched, save_config_callback=None)
    (found,) = [item for item in cli.trainer.callbacks if type(item).__name__ == "LatencyCallback"]
    assert found.loss.target_ms == 4.5
    assert found.loss.penalty.kind == "equality"
    assert [figures["latency/temperature"] for figures in found.history] == [1.0, 0.5]


# --- arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"apply_to": "weights"}, "Expected `apply_to` to be 'all' or 'arch', but got 'weights'."),
        ({"stop_after": 0}, "Expected `stop_after` to be a positive number of epochs, but got 0."),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SearchError) as caught:
        LatencyCallback(loss_of(make_net()), **options)
    assert str(caught.value) == message


def test_there_is_no_loss_before_setup() -> None:
    read: Callable[[], Any] = lambda: LatencyCallback().loss  # noqa: E731
    with pytest.raises(SearchError) as caught:
        read()
    assert str(caught.value) == "Expected a loss: give it to the callback, or hold it in the module."
