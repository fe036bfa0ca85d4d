"""The callback in real trainers of both Lightnings, against loops written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.pytorch
import numpy as np
import pytest
import pytorch_lightning
import torch
from torch import Tensor, nn
from torch.nn import functional

from latency_nas.errors import SearchError
from latency_nas.integrate.lightning import LatencyCallback
from latency_nas.search.loss.loss import LatencyLoss
from tests.fresh_process import printed_by
from tests.supernets import EXAMPLE, ChainNet, loss_of, table_of

N_BATCHES, LR = 4, 0.5
BOTH = pytest.mark.parametrize("lib", [lightning.pytorch, pytorch_lightning], ids=lambda lib: lib.__name__)

# warnings that concern only Lightning
pytestmark = [
    pytest.mark.filterwarnings("ignore:`training_step` returned `None`"),
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Layers are so small here that a second thread only waits, and changes the order of sums."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


class Batches:
    """A few fixed batches; not a DataLoader, which would draw random numbers."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batches = [
            (torch.randn(6, 1, 8, 8, generator=generator), torch.randint(3, (6,), generator=generator))
            for _ in range(N_BATCHES)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)


def make_net() -> ChainNet:
    torch.manual_seed(0)
    return ChainNet()


def as_tensor(loss: Tensor, batch_idx: int) -> Any:
    return loss


def as_dict(loss: Tensor, batch_idx: int) -> Any:
    return {"loss": loss, "note": batch_idx}


def as_none_at_times(loss: Tensor, batch_idx: int) -> Any:
    return None if batch_idx == 1 else loss


def make_module(
    lib: ModuleType, net: nn.Module, returns: Callable[[Tensor, int], Any] = as_tensor, *, automatic: bool = True
) -> Any:
    class Toy(lib.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net
            self.automatic_optimization = automatic
            self.seen: list[Any] = []

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
            return returns(functional.cross_entropy(self.net(batch[0]), batch[1]), batch_idx)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.seen.append(outputs)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=LR)

    return Toy()


def fit(lib: ModuleType, module: Any, *callbacks: Any, ckpt_path: Path | None = None, **options: Any) -> Any:
    trainer = lib.Trainer(
        **{"max_epochs": 2, "enable_checkpointing": False} | options, callbacks=list(callbacks), accelerator="cpu",
        logger=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, Batches(), ckpt_path=ckpt_path)
    return trainer


def by_hand(
    net: ChainNet, latency: LatencyLoss, *, epochs: int = 2, accumulate: int = 1, skipped: tuple[int, ...] = ()
) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    for _ in range(epochs):
        for number, (x, y) in enumerate(Batches()):
            loss = functional.cross_entropy(net(x), y) + latency()
            if number in skipped:
                continue
            (loss / accumulate).backward()
            if (number + 1) % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()


def assert_same(first: nn.Module, second: nn.Module) -> None:
    other = second.state_dict()
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(
            tensor, other[name], rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


# --- what the optimiser sees


@BOTH
@pytest.mark.parametrize(
    ("returns", "skipped"), [(as_tensor, ()), (as_dict, ()), (as_none_at_times, (1,))], ids=["tensor", "dict", "None"]
)
def test_training_is_that_of_the_sum_by_hand(lib: ModuleType, returns: Any, skipped: tuple[int, ...]) -> None:
    net, expected, without = make_net(), make_net(), make_net()
    module = make_module(lib, net, returns)
    fit(lib, module, LatencyCallback(loss_of(net, at=0.1, weight=3.0)))
    by_hand(expected, loss_of(expected, at=0.1, weight=3.0), skipped=skipped)
    assert_same(net, expected)
    by_hand(without, loss_of(without, weight=0.0), skipped=skipped)
    assert not torch.allclose(net.alphas()[0], without.alphas()[0], atol=1e-3)  # the comparison can fail
    if returns is as_dict:
        assert [output["note"] for output in module.seen] == [0, 1, 2, 3] * 2


@BOTH
def test_training_is_that_of_the_sum_by_hand_with_accumulated_gradients(lib: ModuleType) -> None:
    net, expected = make_net(), make_net()
    fit(lib, make_module(lib, net), LatencyCallback(loss_of(net, weight=3.0)), accumulate_grad_batches=2)
    by_hand(expected, loss_of(expected, weight=3.0), accumulate=2)
    assert_same(net, expected)


@BOTH
def test_mixed_precision_neither_rounds_nor_breaks(lib: ModuleType) -> None:
    net = make_net()
    loss = loss_of(net, at=0.1, weight=3.0)
    before_ms = loss.expected_ms().item()
    callback = LatencyCallback(loss)
    module = make_module(lib, net)
    fit(lib, module, callback, precision="bf16-mixed")
    assert callback.history[-1]["latency/expected_ms"] == loss.expected_ms().item() < before_ms
    assert all(output["loss"].dtype == torch.float32 for output in module.seen)


@BOTH
def test_a_loss_that_is_part_of_a_module_that_optimises_by_hand(lib: ModuleType) -> None:
    class Manual(lib.LightningModule):
        def __init__(self, net: ChainNet) -> None:
            super().__init__()
            self.net, self.latency = net, loss_of(net, weight=3.0)
            self.automatic_optimization = False

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(functional.cross_entropy(self.net(batch[0]), batch[1]) + self.latency())
            optimizer.step()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=LR)

    module, expected = Manual(make_net()), make_net()
    fit(lib, module)
    by_hand(expected, loss_of(expected, weight=3.0))
    assert_same(module.net, expected)
    own = [name for name in module.state_dict() if not name.startswith("net.")]
    assert own == [f"latency.{name}" for name in ("temperature", "first_temperature", "scale", "strength")]


