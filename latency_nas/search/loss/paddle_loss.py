"""`PaddleLatencyLoss`: the expected latency of a supernet written in Paddle, as a differentiable term of its loss."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

from latency_nas.errors import MissingExtraError, SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.kernel import Quantity
from latency_nas.search.loss.attaching import Check, plan_of
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.loss.schedule import Schedule
from latency_nas.search.loss.single_term import SingleTerm
from latency_nas.search.loss.term import Term
from latency_nas.search.plan.limits import ChoiceLimit
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.naming import Choices
from latency_nas.search.supernet.picked import Picked, is_logits
from latency_nas.search.supernet.supernet_space import Derive, supernet_space
from latency_nas.table import LatencyTable

try:
    import paddle
    from paddle.autograd import PyLayer
except ImportError as error:
    raise MissingExtraError(
        "Expected Paddle, to search a supernet written in it: pip install 'latency-nas[paddle]'"
    ) from error

from latency_nas.search.supernet.paddle_gates import PaddleGateReader

__all__ = ["PaddleLatencyLoss"]


class PaddleLatencyLoss(paddle.nn.Layer, SingleTerm):  # type: ignore[misc]
    """`LatencyLoss` for a ``paddle.nn.Layer``: weight x penalty(E[LAT], target), a scalar tensor of Paddle.

    The plan, the penalties, the constraints and the schedule are those of `LatencyLoss`. The gates are read from
    Paddle's parameters, and the gradient is passed to Paddle's autograd.

    Args:
        table: Latency table, the name or file of one, or an estimator or counter.
        target_ms: Latency to reach; None to minimise it.
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

    def __init__(
        self,
        table: LatencyTable | str | os.PathLike[str] | LatencyEstimator,
        target_ms: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.torch_loss = LatencyLoss(table, target_ms, **options)
        self.choices: tuple[Choice, ...] = ()
        self.options: dict[str, tuple[Any, ...]] = {}
        self._supernet: tuple[Any, ...] = ()  # in a tuple, so that it is not a sublayer of the loss
        self._reader: PaddleGateReader | None = None
        for name, value in self.torch_loss.state_dict().items():
            self.register_buffer(_buffer(name), paddle.to_tensor(value.numpy()))

    def attach(
        self,
        supernet: Any,
        example_input: Any = None,
        *,
        choices: Choices | None = None,
        run: Callable[[Any], Any] | None = None,
        sampled: bool = False,
        derive: Derive | None = None,
        limits: ChoiceLimit | Sequence[ChoiceLimit] = (),
        check: Check = "auto",
    ) -> CostPlan:
        """Find the choices of `supernet`, and read and price every candidate once. The supernet is not changed.

        The arguments are those of `LatencyLoss.attach`, with two differences: `example_input` may be an ``InputSpec``,
        or several; and `run` has to call the supernet or one of its methods once, since Paddle writes the program of
        that call.

        Raises:
            SearchError: if the choices are not recognised, or the target lies outside what the supernet can reach.
            GraphError: if Paddle cannot write the supernet's program.
            MissingKernelError: if kernels have no price.
        """
        if not isinstance(supernet, paddle.nn.Layer):
            raise SearchError(f"Expected a Paddle layer, but got {type(supernet).__name__}.")
        estimator = self.torch_loss.estimator
        named = supernet_space(supernet, example_input, estimator.fuse, choices=choices, run=run, derive=derive)
        plan = plan_of(named, estimator, limits=limits, check=check)
        reader = PaddleGateReader(supernet, named.choices, sampled=sampled)
        self.torch_loss.attach_plan(plan, reader, logits=is_logits(named.choices))
        self.choices, self.options, self._supernet = named.choices, named.options, (supernet,)
        self._reader = reader
        reader.watch()
        return plan

    def detach(self) -> None:
        """Release the supernet, and remove what `sampled` added to it to catch gates."""
        self.torch_loss.detach()
        self.choices, self.options, self._supernet, self._reader = (), {}, (), None

    def terms(self) -> dict[str, Term]:
        """The loss in torch, under an empty name, with the present gates and buffers of Paddle."""
        if self._reader is not None and self._reader.has_weights:
            self._reader.take(_joined(self._reader.parameters()))
        self._load_buffers()
        return {"": self.torch_loss}

    def _picked(self) -> list[Picked]:
        """The configuration in use."""
        return self.torch_loss._picked()  # noqa: SLF001 - its own

    # --- the term

    def expected(self) -> Any:
        """E[LAT], a float64 scalar, differentiable with respect to the architecture parameters."""
        return self._scalar(self.torch_loss.expected)

    def std(self) -> Any:
        """One standard deviation of the estimate at the gates: a float64 scalar, differentiable.

        Raises:
            SearchError: if the table says neither its error nor that of its kernels.
        """
        return self._scalar(self.torch_loss.std, drawn=False)

    def forward(self) -> Any:
        """The term, of shape ``[]``, in the type of the architecture parameters.

        Raises:
            SearchError: before `attach`, if gates are NaN, or if the penalty multiplies the task's loss.
        """
        return self._scalar(self.torch_loss.term).astype(self._attached().parameters()[0].dtype)

    def combine(self, task_loss: Any) -> Any:
        """The whole loss: ``task_loss + latency()``, or its product with a factor (see `LatencyLoss.combine`)."""
        if not self.torch_loss.multiplies:
            return task_loss + self().astype(task_loss.dtype)
        loss = task_loss * self._scalar(self.torch_loss.factor).astype(task_loss.dtype)
        if not self.torch_loss.discretizes:
            return loss
        return loss + self._scalar(self.torch_loss.discretization_term).astype(task_loss.dtype)

    def _attached(self) -> PaddleGateReader:
        if self._reader is None:
            raise SearchError("Expected the loss to be attached: call latency.attach(supernet, example_input) first.")
        return self._reader

    def _scalar(self, of: Callable[[], torch.Tensor], *, drawn: bool = True) -> Any:
        reader = self._attached()
        parameters = reader.parameters()
        sample = reader.sample(parameters) if drawn else None
        return _Scalar.apply(_joined(parameters), _joined(sample or parameters), sample is not None, self, of)

    # --- the course of the search

    def step(self, progress: float | None = None) -> bool:
        """Update the multiplier, and follow the schedule. Call it after each step of the architecture parameters."""
        updated = super().step(progress)
        self._save_buffers()
        return updated

    def anneal(self, progress: float) -> None:
        """Set scale and temperature to what the schedule has for `progress`, from 0 to 1."""
        super().anneal(progress)
        self._save_buffers()

    def _save_buffers(self) -> None:
        """Copy the state of the loss in torch to buffers, which a checkpoint of Paddle holds."""
        for name, value in self.torch_loss.state_dict().items():
            self._buffers[_buffer(name)].set_value(value.numpy())

    def _load_buffers(self) -> None:
        """Copy the buffers, which may come from a checkpoint, to the loss in torch."""
        for name, value in self.torch_loss.state_dict().items():
            value.copy_(torch.from_numpy(self._buffers[_buffer(name)].numpy()))

    # --- the present state

    @property
    def attached(self) -> bool:
        """Whether `attach` was called."""
        return self.torch_loss.attached

    @property
    def plan(self) -> CostPlan:
        """What each candidate costs.

        Raises:
            SearchError: before `attach`.
        """
        return self.torch_loss.plan

    @property
    def differentiable(self) -> bool:
        """Whether the architecture parameters require a gradient now."""
        return any(not weights.stop_gradient for weights in self._attached().parameters())

    @property
    def quantity(self) -> Quantity:
        """The quantity that the cost is of: by default a latency in milliseconds."""
        return self.torch_loss.quantity

    @property
    def target(self) -> float | None:
        """The cost to reach, in the unit of `quantity`; it can be set at any time."""
        return self.torch_loss.target

    @target.setter
    def target(self, target: float | None) -> None:
        self.torch_loss.target = target

    def use_schedule(self, schedule: Schedule) -> None:
        """Follow another schedule from now on."""
        self.torch_loss.use_schedule(schedule)


class _Scalar(PyLayer):  # type: ignore[misc]
    """A scalar that `LatencyLoss` computes, and its gradient, as one node of Paddle's graph."""

    @staticmethod
    def forward(
        ctx: Any, parameters: Any, sample: Any, drawn: bool, owner: PaddleLatencyLoss, of: Callable[[], torch.Tensor]
    ) -> Any:
        owner._load_buffers()  # noqa: SLF001 - its own
        reader = owner._attached()  # noqa: SLF001
        leaves = reader.take(parameters, sample if drawn else None)
        with torch.enable_grad():
            value = of()
            gradients = torch.autograd.grad(value, leaves, materialize_grads=True, allow_unused=True)
        ctx.gradients = [paddle.to_tensor(gradient.numpy()) for gradient in gradients]
        return paddle.to_tensor(value.detach().numpy())

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return tuple(gradient * grad for gradient in ctx.gradients)


def _joined(weights: Sequence[Any]) -> Any:
    return paddle.concat([item.astype("float64") for item in weights])


def _buffer(name: str) -> str:
    return name.replace(".", "_")
