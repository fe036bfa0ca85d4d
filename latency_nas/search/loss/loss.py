"""`LatencyLoss`: the expected cost of a supernet, by default its latency, as a differentiable term of its loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.estimator import OnMissing
from latency_nas.search.loss.configuration import options_of, picks_of
from latency_nas.search.loss.constraint import Constraint
from latency_nas.search.loss.discretization import make_argmax, most_probable
from latency_nas.search.loss.latency_term import LatencyTerm
from latency_nas.search.loss.penalty import Penalty
from latency_nas.search.loss.priced_gates import PricedGates
from latency_nas.search.loss.schedule import Schedule
from latency_nas.search.loss.target import Target
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.plan.pricing import make_plan
from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.gate_reader import GateReader, GivenWeights
from latency_nas.search.supernet.torch_space import Subnet, named_space
from latency_nas.table import LatencyTable

__all__ = ["LatencyLoss"]


class LatencyLoss(LatencyTerm):
    """weight x penalty(E[LAT], target), a scalar to be added to the task's loss; without a target weight x E[LAT].

    Everything is traced and priced once, by `attach`; a step is then a softmax and a product over one small matrix,
    however many layers there are. With a `ResourceCounter` LAT is what it counts: names that end in ``_ms`` then raise
    `QuantityError`, and `target`, `expected`, `std` and `argmax_cost` take their places.

    Args:
        table: Latency table, the name or file of one, or an estimator or counter.
        target_ms: Latency to reach; None for as little as the weight makes of it.
        target: Instead of `target_ms`, the cost to reach in the unit of whatever quantity `table` is of.
        weight: Weight of the term.
        penalty: Name of a penalty or factor (see `latency_nas.search.loss.penalty`) or of a constraint (see
            `latency_nas.search.loss.constraint`), or one of them.
        temperature: Number that architecture parameters are divided by before the softmax; towards 0 the expectation
            becomes that of the likeliest architecture. A buffer, so that it is saved and resumed.
        on_missing: What becomes of kernels that the table lacks, as in `LatencyEstimator`.
        schedule: How weight and temperature change over the search; see `step`.
        target_quantile: Quantile of the estimate that is held against the target: 0.9 counts the ± in.

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
        table: LatencyTable | str | LatencyEstimator,
        target_ms: float | None = None,
        *,
        target: float | None = None,
        weight: float = 1.0,
        penalty: str | Penalty | Constraint = "absolute",
        temperature: float = 1.0,
        on_missing: OnMissing | None = None,
        schedule: Schedule | None = None,
        target_quantile: float | None = None,
    ) -> None:
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
        self.options: dict[str, tuple[Any, ...]] = {}  # of a supernet that is configured
        self._priced: PricedGates | None = None
        self._supernet: tuple[nn.Module, ...] = ()  # in a tuple, so that it is not a submodule of the loss

    def attach(
        self,
        supernet: nn.Module,
        example_input: Tensor | tuple[Tensor, ...] | None = None,
        *,
        run: Callable[[Any], Any] | None = None,
        choices: Sequence[Choice] | None = None,
        groups: Mapping[str, Iterable[nn.Module | None]] | None = None,
        options: Mapping[str, Sequence[Any]] | None = None,
        subnet: Subnet | None = None,
        gates: Callable[[Any], Mapping[str, Tensor]] | None = None,
        sampled: bool = False,
    ) -> CostPlan:
        """Find the choices of `supernet`, and trace and price every candidate once. The supernet is not changed.

        Where it chooses is recognised (`find_choices`), or else named in one of three ways: as `choices`; as `groups`
        of candidates; or as `options` of a supernet that is configured.

        Args:
            supernet: the network that is searched.
            example_input: what its forward takes; the batch size matters, since latency does.
            run: instead of `example_input`, a function that calls the supernet once: ``lambda net: net(x, 5.0)``.
            choices: where it chooses.
            groups: a name for each choice -> the modules that are its candidates.
            options: a name for each choice -> its options; with `subnet`.
            subnet: a function of the supernet and a configuration that gives the module to be priced (see
                `latency_nas.search.supernet.torch_space.option_space`).
            gates: with `groups` or `options`, a function of the supernet that gives each choice's weights, which sum to
                one and carry gradients; None where configurations are sampled, which `price` prices.
            sampled: the gates of a step are those that the supernet drew in its forward, caught there; the
                architecture parameters alone are used where none were drawn.

        Returns:
            The plan: what each candidate costs.

        Raises:
            SearchError: if the choices are not recognised, or the target lies outside what the supernet can reach.
            MissingKernelError: if kernels have no price.
            InputMismatchError: if the input does not fit a layer.
        """
        space, found = named_space(
            supernet, example_input, self.estimator.fuse, run=run, choices=choices, groups=groups,
            options=options, subnet=subnet, gates=gates,
        )  # fmt: skip
        reader = GateReader(supernet, found, sampled=sampled)
        plan = make_plan(space, self.estimator)
        self._check(self._target, plan)
        self.detach()
        self.choices, self._supernet = found, (supernet,)
        self.options = {name: tuple(values) for name, values in (options or {}).items()}
        drawn = [choice.logits and choice.sample is None for choice in found] if sampled else None
        self._priced = PricedGates(reader, plan, [choice.logits for choice in found], drawn)
        reader.watch()
        return plan

    def attach_plan(
        self, plan: CostPlan, weights: Callable[[], Tensor], *, logits: Sequence[bool] | None = None
    ) -> None:
        """Use a plan that was made before: one that was loaded, or that of a supernet in another framework.

        Args:
            plan: what each candidate costs.
            weights: gives the weights of all choices, flat, one choice after the other: shape ``(gates,)``.
            logits: of each choice, whether its weights are still to be normalised by a softmax; None: all are.

        Raises:
            SearchError: if the target lies outside what the plan can reach.
        """
        self._check(self._target, plan)
        self.detach()
        self._priced = PricedGates(
            GivenWeights(weights), plan, [True] * len(plan.choices) if logits is None else logits
        )

    def detach(self) -> None:
        """Let go of the supernet; what `sampled` added to catch gates is taken away."""
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

    def gates(self) -> Tensor:
        """The probability of each candidate, of shape ``(choices, most candidates)``, padded with zeros."""
        return self._attached().padded(self.temperature)

    def flat_gates(self) -> Tensor:
        """The probability of each candidate, of one choice after the other: shape ``(gates,)``, float64.

        They are those of the architecture parameters, also where a step is priced by what the supernet drew.
        """
        return self._attached().flat(self.temperature)

    def expected(self) -> Tensor:
        """E[LAT], a float64 scalar, differentiable with respect to the architecture parameters.

        Raises:
            SearchError: before `attach`, if there are no gates, or if they are NaN (on a CPU; elsewhere that would be
                waiting for the device, and `architecture` says so).
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
        """Equal exactly for equal tables."""
        return self.estimator.table.fingerprint()

    def price(self, config: Mapping[str, Any]) -> float:
        """The cost of one architecture or configuration, in the unit of `quantity`: milliseconds of a latency.

        Args:
            config: Candidate of each choice, by its index or its name; of a supernet that was attached by its options,
                the option of each choice. What `architecture` and `project` give is priced as well.

        Raises:
            SearchError: if a choice is not given one of its candidates, or a number could be an index or a name.
        """
        plan = self.plan
        return plan.cost(config if isinstance(config, Architecture) else picks_of(config, plan, self.options))

    def config(self, architecture: Mapping[str, int]) -> dict[str, Any]:
        """The options of an architecture of indices, as `subnet` takes them.

        Raises:
            SearchError: if the supernet was not attached by its options.
        """
        return options_of(architecture, self.options)

    def architecture(self) -> Architecture:
        """The candidate of each choice that has the largest weight, by the name of the choice.

        Raises:
            SearchError: if the gates are NaN.
        """
        return most_probable(self.flat_gates(), self.plan)

    def land(self, *, within: float = 0.03) -> Architecture:
        """End a search under a hard budget: move the architecture parameters so that `project` is their argmax.

        Constraints and penalties steer the search towards its target; the argmax jumps from one architecture to the
        next, and seldom ends on it. The last step is therefore taken here: of each choice whose argmax differs, the
        parameter of the candidate in `project` is raised just above the others.

        Args:
            within: Share of the target, as in `project`.

        Returns:
            The architecture, now also that of `architecture`: choice -> the index of its candidate.

        Raises:
            SearchError: as `project`, or if a function gives the weights of a choice, which cannot be moved.
        """
        found = self.project(within=within)
        make_argmax(found, self.choices, self._supernet[0] if self._supernet else None)
        return found

    def extra_repr(self) -> str:
        """Shown by `repr`."""
        table = self.estimator.table.name
        target = f"target_{self.quantity.suffix}={self.target}"
        return f"table={table!r}, {target}, weight={self.weight}, penalty={self.penalty_name!r}"
