"""`PaddleLatencyLoss`: the expected latency of a supernet written in Paddle, as a differentiable term of its loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from latency_nas.errors import MissingExtraError, SearchError
from latency_nas.kernel import Quantity
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.plan.pricing import make_plan
from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.torch_space import graph_space

try:
    import paddle
    from paddle.autograd import PyLayer
except ImportError as error:
    raise MissingExtraError(
        "Expected Paddle, to search a supernet written in it: pip install 'latency-nas[paddle]'"
    ) from error

from latency_nas.search.supernet.paddle_supernet import find_layer_choices, layer_groups, read_paddle_supernet

__all__ = ["PaddleLatencyLoss"]


class PaddleLatencyLoss(paddle.nn.Layer):  # type: ignore[misc]
    """`LatencyLoss` for a ``paddle.nn.Layer``: weight x penalty(E[LAT], target), a scalar tensor of Paddle.

    The plan, the penalties, the constraints and the schedule are those of `LatencyLoss`; only the gates are read from
    Paddle's parameters, and the gradient is handed to Paddle's autograd.

    Args:
        table: as in `LatencyLoss`.
        target_ms: Latency to reach; None for as little as the weight makes of it.
        **options: Other arguments of `LatencyLoss`: target, weight, penalty, temperature, schedule, target_quantile ...

    Raises:
        UnknownTableError: if there is no such table.
        SearchError: if an argument is out of range.

    Example:
        >>> latency = PaddleLatencyLoss("SD865", target_ms=20)               # doctest: +SKIP
        >>> latency.attach(supernet, paddle.randn([1, 3, 224, 224]))         # doctest: +SKIP
        >>> loss = cross_entropy(supernet(x), y) + latency()                 # doctest: +SKIP
        >>> loss.backward(); optimizer.step(); latency.step(epoch / epochs)  # doctest: +SKIP
    """

    def __init__(self, table: Any, target_ms: float | None = None, **options: Any) -> None:
        super().__init__()
        self.priced = LatencyLoss(table, target_ms, **options)
        self.choices: tuple[Choice, ...] = ()
        self._supernet: tuple[Any, ...] = ()  # in a tuple, so that it is not a sublayer of the loss
        self._leaf = torch.zeros(0, dtype=torch.float64)
        for name, value in self.priced.state_dict().items():
            self.register_buffer(_buffer(name), paddle.to_tensor(value.numpy()))

    def attach(
        self,
        supernet: paddle.nn.Layer,
        example_input: Any,
        *,
        choices: Sequence[Choice] | None = None,
        groups: Mapping[str, Iterable[Any]] | None = None,
        gates: Callable[[Any], Mapping[str, Any]] | None = None,
    ) -> CostPlan:
        """Find the choices of `supernet`, and price every candidate once. The supernet is not changed.

        Args:
            supernet: the network that is searched.
            example_input: a tensor or ``InputSpec``, or several: what its forward takes.
            choices: where it chooses; without `choices` and `groups` it is recognised
                (`latency_nas.search.supernet.paddle_supernet.find_layer_choices`).
            groups: a name for each choice -> the layers that are its candidates.
            gates: with `groups`, a function of the supernet that gives each choice's weights, which sum to one.

        Raises:
            SearchError: if the choices are not recognised, or the target lies outside what the supernet can reach.
            GraphError: if Paddle cannot write the supernet's program.
            MissingKernelError: if kernels have no price.
        """
        if (groups is None) != (gates is None) or (groups is not None and choices is not None):
            raise SearchError("Expected `groups` together with `gates`, or `choices`, or neither.")
        if groups is not None and gates is not None:
            given = layer_groups(supernet, groups, gates)
        else:
            given = find_layer_choices(supernet) if choices is None else tuple(choices)
        graph, found = read_paddle_supernet(supernet, example_input, given)
        plan = make_plan(graph_space(graph, found, self.priced.estimator.fuse), self.priced.estimator)
        self.priced.attach_plan(plan, lambda: self._leaf, logits=[choice.logits for choice in found])
        self.choices, self._supernet = found, (supernet,)
        return plan

    # --- the term

    def expected(self) -> Any:
        """E[LAT], a float64 scalar, differentiable with respect to the architecture parameters."""
        return self._scalar(self.priced.expected)

    def expected_ms(self) -> Any:
        """`expected` of a latency, in milliseconds."""
        return self._scalar(self.priced.expected_ms)

    def forward(self) -> Any:
        """The term, of shape ``[]``, in the type of the architecture parameters.

        Raises:
            SearchError: before `attach`, if gates are NaN, or if the penalty multiplies the task's loss.
        """
        return self._scalar(self.priced.term).astype(self._weights()[0].dtype)

    def combine(self, task_loss: Any) -> Any:
        """The whole loss: ``task_loss + latency()``, or its product with a factor (see `LatencyLoss.combine`)."""
        if not self.priced.multiplies:
            return task_loss + self().astype(task_loss.dtype)
        loss = task_loss * self._scalar(self.priced.factor).astype(task_loss.dtype)
        if not self.read().settles:
            return loss
        return loss + self._scalar(self.priced.settling).astype(task_loss.dtype)

    def _weights(self) -> list[Any]:
        if not self._supernet:
            raise SearchError("Expected the loss to be attached: call latency.attach(supernet, example_input) first.")
        return [choice.weights(self._supernet[0]).flatten() for choice in self.choices if choice.weights is not None]

    def _scalar(self, of: Callable[[], torch.Tensor]) -> Any:
        return _Scalar.apply(paddle.concat([weights.astype("float64") for weights in self._weights()]), self, of)

    def read(self) -> LatencyLoss:
        """The loss behind this one, at Paddle's gates and buffers of now."""
        self._leaf = torch.from_numpy(paddle.concat(self._weights()).astype("float64").numpy())
        self._pull()
        return self.priced

    # --- the search goes on

    def step(self, progress: float | None = None) -> bool:
        """To be called after each step of the architecture: move the multiplier, and follow the schedule."""
        moved = self.read().step(progress)
        for name, value in self.priced.state_dict().items():
            self._buffers[_buffer(name)].set_value(value.numpy())
        return moved

    def _pull(self) -> None:
        """Take the buffers, which may have been loaded from a checkpoint."""
        for name, value in self.priced.state_dict().items():
            value.copy_(torch.from_numpy(self._buffers[_buffer(name)].numpy()))

    # --- where it stands

    @property
    def plan(self) -> CostPlan:
        """What each candidate costs."""
        return self.priced.plan

    @property
    def quantity(self) -> Quantity:
        """The quantity that the cost is of: by default a latency in milliseconds."""
        return self.priced.quantity

    @property
    def target(self) -> float | None:
        """The cost to reach, in the unit of `quantity`; it can be set at any time."""
        return self.priced.target

    @target.setter
    def target(self, target: float | None) -> None:
        self.priced.target = target

    @property
    def target_ms(self) -> float | None:
        """`target` of a latency, in milliseconds; it can be set at any time."""
        return self.priced.target_ms

    @target_ms.setter
    def target_ms(self, target_ms: float | None) -> None:
        self.priced.target_ms = target_ms

    def architecture(self) -> dict[str, int]:
        """The candidate of each choice that has the largest weight, by the name of the choice."""
        return self.read().architecture()

    def argmax_cost(self) -> float:
        """The cost of `architecture`."""
        return self.read().argmax_cost()

    def argmax_ms(self) -> float:
        """`argmax_cost` of a latency, in milliseconds."""
        return self.read().argmax_ms()

    def figures(self) -> dict[str, float]:
        """Where the search stands, by the names under which it is logged."""
        return self.read().figures()

    def project(self, *, within: float | None = None) -> dict[str, int]:
        """The likeliest architecture that is not above the target (see `LatencyLoss.project`)."""
        return self.read().project(within=within)


class _Scalar(PyLayer):  # type: ignore[misc]
    """A scalar that `LatencyLoss` computes, and its gradient, as one node of Paddle's graph."""

    @staticmethod
    def forward(ctx: Any, weights: Any, owner: PaddleLatencyLoss, of: Callable[[], torch.Tensor]) -> Any:
        owner._pull()  # noqa: SLF001 - its own
        owner._leaf = torch.from_numpy(weights.numpy()).requires_grad_()  # noqa: SLF001
        with torch.enable_grad():
            value = of()
            (gradient,) = torch.autograd.grad(value, owner._leaf)  # noqa: SLF001
        ctx.gradient = paddle.to_tensor(gradient.numpy())
        return paddle.to_tensor(value.detach().numpy())

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return ctx.gradient * grad


def _buffer(name: str) -> str:
    return name.replace(".", "_")
