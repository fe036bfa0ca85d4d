"""`filter_by_budget`: which of many candidates are within budgets, and how sure that is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latency_nas.errors import SearchError, short_repr
from latency_nas.estimate.estimator import LatencyEstimator
from latency_nas.search.plan.limits import refuse_limits
from latency_nas.search.plan.many import check_rows
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Budget, as_budgets
from latency_nas.search.select.candidates import plan_of_models, rows_of_architectures
from latency_nas.search.select.filtered import Filtered
from latency_nas.search.select.outcome import BudgetFilter
from latency_nas.search.select.ray_map import mapper
from latency_nas.table import LatencyTable

__all__ = ["filter_by_budget"]

_CHUNK = 1 << 17  # rows that a thread takes at once
_TASK = 1 << 20  # rows that are sent to a cluster at once

Progress = Callable[[int, int], None]  # called with (candidates done, candidates in all)


def filter_by_budget(
    candidates: Any,
    plan: Any = None,
    *,
    max_ms: float | None = None,
    min_ms: float | None = None,
    confidence: float | None = 0.9,
    budgets: Budget | Sequence[Budget] = (),
    output: str | os.PathLike[str] | None = None,
    keep_uncertain: bool = False,
    input_shape: Sequence[int] | None = None,
    threads: int | None = None,
    ray_address: str | None = None,
    on_progress: Progress | None = None,
) -> Filtered:
    """Say which candidates pass budgets, which fail them, and which are uncertain.

    The true cost is taken to be normal with the mean and the standard deviation of its estimate. At a confidence c, a
    candidate passes a limit where the c-quantile of its cost keeps it (as in `Budget.keeps`), fails where the
    (1 - c)-quantile breaks it, and is uncertain otherwise. It passes several limits if it passes each, and fails if it
    fails one.

    Args:
        candidates: Candidates, in one of four forms: indices as a NumPy array or a torch tensor of integers, of shape
            ``(n, choices)``; a Parquet file or a folder of them (see ``docs/candidates-file.md``); an iterable of
            architectures or configurations, as `LatencyLoss.price` takes them; or an iterable of models, as
            `LatencyEstimator.predict` takes them.
        plan: Plan that `max_ms` and `min_ms` are limits of, or an attached loss with its plan; for models an estimator,
            a table, or the name of one.
        max_ms: Upper limit of the latency, in milliseconds.
        min_ms: Lower limit of the latency, in milliseconds.
        confidence: Probability c with which a candidate has to keep, or to break, each limit; None compares the
            estimates alone, so that no candidate is uncertain.
        budgets: Further budgets over the same choices: other devices, MACs, parameters, bytes. A budget without a
            confidence of its own takes `confidence`.
        output: Parquet file to write the rows that passed to, for candidates from files. The same call resumes what was
            interrupted.
        keep_uncertain: Whether the rows that are uncertain are written, too, with a column ``outcome``.
        input_shape: Shape of the input of each model, such as ``(1, 3, 224, 224)``.
        threads: Number of threads; None for one for each core.
        ray_address: Address of a Ray cluster (``"auto"``: the one of this machine) to filter on; None for this process.
            Arrays, architectures and models are sent along. Files and `output` have to be on a file system that all
            nodes share, under the same path.
        on_progress: Function that is called with the numbers of candidates done and in all.

    Raises:
        SearchError: if there is no limit, a candidate is none of the plan's, or the plan does not know how sure its
            costs are and `confidence` is not None.
        QuantityError: if `max_ms` or `min_ms` is given for what is not a latency.

    Example:
        >>> from latency_nas.search.plan.cost import Cost
        >>> costs = (Cost(value=1.0, variance=0.01), Cost(value=2.5, variance=0.25))
        >>> plan = CostPlan(choices=("a",), candidates=(("3x3", "5x5"),), costs=(costs,), fixed=Cost(value=4.0))
        >>> filtered = filter_by_budget(np.array([[0], [1]]), plan, max_ms=6.2)
        >>> print(filtered)
        2 candidates: 1 passed (50.0%), 0 failed (0.0%), 1 uncertain (50.0%)
        latency of at most 6.2 ms at a confidence of 0.9
        >>> filtered.passed
        array([0])
    """
    n_threads = threads or _n_cores()
    if isinstance(candidates, str | os.PathLike):
        limits = _budgets(_plan_of(plan), max_ms, min_ms, confidence, budgets)
        return _filter_files(Path(candidates), limits, output, keep_uncertain, n_threads, ray_address, on_progress)
    if output is not None or keep_uncertain:
        raise SearchError(
            "Expected candidates from a Parquet file where `output` or `keep_uncertain` is given; others are written "
            "by write_candidates(output, plan, rows[filtered.passed])."
        )
    if isinstance(plan, LatencyEstimator | LatencyTable | str):
        estimator = plan if isinstance(plan, LatencyEstimator) else LatencyEstimator(plan)
        models = plan_of_models(candidates, estimator, input_shape, ray_address, on_progress)
        limits = _budgets(models, max_ms, min_ms, confidence, budgets)
        return _filter_rows(np.arange(models.n_gates)[:, None], limits, n_threads, None, None)
    limits = _budgets(_plan_of(plan), max_ms, min_ms, confidence, budgets)
    if isinstance(candidates, np.ndarray) or hasattr(candidates, "detach"):
        rows = candidates.detach().cpu() if hasattr(candidates, "detach") else candidates
        return _filter_rows(rows, limits, n_threads, ray_address, on_progress)
    return _filter_architectures(candidates, limits, getattr(plan, "options", None), ray_address, on_progress)


def _n_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plan_of(plan: Any) -> CostPlan | None:
    """The plan of an attached loss; None for several."""
    found = plan if plan is None or isinstance(plan, CostPlan) else getattr(plan, "plan", plan)
    if isinstance(found, Mapping):
        return None
    if found is None or isinstance(found, CostPlan):
        return found
    raise SearchError(
        f"Expected a plan or an attached loss (for models an estimator or a table), but got {short_repr(plan)}."
    )


def _budgets(
    plan: CostPlan | None,
    max_ms: float | None,
    min_ms: float | None,
    confidence: float | None,
    budgets: Budget | Sequence[Budget],
) -> tuple[Budget, ...]:
    """All budgets, each with a confidence where there is one."""
    found: list[Budget] = []
    if max_ms is not None or min_ms is not None:
        if plan is None:
            raise SearchError(
                "Expected a plan of a latency where `max_ms` or `min_ms` is given, but got none or several: give "
                "budgets=[Budget(plan, max_cost=...), ...]."
            )
        plan.quantity.check_latency("max_ms" if max_ms is not None else "min_ms", "budgets")
        max_cost, min_cost = (inf if max_ms is None else max_ms), (-inf if min_ms is None else min_ms)
        found.append(Budget(plan, max_cost=max_cost, min_cost=min_cost))
    found += as_budgets(budgets)
    if not found:
        raise SearchError("Expected `max_ms`, `min_ms` or `budgets`, but got no limit.")
    for budget in found:
        if (budget.plan.choices, budget.plan.candidates) != (found[0].plan.choices, found[0].plan.candidates):
            raise SearchError("Expected budgets over the same choices and candidates, but those of the plans differ.")
        refuse_limits(budget.plan.limits, "a filter, which takes any combination of candidates")
    return tuple(budget if budget.confidence is not None else _confident(budget, confidence) for budget in found)


def _confident(budget: Budget, confidence: float | None) -> Budget:
    if confidence is not None and budget.plan.spread is None:
        raise SearchError(
            f"Expected a plan whose table gives errors where `confidence` is {confidence}, but it gives none: pass "
            f"confidence=None to compare the estimates alone."
        )
    return replace(budget, confidence=confidence)


def _filter_rows(
    rows: ArrayLike,
    budgets: tuple[Budget, ...],
    threads: int,
    ray_address: str | None,
    on_progress: Progress | None,
) -> Filtered:
    """Filter an array of indices, in threads: NumPy computes outside the lock of the interpreter."""
    array = np.asarray(rows)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        check_rows(budgets[0].plan, array)
    packed, outcomes = BudgetFilter.of(budgets), np.empty(len(array), np.uint8)
    size = _CHUNK if ray_address is None else _TASK
    chunks = (array[start : start + size] for start in range(0, len(array), size))
    done = 0
    with ThreadPoolExecutor(threads) as pool:
        try:
            for found in mapper(ray_address, pool.map)(packed.outcomes, chunks):
                outcomes[done : done + len(found)] = found
                done += len(found)
                if on_progress is not None:
                    on_progress(done, len(array))
        finally:
            pool.shutdown(cancel_futures=True)
    return Filtered.of(budgets, np.bincount(outcomes, minlength=3), outcomes=outcomes)


def _filter_architectures(
    architectures: Iterable[Mapping[str, Any]],
    budgets: tuple[Budget, ...],
    options: Mapping[str, Sequence[Any]] | None,
    ray_address: str | None,
    on_progress: Progress | None,
) -> Filtered:
    """Filter architectures and configurations one chunk after the other; an iterator need not end in memory."""
    packed, plan, parts = BudgetFilter.of(budgets), budgets[0].plan, [np.empty(0, np.uint8)]
    iterator = iter(architectures)
    chunks = iter(lambda: list(islice(iterator, _CHUNK)), [])

    def run(chunk: list[Mapping[str, Any]]) -> NDArray[np.uint8]:
        return packed.outcomes(rows_of_architectures(chunk, plan, options))

    for outcomes in mapper(ray_address)(run, chunks):
        parts.append(outcomes)
        if on_progress is not None:
            done = sum(map(len, parts))
            on_progress(done, done)
    outcomes = np.concatenate(parts)
    return Filtered.of(budgets, np.bincount(outcomes, minlength=3), outcomes=outcomes)


def _filter_files(
    source: Path,
    budgets: tuple[Budget, ...],
    output: str | os.PathLike[str] | None,
    keep_uncertain: bool,
    threads: int,
    ray_address: str | None,
    on_progress: Progress | None,
) -> Filtered:
    from latency_nas.search.select.filter_file import filter_files  # imports pyarrow

    target = None if output is None else Path(output)
    counts = filter_files(
        source.absolute(),
        budgets,
        output=target and target.absolute(),
        keep_uncertain=keep_uncertain,
        threads=threads,
        ray_address=ray_address,
        on_progress=on_progress,
    )
    return Filtered.of(budgets, counts, output=target)
