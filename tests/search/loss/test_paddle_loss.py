"""Supernets written in Paddle: the same plan, loss and gradient as the same supernet in torch."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
import paddle_supernet
import pytest
import torch
from paddle import nn
from paddle.nn import functional

from latency_nas import LatencyEstimator, LatencyLoss, PaddleLatencyLoss, ResourceCounter, groups_of
from latency_nas.engine import fuse
from latency_nas.errors import GraphError, QuantityError, SearchError
from latency_nas.graph.paddle.layer import read_layer
from latency_nas.graph.reader import read_model
from latency_nas.integrate.paddle import PaddleLatencyCallback
from latency_nas.table import Entry, LatencyTable
from tests.supernets import DATASHEET, MadeUp, table_of

SHAPE = (1, 1, 8, 8)
KERNELS = (1, 3, 5)


class TorchMixed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.candidates = torch.nn.ModuleList([
            *(torch.nn.Conv2d(4, 4, kernel, padding=kernel // 2, bias=False) for kernel in KERNELS),
            torch.nn.Identity(),
        ])  # fmt: skip
        self.alpha = torch.nn.Parameter(torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gates = self.alpha.softmax(0)
        return sum(gate * layer(x) for gate, layer in zip(gates, self.candidates, strict=True))


class PaddleMixed(nn.Layer):
    """`mix` is how the outputs are summed; `extra` is one more candidate."""

    def __init__(self, mix: str = "sum", extra: type[nn.Layer] | None = None) -> None:
        super().__init__()
        convolutions = [nn.Conv2D(4, 4, kernel, padding=kernel // 2, bias_attr=False) for kernel in KERNELS]
        self.candidates = nn.LayerList([*convolutions, nn.Identity(), *([extra()] if extra is not None else [])])
        self.alpha = self.create_parameter([len(self.candidates)])
        self.mix = mix

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        gates = functional.softmax(self.alpha)
        if self.mix == "stack":
            stack = paddle.stack([layer(x) for layer in self.candidates])
            return (stack * gates.reshape([-1, 1, 1, 1, 1])).sum(0)
        if self.mix == "einsum":
            return paddle.einsum("k,k...->...", gates, paddle.stack([layer(x) for layer in self.candidates]))
        if self.mix == "tensordot":
            return paddle.tensordot(gates, paddle.stack([layer(x) for layer in self.candidates]), axes=1)
        if self.mix == "pick":
            return self.candidates[1](x)
        weighted = [gates[index] * layer(x) for index, layer in enumerate(self.candidates)]
        if self.mix == "add_n":
            return paddle.add_n(weighted)
        if self.mix == "accumulate":
            total = paddle.zeros_like(x)
            for output in weighted:
                total = total + output
            return total
        return sum(weighted)


class PaddleNet(nn.Layer):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.stem = nn.Conv2D(1, 4, 3, padding=1, bias_attr=False)
        self.blocks = nn.LayerList([PaddleMixed(**options) for _ in range(3)])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = functional.relu(self.stem(x))
        for block in self.blocks:
            x = functional.relu(block(x))
        return x


class Subnet(nn.Layer):
    """One architecture, written down by hand."""

    def __init__(self, supernet: PaddleNet, indices: list[int]) -> None:
        super().__init__()
        self.stem = supernet.stem
        pairs = zip(supernet.blocks, indices, strict=True)
        self.blocks = nn.LayerList([block.candidates[index] for block, index in pairs])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = functional.relu(self.stem(x))
        for block in self.blocks:
            x = functional.relu(block(x))
        return x


class Zero(nn.Layer):
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x * 0.0


class ZerosLike(nn.Layer):
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return paddle.zeros_like(x)


class Halved(nn.Layer):
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return functional.max_pool2d(x, 2)


class RowsNet(nn.Layer):
    """Rows of a matrix on the root, as in DARTS, and a list that has none."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (
            nn.LayerList([nn.Conv2D(1, 1, 3, padding=1), nn.Identity()]) for _ in range(3)
        )
        self.alphas = self.create_parameter([2, 2])


def torch_net() -> torch.nn.Module:
    blocks = [layer for _ in range(3) for layer in (TorchMixed(), torch.nn.ReLU())]
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1, bias=False), torch.nn.ReLU(), *blocks)


