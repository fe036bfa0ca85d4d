"""`LatencyLoss`: the expected latency of a supernet, as a differentiable term of its loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.estimator import OnMissing
from latency_nas.search.loss.constraint import Constraint
from latency_nas.search.loss.control import Controlled, Penalty
from latency_nas.search.loss.schedule import Schedule
from latency_nas.search.plan.gates import PackedPlan
from latency_nas.search.plan.plan import Architecture, CostPlan
from latency_nas.search.plan.pricing import make_plan
from latency_nas.search.supernet.choice import (
    Choice,
    ParameterOf,
    choices_of_groups,
    choices_of_options,
)
from latency_nas.search.supernet.gate_reader import GateReader, GivenWeights
from latency_nas.search.supernet.supernet import find_choices, read_choices
from latency_nas.search.supernet.torch_space import Subnet, graph_space, option_space
from latency_nas.table import LatencyTable

__all__ = ["LatencyLoss"]

_ABOVE = 0.01  # by how much a parameter is raised above the others
_NOT_ATTACHED = "Expected the loss to be attached: call latency.attach(supernet, example_input) first."


class LatencyLoss(Controlled):
    """weight x penalty(E[LAT], target), a scalar to be added to the task's loss; without a target weight x E[LAT].

    Everything is traced and priced once, by `attach`; a step is then a softmax and a product over one small matrix,
    however many layers there are.

    Args:
        table: a latency table, the name or file of one, or an estimator.
        target_ms: the latency to reach; None for as little as the weight makes of it.
        weight: of the term.
        penalty: the name of a penalty or factor (see `latency_nas.search.loss.penalty`) or of a constraint (see
            `latency_nas.search.loss.constraint`), or one of them.
        temperature: architecture parameters are divided by it before the softmax; towards 0 the expectation becomes
            that of the likeliest architecture. A buffer, so that it is saved and resumed.
        on_missing: what becomes of kernels that the table lacks, as in `LatencyEstimator`.
        schedule: of weight and temperature over the search; see `step`.
        target_quantile: 0.9 holds this quantile of the estimate against the target, so that the ± is counted in.

    Raises:
        UnknownTableError: if there is no such table.
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
        weight: float = 1.0,
        penalty: str | Penalty | Constraint = "absolute",
        temperature: float = 1.0,
        on_missing: OnMissing | None = None,
        schedule: Schedule | None = None,
        target_quantile: float | None = None,
    ) -> None:
        super().__init__(
            target_ms=target_ms,
            weight=weight,
            penalty=penalty,
            temperature=temperature,
            schedule=schedule,
            target_quantile=target_quantile,
        )
        self.estimator = (
            table if isinstance(table, LatencyEstimator) else LatencyEstimator(table, on_missing=on_missing)
        )
        self._plan: CostPlan | None = None
        self.choices: tuple[Choice, ...] = ()
        self.options: dict[str, tuple[Any, ...]] = {}  # of a supernet that is configured
        self._reader: GateReader | GivenWeights | None = None
        self._packed: PackedPlan | None = None
        self._packed_drawn: PackedPlan | None = None  # of gates that the supernet drew
        self._dtype = torch.float32  # of the architecture parameters
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
        fuse = self.estimator.fuse
        if sum(way is not None for way in (choices, groups, options)) > 1 or (options is None) != (subnet is None):
            raise SearchError("Expected one of `choices`, `groups`, or `options` with `subnet`, to name the choices.")
        if options is not None and subnet is not None:
            space = option_space(supernet, options, subnet, example_input, fuse)
            found = choices_of_options(space.candidates, gates)
        else:
            if groups is not None:
                given = choices_of_groups(supernet, groups, gates)
            else:
                given = find_choices(supernet) if choices is None else tuple(choices)
            graph, found = read_choices(supernet, given, example_input, run)
            space = graph_space(graph, found, fuse)
        reader = GateReader(supernet, found, sampled=sampled)
        plan = make_plan(space, self.estimator)
        self._check_target(self.target_ms, plan)
        self.detach()
        self.choices, self._plan, self._supernet = found, plan, (supernet,)
        self.options = {name: tuple(values) for name, values in (options or {}).items()}
        self._reader, self._packed = reader, PackedPlan(plan, [choice.logits for choice in found])
        if sampled:
            self._packed_drawn = PackedPlan(plan, [choice.logits and choice.sample is None for choice in found])
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
        self._check_target(self.target_ms, plan)
        self.detach()
        self._plan, self._reader = plan, GivenWeights(weights)
        self._packed = PackedPlan(plan, [True] * len(plan.choices) if logits is None else logits)

    def detach(self) -> None:
        """Let go of the supernet; what `sampled` added to catch gates is taken away."""
        if self._reader is not None:
            self._reader.release()
        self.choices, self.options, self._plan, self._supernet = (), {}, None, ()
        self._reader = self._packed = self._packed_drawn = None

    @property
    def plan(self) -> CostPlan:
        """What each candidate costs.

        Raises:
            SearchError: before `attach`.
        """
        if self._plan is None:
            raise SearchError(_NOT_ATTACHED)
        return self._plan

    @property
    def attached(self) -> bool:
        """Whether `attach` was called."""
        return self._plan is not None

    def gates(self) -> Tensor:
        """The probability of each candidate, of shape ``(choices, most candidates)``, padded with zeros."""
        flat, plan = self.flat_gates(), self.plan
        padded = flat.new_zeros(len(plan.choices), max(map(len, plan.candidates)))
        padded[[index for index, names in enumerate(plan.candidates) for _ in names],
               [index for names in plan.candidates for index in range(len(names))]] = flat  # fmt: skip
        return padded

    def flat_gates(self) -> Tensor:
        """The probability of each candidate, of one choice after the other: shape ``(gates,)``, float64.

        They are those of the architecture parameters, also where a step is priced by what the supernet drew.
        """
        reader, packed = self._attached()
        weights, picks = reader.weights()
        return packed.gates(weights, picks, self.temperature)

    def _attached(self) -> tuple[GateReader | GivenWeights, PackedPlan]:
        if self._reader is None or self._packed is None:
            raise SearchError(_NOT_ATTACHED)
        return self._reader, self._packed

    def expected_ms(self) -> Tensor:
        """E[LAT] in milliseconds, a float64 scalar, differentiable with respect to the architecture parameters.

        Raises:
            SearchError: before `attach`, if there are no gates, or if they are NaN (on a CPU; elsewhere that would be
                waiting for the device, and `architecture` says so).
        """
        reader, packed = self._attached()
        if self._packed_drawn is not None and reader.drawn:
            weights, picks, packed = reader.sampled(), None, self._packed_drawn
        else:
            weights, picks = reader.weights()
        self._dtype = weights.dtype
        return packed.expected_ms(weights, picks, self.temperature)

    def std_ms(self) -> Tensor:
        """One standard deviation of the estimate at the gates, in milliseconds: a float64 scalar, differentiable.

        Raises:
            SearchError: if the table says neither its error nor that of its kernels.
        """
        plan, gates = self.plan, self.flat_gates()
        if plan.uncertain is None:
            raise SearchError(
                f"Expected a table with an expected error, or with a standard deviation for each kernel, but "
                f"{self.estimator.table.name} has neither."
            )
        return self._attached()[1].std_of(gates)

    def forward(self) -> Tensor:
        """The term, of shape ``()``, in the type of the architecture parameters."""
        return self.term().to(self._dtype)

    def fingerprint(self) -> str:
        """Equal exactly for equal tables."""
        return self.estimator.table.fingerprint()

    def price(self, config: Mapping[str, Any]) -> float:
        """The latency of one architecture or configuration, in milliseconds.

        Args:
            config: choice -> candidate, by its index or its name; of a supernet that was attached by its options,
                choice -> option. What `architecture` and `project` give is priced as well.

        Raises:
            SearchError: if a choice is not given one of its candidates, or a number could be an index or a name.
        """
        plan = self.plan
        if isinstance(config, Architecture):
            return plan.latency_ms(config)
        names = dict(zip(plan.choices, plan.candidates, strict=True))
        picked = {name: self._name_of(name, value, names.get(name, ())) for name, value in config.items()}
        return plan.latency_ms(picked)

    def _name_of(self, choice: str, picked: Any, names: Sequence[str]) -> Any:
        """What a configuration picks, as the plan has it."""
        index = names.index(str(picked)) if str(picked) in names else None
        if choice in self.options:
            if index is None:
                raise SearchError(
                    f"Expected one of the options {', '.join(names)} of `{choice}`, but got {picked!r}; an "
                    f"architecture of indices is priced by latency.plan.latency_ms."
                )
            return index
        if isinstance(picked, int) and index is not None and index != picked:
            raise SearchError(
                f"Expected an index or a name for `{choice}`, but {picked} could be both: give {str(picked)!r} for the "
                f"candidate of that name, or price indices by latency.plan.latency_ms."
            )
        return picked

    def config(self, architecture: Mapping[str, int]) -> dict[str, Any]:
        """The options of an architecture of indices, as `subnet` takes them.

        Raises:
            SearchError: if the supernet was not attached by its options.
        """
        if not self.options:
            raise SearchError("Expected a supernet that was attached by its options: no other has configurations.")
        return {name: self.options[name][index] for name, index in architecture.items()}

    def architecture(self) -> Architecture:
        """The candidate of each choice that has the largest weight, by the name of the choice.

        Raises:
            SearchError: if the gates are NaN.
        """
        plan = self.plan
        rows = np.split(plan.check_gates(self.flat_gates().detach().cpu().numpy()), plan.offsets[1:-1])
        return Architecture((name, int(row.argmax())) for name, row in zip(plan.choices, rows, strict=True))

    @torch.no_grad()
    def land(self, *, within: float = 0.03) -> Architecture:
        """End a search under a hard budget: move the architecture parameters so that `project` is their argmax.

        Constraints and penalties steer the search towards its target; the argmax jumps from one architecture to the
        next, and seldom ends on it. The last step is therefore taken here: of each choice whose argmax differs, the
        parameter of the candidate in `project` is raised just above the others.

        Args:
            within: as in `project`.

        Returns:
            The architecture, now also that of `architecture`: choice -> the index of its candidate.

        Raises:
            SearchError: as `project`, or if a function gives the weights of a choice, which cannot be moved.
        """
        found = self.project(within=within)
        moved = [choice.weights for choice in self.choices]
        if not moved or not all(isinstance(weights, ParameterOf) for weights in moved):
            raise SearchError(
                "Expected architecture parameters that can be moved, but a function gives the weights of choices: take "
                "the architecture that latency.project() gives."
            )
        for index, weights in zip(found.values(), moved, strict=True):
            parameters = cast(ParameterOf, weights)(self._supernet[0])
            if int(parameters.argmax()) != index:
                parameters[index] = parameters.max() + _ABOVE
        return found

    def extra_repr(self) -> str:
        """Shown by `repr`."""
        table = self.estimator.table.name
        return f"table={table!r}, target_ms={self.target_ms}, weight={self.weight}, penalty={self.penalty_name!r}"
