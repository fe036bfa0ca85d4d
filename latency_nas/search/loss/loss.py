"""`LatencyLoss`: the expected cost of a supernet, by default its latency, as a differentiable term of its loss."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.block_prices import BlockPrices
from latency_nas.estimate.estimator import OnMissing
from latency_nas.search.loss.attaching import Check, plan_of
from latency_nas.search.loss.penalty import AnyPenalty
from latency_nas.search.loss.priced_gates import PricedGates
from latency_nas.search.loss.schedule import Schedule
from latency_nas.search.loss.single_term import SingleTerm
from latency_nas.search.loss.target import Target
from latency_nas.search.loss.term import Term
from latency_nas.search.plan.limits import ChoiceLimit
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.gate_reader import GateReader, GivenWeights, WeightReader
from latency_nas.search.supernet.naming import Choices
from latency_nas.search.supernet.picked import Picked, is_logits
from latency_nas.search.supernet.supernet_space import Derive, supernet_space
from latency_nas.table import BlockTable, LatencyTable

__all__ = ["LatencyLoss"]


class LatencyLoss(Term, SingleTerm):
    """weight x penalty(E[LAT], target), a scalar to be added to the task's loss; without a target weight x E[LAT].

    `attach` traces and prices everything once. A step is then a softmax and a product over one small matrix, however
    many layers there are. With a `ResourceCounter`, LAT is what it counts: names that end in ``_ms`` then raise
    `QuantityError`, and `target`, `expected`, `std` and `argmax_cost` take their places.

    Args:
        table: Latency table, the name or file of one, or an estimator or counter. A table of blocks takes a plan of its
            blocks by `attach_plan`.
        target_ms: Latency to reach; None to minimise it.
        target: Cost to reach, instead of `target_ms`, in the unit of the quantity that `table` is of.
        weight: Weight of the term.
        penalty: Name of a penalty or factor (see `latency_nas.search.loss.penalty`) or of a constraint (see
            `latency_nas.search.loss.constraint`), or one of them.
        temperature: Number that architecture parameters are divided by before the softmax. Towards 0 the expectation
            becomes the cost of the most probable architecture. It is a buffer, so that checkpoints hold it.
        on_missing: Treatment of kernels that the table lacks, as in `LatencyEstimator`.
        schedule: Weight and temperature over the course of the search; see `step`.
        target_quantile: Quantile of the estimate that is compared with the target: 0.9 takes the ± into account.

    Raises:
        UnknownTableError: if there is no such table.
        QuantityError: if `target_ms` is given for what is not a latency.
        SearchError: if an argument is out of range.

    Example:
        >>> latency = LatencyLoss(table, target_ms=2.0)                     # doctest: +SKIP
        >>> latency.attach(supernet, torch.randn(1, 3, 224, 224))           # doctest: +SKIP
        >>> loss = cross_entropy(supernet(x), y) + latency()                # doctest: +SKIP
    """

    def __init__(
        self,
        table: LatencyTable | str | os.PathLike[str] | LatencyEstimator | BlockTable,
        target_ms: float | None = None,
        *,
        target: float | None = None,
        weight: float = 1.0,
        penalty: AnyPenalty = "absolute",
        temperature: float = 1.0,
        on_missing: OnMissing | None = None,
        schedule: Schedule | None = None,
        target_quantile: float | None = None,
    ) -> None:
        if isinstance(table, BlockTable):
            table = BlockPrices(table)
        estimator = table if isinstance(table, LatencyEstimator) else LatencyEstimator(table, on_missing=on_missing)
        if target_ms is not None:
            estimator.quantity.check_latency("target_ms", "target")
            if target is not None:
                raise SearchError(f"Expected `target_ms` or `target`, but got both: {target_ms} and {target}.")
        value = target if target_ms is None else target_ms
        super().__init__(
            target=Target(value=value, quantile=target_quantile, quantity=estimator.quantity),
            weight=weight,
            penalty=penalty,
            temperature=temperature,
            schedule=schedule,
        )
        self.estimator = estimator
        self.choices: tuple[Choice, ...] = ()
        self.options: dict[str, tuple[Any, ...]] = {}
        self._priced: PricedGates | None = None
        self._supernet: tuple[nn.Module, ...] = ()  # in a tuple, so that it is not a submodule of the loss

    def attach(
        self,
        supernet: nn.Module,
        example_input: Tensor | tuple[Tensor, ...] | None = None,
        *,
        choices: Choices | None = None,
        run: Callable[[Any], Any] | None = None,
        sampled: bool = False,
        derive: Derive | None = None,
        limits: ChoiceLimit | Sequence[ChoiceLimit] = (),
        check: Check = "auto",
    ) -> CostPlan:
        """Find the choices of `supernet`, and read and price every candidate once. The supernet is not changed.

        Args:
            supernet: Network that is searched.
            example_input: Input of its forward. The batch size matters, since latency does.
            choices: Choices of the supernet, by `groups_of`, `options_of`, `Choice` or a list of these; None if the
                supernet is of a style that is recognised (`find_choices`).
            run: Function that calls the supernet once, instead of `example_input`: ``lambda net: net(x, 5.0)``.
            sampled: Whether a step is priced by the path that the supernet drew in its forward: the gates of a
                Gumbel-softmax, or else the one candidate of each choice that ran. Before a forward, and without a
                gradient, the architecture parameters are used.
            derive: Function of the supernet and an architecture (choice -> index) that gives the network that is
                deployed for it and priced, such as a class that builds it anew; None if that is simply the path through
                the supernet. The plan is fitted to such networks, exactly: `CostPlan.n_fitted` is their number.
            limits: Limits on choices that deployed architectures keep: `CountLimit` (at most two edges of a node that
                are not zero), `UnlikeLimit` (no two neighbours alike), `SumLimit` (a fixed total depth). The target,
                `project`, `discretize`, the plan's bounds, `best` and whatever draws architectures keep them; only
                architectures within them are derived.
            check: Number of random architectures that confirm the plan: each is read and fused anew, or derived anew
                (then at least 8). "auto" checks as many as take little time.

        Returns:
            The plan: what each candidate costs.

        Raises:
            SearchError: if the choices are not recognised, no architecture keeps the limits, the target lies outside
                what the supernet can reach within them, or the choices do not explain what derived networks run.
            MissingKernelError: if kernels have no price.
            InputMismatchError: if the input does not fit a layer.
        """
        if not isinstance(supernet, nn.Module):
            raise SearchError(
                f"Expected a torch module, but got {type(supernet).__name__}: a supernet written in Paddle is searched "
                f"by PaddleLatencyLoss."
            )
        named = supernet_space(supernet, example_input, self.estimator.fuse, choices=choices, run=run, derive=derive)
        reader = GateReader(supernet, named.choices, sampled=sampled)
        plan = plan_of(named, self.estimator, limits=limits, check=check)
        self.attach_plan(plan, reader, logits=is_logits(named.choices))
        self.choices, self.options, self._supernet = named.choices, named.options, (supernet,)
        reader.watch()
        return plan

    def attach_plan(
        self, plan: CostPlan, weights: Callable[[], Tensor] | WeightReader, *, logits: Sequence[bool] | None = None
    ) -> None:
        """Use a plan that was made before: one that was loaded, or that of a supernet in another framework.

        Args:
            plan: Plan that says what each candidate costs.
            weights: Function that gives the weights of all choices, one choice after the other, of shape ``(gates,)``;
                or a reader of them.
            logits: Whether a softmax is still to normalise the weights, for each choice; None where all are logits.

        Raises:
            SearchError: if the target lies outside what the plan can reach.
        """
        self._check(self._target, plan)
        self.detach()
        reader = weights if isinstance(weights, WeightReader) else GivenWeights(weights)
        self._priced = PricedGates(reader, plan, [True] * len(plan.choices) if logits is None else logits)

    def detach(self) -> None:
        """Release the supernet, and remove what `sampled` added to it to catch gates."""
        if self._priced is not None:
            self._priced.reader.release()
        self.choices, self.options, self._priced, self._supernet = (), {}, None, ()

    def _attached(self) -> PricedGates:
        if self._priced is None:
            raise SearchError("Expected the loss to be attached: call latency.attach(supernet, example_input) first.")
        return self._priced

    @property
    def plan(self) -> CostPlan:
        """What each candidate costs.

        Raises:
            SearchError: before `attach`.
        """
        return self._attached().plan

    @property
    def attached(self) -> bool:
        """Whether `attach` was called."""
        return self._priced is not None

    def _picked(self) -> list[Picked]:
        """The configuration in use."""
        return [self._attached().reader.picked]

    def gates(self) -> Tensor:
        """The probability of each candidate, of shape ``(choices, max_candidates)``, padded with zeros."""
        return self._attached().padded(self.temperature)

    def flat_gates(self) -> Tensor:
        """The probability of each candidate, one choice after the other, of shape ``(gates,)``, in float64.

        These follow from the architecture parameters, even where a step is priced by the gates that the supernet drew.
        """
        return self._attached().flat(self.temperature)

    def expected(self) -> Tensor:
        """E[LAT], a float64 scalar, differentiable with respect to the architecture parameters.

        Raises:
            SearchError: before `attach`, if there are no gates, or if they are NaN. The check for NaN is made on a CPU
                only; on other devices, where it would have to wait for the device, `architecture` makes it.
        """
        return self._attached().expected(self.temperature)

    def std(self) -> Tensor:
        """One standard deviation of the estimate at the gates: a float64 scalar, differentiable.

        Raises:
            SearchError: if the table says neither its error nor that of its kernels.
        """
        if self.plan.spread is None:
            raise SearchError(
                f"Expected a table with an expected error, or with a standard deviation for each kernel, but "
                f"{self.estimator.table.name} has neither."
            )
        return self._attached().std(self.temperature)

    def forward(self) -> Tensor:
        """The term, of shape ``()``, in the type of the architecture parameters."""
        return self.term().to(self._attached().dtype)

    def fingerprint(self) -> str:
        """A hash of the table: equal if and only if the tables are."""
        return self.estimator.table.fingerprint()

    def terms(self) -> dict[str, Term]:
        """This loss, under an empty name."""
        return {"": self}

    def extra_repr(self) -> str:
        """The arguments in `repr`."""
        table = self.estimator.table.name
        target = f"target_{self.quantity.suffix}={self.target}"
        return f"table={table!r}, {target}, weight={self.weight}, penalty={self.penalty_name!r}"