def table() -> LatencyTable:
    return table_of(torch_net(), torch.zeros(SHAPE))


def alphas_of(supernet: PaddleNet, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(3, len(supernet.blocks[0].candidates))).astype("float32")
    for block, row in zip(supernet.blocks, drawn, strict=True):
        block.alpha.set_value(row)
    return drawn


def attached(supernet: PaddleNet, **options: Any) -> PaddleLatencyLoss:
    latency = PaddleLatencyLoss(table(), **options)
    latency.attach(supernet, paddle.zeros(SHAPE))
    return latency


@pytest.mark.parametrize("penalty", ["absolute", "hinge", "log", "mnasnet-soft", "equality", "inequality"])
def test_loss_and_gradient_are_those_of_torch(penalty: str) -> None:
    ours, theirs = PaddleNet(), torch_net()
    drawn = alphas_of(ours)
    options: dict[str, Any] = {"penalty": penalty, "temperature": 0.7, "weight": 1.5}
    latency, reference = attached(ours, **options), LatencyLoss(table(), **options)
    plan = reference.attach(theirs, torch.zeros(SHAPE))
    assert latency.plan.costs_ms == plan.costs_ms
    assert latency.plan.fixed_ms == pytest.approx(plan.fixed_ms, abs=1e-12)
    blocks = [module for module in theirs if isinstance(module, TorchMixed)]
    for block, row in zip(blocks, drawn, strict=True):
        block.alpha.data = torch.from_numpy(row.copy())
    latency.target_ms = reference.target_ms = 0.8 * float(reference.expected_ms().detach())
    for _ in range(3):  # so that a constraint's multiplier has moved
        assert latency.step() == reference.step()
    term, expected = latency(), reference()
    term.backward()
    expected.backward()  # type: ignore[no-untyped-call]
    assert float(term) == pytest.approx(float(expected.detach()), abs=1e-6)
    for ours_block, block in zip(ours.blocks, blocks, strict=True):
        np.testing.assert_allclose(ours_block.alpha.grad.numpy(), block.alpha.grad, atol=1e-6)
    assert latency.architecture() == dict(zip(latency.plan.choices, reference.architecture().values(), strict=True))


