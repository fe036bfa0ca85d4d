"""Candidates as rows of indices: of architectures and configurations, and of whole models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError, short_repr
from latency_nas.estimate.estimate import Estimate
from latency_nas.estimate.estimator import LatencyEstimator
from latency_nas.graph import OpGraph
from latency_nas.search.loss.configuration import picks_of
from latency_nas.search.plan.architecture import Architecture, indices_of
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.plan.pricing import cost_of
from latency_nas.search.select.ray_map import mapper
from latency_nas.search.select.row_sums import index_dtype

__all__ = ["plan_of_models", "rows_of_architectures"]


def rows_of_architectures(
    architectures: Sequence[Mapping[str, Any]], plan: CostPlan, options: Mapping[str, Sequence[Any]] | None
) -> NDArray[Any]:
    """The indices of architectures and configurations.

    Args:
        architectures: Architectures (choice -> index or name of a candidate) or configurations (choice -> option).
        plan: Plan that names choices and candidates.
        options: Options of each choice that has some, if these are candidates of a loss; they are read as by
            `LatencyLoss.price`. None if a plan alone is given; they are read as by `CostPlan.cost`.

    Returns:
        Indices of shape ``(architectures, choices)``.

    Raises:
        SearchError: if one of them is no mapping or does not give each choice one of its candidates.
    """

    def row(found: Mapping[str, Any]) -> list[int]:
        if not isinstance(found, Mapping):
            raise SearchError(
                f"Expected architectures (choice -> candidate), an array of indices or a file, but got "
                f"{short_repr(found)}; for models give an estimator or a table."
            )
        as_given = options is None or isinstance(found, Architecture)
        return indices_of(found if as_given else picks_of(found, plan, options or {}), plan.choices, plan.candidates)

    indices = chain.from_iterable(map(row, architectures))
    return np.fromiter(indices, index_dtype(plan)).reshape(len(architectures), len(plan.choices))


def plan_of_models(
    models: Iterable[Any],
    estimator: LatencyEstimator,
    input_shape: Sequence[int] | None,
    ray_address: str | None,
    on_progress: Callable[[int, int], None] | None,
) -> CostPlan:
    """A plan with one choice, whose candidates are models.

    Args:
        models: Models as `LatencyEstimator.predict` takes them.
        estimator: Estimator that prices them.
        input_shape: Shape of the input of each model that is no graph.
        ray_address: Address of a Ray cluster that prices them; None for this process.
        on_progress: Function that is called with the numbers of models done and in all.

    Raises:
        GraphError: if a model cannot be read.
        MissingKernelError: if kernels have no price.
    """
    known, estimates = list(models), list[Estimate]()

    def predict(model: Any) -> Estimate:
        return estimator.predict(model, input_shape=None if isinstance(model, OpGraph) else input_shape)

    for estimate in mapper(ray_address)(predict, known):
        estimates.append(estimate)
        if on_progress is not None:
            on_progress(len(estimates), len(known))
    expected_error = estimates[0].expected_error if estimates else None
    costs = tuple(cost_of(estimate.kernels, expected_error is not None) for estimate in estimates)
    return CostPlan(
        choices=("model",),
        candidates=(tuple(map(str, range(len(costs)))),),
        costs=(costs,),
        fixed=cost_of((), True),
        expected_error=expected_error,
        quantity=estimator.quantity,
    )