def as_dict_without_loss(loss: Tensor, batch_idx: int) -> Any:
    return {"note": batch_idx}


@BOTH
def test_a_dict_without_a_loss_gets_lightnings_message(lib: ModuleType) -> None:
    module, other = (make_module(lib, make_net(), as_dict_without_loss) for _ in range(2))
    error = lib.utilities.exceptions.MisconfigurationException
    with pytest.raises(error) as expected:
        fit(lib, module)
    with pytest.raises(error) as caught:
        fit(lib, other, LatencyCallback(loss_of(other.net)))
    assert str(caught.value) == str(expected.value)


# --- the module is left as it was


@BOTH
def test_training_step_is_restored(lib: ModuleType) -> None:
    net = make_net()
    module, without = make_module(lib, net), make_module(lib, make_net())
    fit(lib, module, LatencyCallback(loss_of(net)))
    fit(lib, without)
    assert module.__dict__.keys() == without.__dict__.keys()

    class_step = module.training_step
    module.training_step = own_step = lambda batch, batch_idx: class_step(batch, batch_idx)
    fit(lib, module, LatencyCallback(loss_of(net)))
    assert module.training_step is own_step


class Interrupted(Exception):  # noqa: N818
    """Any exception that ends a training early."""


@BOTH
def test_training_step_is_restored_after_an_exception(lib: ModuleType) -> None:
    def interrupt(loss: Tensor, batch_idx: int) -> None:
        raise Interrupted

    module = make_module(lib, make_net(), interrupt)
    with pytest.raises(Interrupted):
        fit(lib, module, LatencyCallback(loss_of(module.net)))
    assert "training_step" not in module.__dict__


@BOTH
def test_training_again_after_an_exception_adds_the_loss_once(lib: ModuleType) -> None:
    interrupts = iter([True])

    def interrupt_once(loss: Tensor, batch_idx: int) -> Tensor:
        if next(interrupts, False):
            raise Interrupted
        return loss

    net, expected = make_net(), make_net()
    module = make_module(lib, net, interrupt_once)
    callback = LatencyCallback(loss_of(net, weight=3.0))
    with pytest.raises(Interrupted):
        fit(lib, module, callback)
    net.load_state_dict(expected.state_dict())
    fit(lib, module, callback)
    by_hand(expected, loss_of(expected, weight=3.0))
    assert_same(net, expected)


# --- attaching


@BOTH
def test_the_loss_attaches_to_the_modules_example_input(lib: ModuleType) -> None:
    net = make_net()
    attached = loss_of(net)
    module = make_module(lib, net)
    module.example_input_array = EXAMPLE
    loss = LatencyLoss(attached.estimator.table, attached.target_ms)
    fit(lib, module, LatencyCallback(loss))
    assert loss.plan.choices == ("net.blocks.0", "net.blocks.1", "net.blocks.2")
    assert loss.plan.costs_ms == attached.plan.costs_ms
    assert torch.equal(loss(), attached())