def test_expected_latency_is_that_of_paddles_own_operators() -> None:
    supernet = PaddleNet()
    alphas_of(supernet, seed=1)
    latency = attached(supernet)
    expected = latency.expected_ms()
    expected.backward()
    found = [block.alpha.grad.numpy() for block in supernet.blocks]
    by_hand = paddle.to_tensor(latency.plan.fixed_ms, dtype="float64")
    for block, costs in zip(supernet.blocks, latency.plan.costs_ms, strict=True):
        block.alpha.clear_gradient()
        gates = functional.softmax(block.alpha.astype("float64"))
        by_hand = by_hand + (gates * paddle.to_tensor(costs, dtype="float64")).sum()
    by_hand.backward()
    assert float(expected) == pytest.approx(float(by_hand), abs=1e-9)
    for block, gradient in zip(supernet.blocks, found, strict=True):
        np.testing.assert_allclose(gradient, block.alpha.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("mix", ["sum", "stack", "pick", "add_n", "accumulate", "einsum", "tensordot"])
def test_plan_is_the_estimator_on_each_subnet(mix: str) -> None:
    supernet = PaddleNet(mix=mix)
    latency = attached(supernet)
    estimator = LatencyEstimator(table())
    draw = random.Random(0)
    for _ in range(4):
        indices = [draw.randrange(4) for _ in range(3)]
        alone = estimator.price(fuse(read_layer(Subnet(supernet, indices), input_shape=SHAPE), "MNN"))
        found_ms = latency.plan.latency_ms(dict(zip(latency.plan.choices, indices, strict=True)))
        assert found_ms == pytest.approx(alone.latency_ms, abs=1e-9)


class Cell(nn.Layer):
    """Two nodes with an edge each, beside a convolution; a node may lack its edge."""

    def __init__(self, supernet: PaddleNet, indices: Sequence[int] | None = None) -> None:
        super().__init__()
        self.net, self.indices = supernet, indices
        self.side = nn.Conv2D(4, 4, 3, padding=1, bias_attr=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = functional.relu(self.net.stem(x))
        for number, block in enumerate(self.net.blocks):
            beside = functional.sigmoid(self.side(x))
            if self.indices is None:
                x = sum([block(x), beside])
            else:
                op = block.candidates[self.indices[number]]
                x = beside if isinstance(op, Zero | ZerosLike) else op(x) + beside
        return x


@pytest.mark.parametrize("zero", [Zero, ZerosLike])
@pytest.mark.parametrize("mix", ["sum", "add_n", "accumulate", "einsum"])
def test_an_edge_whose_zero_is_chosen_is_absent(zero: type[nn.Layer], mix: str) -> None:
    supernet, estimator = Cell(PaddleNet(mix=mix, extra=zero)), MadeUp()
    latency = PaddleLatencyLoss(estimator)
    latency.attach(supernet, paddle.zeros(SHAPE))
    for indices in ([4, 4, 4], [4, 0, 3], [1, 4, 2], [3, 2, 4]):
        alone = estimator.price(fuse(read_layer(Cell(supernet.net, indices), input_shape=SHAPE), "MNN"))
        found_ms = latency.plan.latency_ms(dict(zip(latency.plan.choices, indices, strict=True)))
        assert found_ms == pytest.approx(alone.latency_ms, rel=1e-9)


def test_groups_with_gates() -> None:
    supernet = PaddleNet()
    drawn = alphas_of(supernet)
    latency = PaddleLatencyLoss(table())
    groups = groups_of(
        {str(number): block.candidates for number, block in enumerate(supernet.blocks)},
        gates=lambda net: {str(number): functional.softmax(block.alpha) for number, block in enumerate(net.blocks)},
    )
    latency.attach(supernet, paddle.zeros(SHAPE), choices=groups)
    assert float(latency.expected_ms()) == pytest.approx(float(attached(supernet).expected_ms()), abs=1e-6)
    latency.expected_ms().backward()
    gates = np.exp(drawn) / np.exp(drawn).sum(1, keepdims=True)
    costs = np.array(latency.plan.costs_ms)
    slopes = gates * (costs - (gates * costs).sum(1, keepdims=True))
    np.testing.assert_allclose([block.alpha.grad.numpy() for block in supernet.blocks], slopes, atol=1e-6)


def test_supernet_is_left_as_it_was() -> None:
    supernet = PaddleNet()
    supernet.blocks[1].eval()
    before = {name: value.numpy() for name, value in supernet.state_dict().items()}
    attached(supernet)
    assert [layer.training for layer in supernet.blocks] == [True, False, True]
    assert not any("forward" in vars(layer) for layer in supernet.sublayers())
    assert before.keys() == supernet.state_dict().keys()
    assert all(np.array_equal(before[name], value.numpy()) for name, value in supernet.state_dict().items())


def test_state_is_resumed() -> None:
    supernet = PaddleNet()
    alphas_of(supernet)
    latency, again = (attached(supernet, penalty="equality") for _ in range(2))
    latency.target_ms = again.target_ms = sum(latency.plan.bounds_ms()) / 2
    for _ in range(20):
        latency.step()
    assert float(latency()) != float(again())
    again.set_state_dict(latency.state_dict())
    assert float(latency()) == float(again())
    for _ in range(10):
        latency.step()
        again.step()
    assert latency.figures() == again.figures()
    assert float(latency.torch_loss.penalty.multiplier) == float(again.torch_loss.penalty.multiplier) != 0  # type: ignore[union-attr]


def test_factor_multiplies_the_task_loss() -> None:
    supernet = PaddleNet()
    slow = LatencyTable.of(
        {kernel: Entry(latency_ms=100 * entry.latency_ms) for kernel, entry in table().items()}, DATASHEET
    )
    latency = PaddleLatencyLoss(slow, penalty="fbnet")
    latency.attach(supernet, paddle.zeros(SHAPE))
    task = paddle.to_tensor(2.0)
    expected = 2.0 * 0.2 * np.log(float(latency.expected_ms())) ** 0.6
    assert float(latency.combine(task)) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(SearchError, match="FBNet multiplies the task's loss"):
        latency()


def test_callback_trains_a_paddle_model() -> None:
    paddle.seed(0)
    supernet = PaddleNet()
    draw = np.random.default_rng(0)
    images, wanted = (draw.normal(size=(2, 4, channels, 8, 8)).astype("float32") for channels in (1, 4))
    data = list(zip(images, wanted, strict=True))  # two batches of four
    model = paddle.Model(supernet, inputs=paddle.static.InputSpec(SHAPE, name="x"))
    task = nn.MSELoss()
    model.prepare(paddle.optimizer.Adam(0.1, parameters=[block.alpha for block in supernet.blocks]), loss=task)
    latency = PaddleLatencyLoss(table(), weight=10.0, penalty="linear")
    latency.attach(supernet, paddle.zeros(SHAPE))
    latency.target_ms = sum(latency.plan.bounds_ms()) / 2
    before = float(latency.expected_ms())
    callback = PaddleLatencyCallback(latency)
    model.fit(data, epochs=3, verbose=0, callbacks=[callback])
    assert len(callback.history) == 3
    assert callback.history[-1]["latency/expected_ms"] == pytest.approx(float(latency.expected_ms()))
    assert callback.history[-1]["latency/expected_ms"] < 0.9 * before
    assert model._loss is task
    with pytest.raises(SearchError) as raised:
        PaddleLatencyCallback(PaddleLatencyLoss(table())).on_train_begin()
    assert str(raised.value) == "Expected the model to have a loss: model.prepare(optimizer, loss=...)."


class Interrupted(paddle.callbacks.Callback):
    """Interrupts the first training, and stores the losses of validation."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.validated, self.trained = at, list[float](), list[float]()

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        if step == self.at:
            raise KeyboardInterrupt

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        self.trained.append(float(logs["loss"][0]))

    def on_eval_end(self, logs: Any = None) -> None:
        self.validated.append(float(logs["loss"][0]))


def test_only_steps_of_a_training_have_the_term() -> None:
    """Not its validation, and not what follows a training that was interrupted."""
    supernet = PaddleNet()
    task = nn.MSELoss()
    model = paddle.Model(supernet)
    optimizer = paddle.optimizer.SGD(learning_rate=0.0, parameters=supernet.parameters())
    model.prepare(optimizer, loss=task)
    images = np.random.default_rng(0).normal(size=(2, *SHAPE[1:])).astype("float32")
    data = [(images, np.zeros((2, 4, 8, 8), "float32"))]  # one batch
    latency = PaddleLatencyLoss(table(), weight=1000.0)
    with pytest.raises(SearchError, match=r"Expected an attached loss, or a model that knows its inputs"):
        model.fit(data, epochs=1, verbose=0, callbacks=[PaddleLatencyCallback(latency)])
    latency.attach(supernet, paddle.zeros(SHAPE))
    true_loss = model.evaluate(data, verbose=0)["loss"][0]
    term = float(latency())
    with pytest.raises(KeyboardInterrupt):
        model.fit(data, epochs=1, verbose=0, callbacks=[PaddleLatencyCallback(latency), Interrupted(0)])
    assert model.evaluate(data, verbose=0)["loss"][0] == pytest.approx(true_loss)
    seen = Interrupted(-1)
    model.fit(data, data, epochs=1, verbose=0, callbacks=[PaddleLatencyCallback(latency), seen])
    assert seen.validated == pytest.approx([true_loss])
    assert model._loss is task
    assert seen.trained == pytest.approx([true_loss + term], rel=1e-5)


def test_what_is_no_latency_is_not_called_so() -> None:
    supernet = PaddleNet()
    size = PaddleLatencyLoss(ResourceCounter("params"), penalty="hinge")
    plan = size.attach(supernet, paddle.zeros(SHAPE))
    size.target = sum(plan.bounds()) / 2
    n_params = sum(p.size for p in Subnet(supernet, list(size.architecture().values())).parameters())
    assert size.argmax_cost() == n_params
    assert float(size.expected()) == pytest.approx(plan.expected(size.terms()[""].flat_gates().detach().numpy()))
    assert {name for name in size.figures() if name.count("/") == 1} == {
        "latency/expected_params", "latency/argmax_params", "latency/target_params", "latency/temperature",
        "latency/entropy",
    }  # fmt: skip
    for use in (size.expected_ms, size.argmax_ms, lambda: size.target_ms):
        with pytest.raises(QuantityError):
            use()


@pytest.mark.filterwarnings("ignore:When training, we now always track:UserWarning")  # Paddle warns at each BatchNorm
def test_example_ends_near_its_target(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    supernet = paddle_supernet.Supernet()
    kernels = set()
    graph = read_layer(
        supernet,
        input_shape=(1, 1, 16, 16),
        choices={f"blocks.{i}": [f"blocks.{i}.candidates.{j}" for j in range(4)] for i in range(4)},
    )
    for index in range(4):
        network = graph.extract(dict.fromkeys(graph.choices, index))
        kernels |= {call.kernel for call in fuse(network, "MNN")}
    costs = {
        kernel: Entry(latency_ms=1e-3 + 1e-6 * np.prod(dict(kernel.attrs).get("kernel", (1,)))) for kernel in kernels
    }
    from latency_nas import save_table

    path = save_table(LatencyTable.of(costs, DATASHEET), tmp_path / "made-up.parquet") or tmp_path / "made-up.parquet"
    latency = paddle_supernet.main(["--table", str(path), "--steps", "40"])
    assert latency.argmax_ms() == pytest.approx(latency.target_ms, rel=0.1)
    assert "target" in capsys.readouterr().out


def test_any_layer_is_read() -> None:
    layer = nn.Sequential(nn.Conv2D(1, 4, 3, padding=1, bias_attr=False), nn.ReLU())
    graph = read_model(layer, input_shape=SHAPE)
    assert [node.op for node in graph.nodes] == ["conv2d", "relu"]
    again = read_model(layer, paddle.zeros(SHAPE))
    assert [call.kernel for call in fuse(again, "MNN")] == [call.kernel for call in fuse(graph, "MNN")]


def test_clear_errors() -> None:
    with pytest.raises(SearchError) as nothing:
        PaddleLatencyLoss(table()).attach(nn.Sequential(nn.LayerList([nn.ReLU(), nn.ReLU()])), paddle.zeros(SHAPE))
    assert str(nothing.value) == (
        "Expected Sequential to be a supernet of a known style (a module with a list of candidates and a parameter "
        "vector of its own; a module whose children are candidates, with a parameter vector of its own; "
        "matrices with a row for each list of candidates in a cell; lists of lists of candidates, "
        "without architecture parameters), but it is none. Found: lists of modules: `0` (2 modules); parameter "
        "vectors: none; matrices: none. Name the choices: latency.attach(supernet, x, choices=groups_of({'0': "
        "supernet[0]})) (with an entry for each choice, and gates=... where there are weights; if the list holds n "
        "candidates of each of several choices: ops = list(supernet[0]); groups_of({f'choice{i}': ops[n * i : n * i + "
        "n] for i in range(2 // n)}))."
    )
    with pytest.raises(SearchError) as matrix:
        PaddleLatencyLoss(table()).attach(RowsNet(), paddle.zeros(SHAPE))
    assert str(matrix.value).partition("Name the choices: ")[2] == (
        "latency.attach(supernet, x, choices=groups_of({f'choice{i}': ops for i, ops in enumerate([supernet.first, "
        "supernet.second])}, gates=lambda net: {f'choice{i}': row for i, row in "
        "enumerate(paddle.nn.functional.softmax(net.alphas))})) (with the 2 lists in the order of the rows)."
    )
    with pytest.raises(SearchError) as early:
        PaddleLatencyLoss(table())()
    assert str(early.value) == ("Expected the loss to be attached: call latency.attach(supernet, example_input) first.")
    with pytest.raises(GraphError) as unlike:
        attached(PaddleNet(extra=Halved))
    assert str(unlike.value) == (
        "Expected all candidates of `blocks.0` to give one tensor of the same shape, but they give (1, 4, 8, 8), "
        "(1, 4, 8, 8), (1, 4, 8, 8), (1, 4, 8, 8), (1, 4, 4, 4)."
    )
    with pytest.raises(SearchError, match="Expected a target that the supernet can reach, from"):
        attached(PaddleNet()).target_ms = 1e9