@BOTH
def test_nothing_to_attach_to(lib: ModuleType) -> None:
    net = make_net()
    with pytest.raises(SearchError) as caught:
        fit(lib, make_module(lib, net), LatencyCallback(LatencyLoss(table_of(net), 4.5)))
    assert str(caught.value) == (
        "Expected the loss to be attached, or the module to have an `example_input_array`: call "
        "latency.attach(supernet, example_input) before trainer.fit."
    )


@BOTH
def test_manual_optimization_of_a_module_that_does_not_hold_the_loss_is_refused(lib: ModuleType) -> None:
    net = make_net()
    with pytest.raises(SearchError) as caught:
        fit(lib, make_module(lib, net, automatic=False), LatencyCallback(loss_of(net)))
    assert str(caught.value) == (
        "Expected Toy, which optimises by hand, to hold the loss and to call it: write `self.latency = latency` in its "
        "__init__ and `loss = self.latency.combine(loss)` before manual_backward."
    )


# --- temperature, history, logs


def test_a_final_temperature_of_zero_is_refused() -> None:
    with pytest.raises(SearchError) as caught:
        LatencyCallback(loss_of(make_net()), final_temperature=0.0)
    assert str(caught.value) == "Expected `final_temperature` to be a positive number, but got 0.0."


@BOTH
def test_temperature_falls_geometrically(lib: ModuleType) -> None:
    net = make_net()
    callback = LatencyCallback(loss_of(net, temperature=8.0), final_temperature=0.5)
    fit(lib, make_module(lib, net), callback, max_epochs=5)
    temperatures = [figures["latency/temperature"] for figures in callback.history]
    assert temperatures == pytest.approx([8, 4, 2, 1, 0.5], rel=1e-12)


@BOTH
def test_temperature_falls_geometrically_over_steps(lib: ModuleType) -> None:
    net = make_net()
    callback = LatencyCallback(loss_of(net, temperature=8.0), final_temperature=0.5)
    fit(lib, make_module(lib, net), callback, max_epochs=-1, max_steps=5 * N_BATCHES)
    temperatures = [figures["latency/temperature"] for figures in callback.history]
    assert temperatures == pytest.approx([8, 4, 2, 1, 0.5], rel=1e-12)


def entropies(net: ChainNet) -> dict[str, float]:
    """The entropy of the softmax of each architecture parameter, in nats, and their mean, by the names of the logs."""
    found = {}
    for name, parameter in net.named_parameters():
        if name.endswith(".alpha"):
            gates = np.exp(parameter.detach().double().numpy())
            gates /= gates.sum()
            found[f"latency/entropy/{name.removesuffix('.alpha')}"] = float(-(gates * np.log(gates)).sum())
    return {"latency/entropy": sum(found.values()) / len(found), **found}


@BOTH
def test_history_and_logs_give_the_state_of_the_search(lib: ModuleType) -> None:
    net = make_net()
    loss = loss_of(net, at=0.1, weight=3.0)
    callback = LatencyCallback(loss)
    trainer = fit(lib, make_module(lib, net), callback, max_epochs=3)
    last = {
        "latency/expected_ms": loss.expected_ms().item(),
        "latency/argmax_ms": loss.argmax_ms(),
        "latency/target_ms": loss.target_ms,
        "latency/temperature": 1.0,
        **entropies(net),
    }
    assert [figures["epoch"] for figures in callback.history] == [0, 1, 2]
    assert callback.history[-1] == pytest.approx({"epoch": 2, **last}, rel=1e-12)
    assert callback.history[0]["latency/expected_ms"] > callback.history[2]["latency/expected_ms"] > loss.target_ms
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert logged == pytest.approx({**last, "expected_ms": last["latency/expected_ms"]}, rel=1e-6)
    assert set(trainer.progress_bar_metrics) == {"expected_ms"}
    assert set(trainer.logged_metrics) == set(last)


def test_without_a_target_none_is_logged() -> None:
    net = make_net()
    loss = loss_of(net)
    loss.target_ms = None
    callback = LatencyCallback(loss)
    fit(lightning.pytorch, make_module(lightning.pytorch, net), callback, max_epochs=1)
    (figures,) = callback.history
    assert set(figures) == {
        "epoch", "latency/expected_ms", "latency/argmax_ms", "latency/temperature", *entropies(net)
    }  # fmt: skip


# --- checkpoints


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@BOTH
def test_a_resumed_search_is_the_uninterrupted_one(lib: ModuleType, tmp_path: Path) -> None:
    def search(temperature: float, ckpt_path: Path | None = None) -> tuple[ChainNet, Any]:
        net = make_net()
        callback = LatencyCallback(loss_of(net, at=0.1, weight=3.0, temperature=temperature), final_temperature=0.5)
        saver = lib.callbacks.ModelCheckpoint(dirpath=tmp_path / str(temperature), filename="{epoch}", save_top_k=-1)
        options = {"max_epochs": 4, "enable_checkpointing": True, "ckpt_path": ckpt_path}
        fit(lib, make_module(lib, net), callback, saver, **options)
        return net, callback

    whole, callback = search(8.0)
    resumed, other = search(3.0, tmp_path / "8.0" / "epoch=1.ckpt")
    assert [figures["epoch"] for figures in other.history] == [0, 1, 2, 3]
    assert other.history == callback.history
    assert float(other.loss.first_temperature) == 8.0
    assert_same(resumed, whole)


@BOTH
def test_a_temperature_set_by_hand_is_resumed(lib: ModuleType, tmp_path: Path) -> None:
    net = make_net()
    callback = LatencyCallback(loss_of(net))
    callback.loss.temperature.fill_(0.25)
    fit(lib, make_module(lib, net), callback).save_checkpoint(tmp_path / "search.ckpt")
    other = LatencyCallback(loss_of(net))
    fit(lib, make_module(lib, net), other, max_epochs=3, ckpt_path=tmp_path / "search.ckpt")
    assert other.loss.temperature.item() == 0.25
    assert [figures["latency/temperature"] for figures in other.history] == [0.25] * 3


# --- which of the two Lightnings


def test_with_both_imported_a_callback_works_with_both() -> None:
    callback = LatencyCallback(loss_of(make_net()))
    assert isinstance(callback, lightning.pytorch.Callback)
    assert isinstance(callback, pytorch_lightning.Callback)


ALONE = """
from {mine} import Callback
import latency_nas
from latency_nas import LatencyCallback
from tests.supernets import ChainNet, loss_of
callback = LatencyCallback(loss_of(ChainNet()))
print(isinstance(callback, Callback), "{other}" in sys.modules)
from {other} import Callback as Other
print(issubclass(latency_nas.LatencyCallback, Other), issubclass(latency_nas.LatencyCallback, Callback))
"""


@pytest.mark.parametrize(
    ("mine", "other"), [("lightning.pytorch", "pytorch_lightning"), ("pytorch_lightning", "lightning.pytorch")]
)
def test_with_one_imported_a_callback_works_with_it_and_the_other_is_not_imported(mine: str, other: str) -> None:
    """Once the other is imported as well, the package gives a callback of both."""
    assert printed_by(ALONE.format(mine=mine, other=other)).splitlines() == ["True False", "True True"]


LATER = """
from latency_nas import LatencyCallback
from tests.integrate.test_lightning import assert_same, by_hand, fit, loss_of, make_module, make_net, pytorch_lightning
net, expected = make_net(), make_net()
callback = LatencyCallback(loss_of(net))
trainer = fit(pytorch_lightning, make_module(pytorch_lightning, net), callback)
by_hand(expected, loss_of(expected))
assert_same(net, expected)
trainer.save_checkpoint("{file}")
trainer = fit(pytorch_lightning, make_module(pytorch_lightning, net), callback, max_epochs=3, ckpt_path="{file}")
print(len(callback.history))
"""


def test_a_callback_imported_before_either_serves_both(tmp_path: Path) -> None:
    assert printed_by(LATER.format(file=tmp_path / "search.ckpt")) == "3"


NEITHER = """
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("lightning", "pytorch_lightning"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
try:
    from latency_nas import LatencyCallback
    LatencyCallback(None)
except ImportError as error:
    print(type(error).__name__, error)
"""


def test_without_lightning_the_message_says_what_to_install() -> None:
    assert printed_by(NEITHER) == (
        "MissingExtraError LatencyCallback needs Lightning: pip install 'latency-nas[lightning]'"
    )
