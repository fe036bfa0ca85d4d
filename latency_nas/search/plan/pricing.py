"""Makes the `CostPlan` of all architectures of a supernet from what an engine runs for some of them.

Every kernel that an engine runs belongs to a layer, and what a layer runs depends on a few choices only: on none for
the stem, on one for a layer within a candidate, on two where an engine folds an operator into the one before, on three
for a depthwise convolution of elastic kernel, width and depth; or, where its neighbours depend on many choices, on what
these are (`Space.contexts`). Which of them it is, is found from some architectures (`layers`), and confirmed on random
ones. The cost of a layer is then a function of the choices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from math import fsum, prod
from typing import get_args

import numpy as np

from latency_nas.errors import SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.estimate import KernelEstimate, Source
from latency_nas.estimate.uncertainty import family_of
from latency_nas.search.plan.cost import Cost, Group, Term
from latency_nas.search.plan.covering import covering_rows
from latency_nas.search.plan.diagrams import Path
from latency_nas.search.plan.layers import KnownArchitectures
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.plan.space import Space

__all__ = ["cost_of", "make_plan"]

_N_CHECKED = 8, 24  # architectures on which a plan is confirmed, where the contexts are known and where they are not
_N_ROWS = 8  # architectures that are read at once
_MAX_ROUNDS = 24


def make_plan(space: Space, estimator: LatencyEstimator, *, seed: int = 0, n_checked: int | None = None) -> CostPlan:
    """Price every candidate of every choice of a supernet, and the kernels that depend on several choices.

    Args:
        space: Architectures of the supernet.
        estimator: Estimator that prices the kernels. One error names all that it cannot price.
        seed: Seed of the architectures that are read.
        n_checked: Number of random architectures that confirm the plan: each is read and fused anew, and has to run the
            kernels that the plan prices. None for 8 where the operators' contexts are known, otherwise 24.

    Raises:
        MissingKernelError: if a kernel has no price.
        SearchError: if what a layer runs depends on too many choices at once.
    """
    known = KnownArchitectures(space, estimator.price_key)
    random = np.random.default_rng(seed)
    n_checked = _N_CHECKED[not known.contexts] if n_checked is None else n_checked
    known.read(covering_rows(known.sizes, random, pairs=not known.contexts))
    for _ in range(_MAX_ROUNDS):
        known.find_layers()
        rows = known.missing_rows(random, n_at_least=_N_ROWS)
        known.read(rows)
        checked = random.integers(0, known.sizes, (n_checked, len(known.sizes)))
        if not len(rows) and (len(known.rows) == prod(known.sizes) or known.confirms(checked)):
            return replace(_cost_plan(space, known, estimator), n_checked=n_checked)
    raise SearchError(
        f"Expected what a layer runs to depend on a few choices, but {len(known.rows)} architectures do not show on "
        f"which `{known.undecided}` depends: the supernet chooses there by more than the named choices."
    )


def _cost_plan(space: Space, known: KnownArchitectures, estimator: LatencyEstimator) -> CostPlan:
    """The plan: layers that depend on the same candidates are added up."""
    kernels = {slot: known.kernels(slot) for slot in known.layers}
    priced = estimator.price(list(known.calls.values()))
    prices = dict(zip(known.calls, priced.kernels, strict=True))
    runs: dict[tuple[int | Group, ...], list[KernelEstimate]] = defaultdict(list)  # of candidates by flat numbers
    offsets = np.cumsum([0, *known.sizes]).tolist()
    for (name, _), function in kernels.items():
        for path, keys in known.diagrams.paths(function):
            run = [prices[key].at(name) for key in keys]
            for candidates in _terms(path, offsets) if run else ():
                runs[candidates] += run
    has_error = priced.expected_error is not None
    costs = [
        tuple(cost_of(runs[begin + index,], has_error) for index in range(size))
        for begin, size in zip(offsets, known.sizes, strict=False)
    ]
    terms = [
        Term(candidates=candidates, cost=cost_of(run, has_error))
        for candidates, run in runs.items()
        if len(candidates) > 1
    ]
    return CostPlan(
        choices=tuple(space.candidates),
        candidates=tuple(space.candidates.values()),
        costs=tuple(costs),
        fixed=cost_of(runs[()], has_error),
        terms=tuple(terms),
        expected_error=priced.expected_error,
        quantity=priced.quantity,
    )


def _terms(path: Path, offsets: Sequence[int]) -> list[tuple[int | Group, ...]]:
    """The candidates of a case: each by itself where it is one choice's, otherwise as groups of a single term."""
    groups = [tuple([offsets[row] + index for index in some]) for row, some in path.items()]
    if len(groups) == 1:
        return [(index,) for index in groups[0]]
    return [tuple([group if len(group) > 1 else group[0] for group in groups])]


def cost_of(run: Sequence[KernelEstimate], has_error: bool) -> Cost:
    """The cost of some kernels, with the parts of its error (see `latency_nas.estimate.uncertainty`).

    Args:
        run: Prices of the kernels.
        has_error: Whether the error of the table's whole networks is known. It then takes the place of the kernels'.
    """
    without_own = ("regressed", "missing", "table") if has_error else ("regressed", "missing")
    own = [item for item in run if item.source not in without_own]
    known = all(item.std is not None for item in own)
    together: dict[str, float] = defaultdict(float)
    for item in run:
        if item.source == "regressed":
            together[family_of(item.kernel)] += item.std or 0.0
    sources = {item.source for item in run}
    return Cost(
        value=fsum(item.value for item in run),
        from_table=fsum(item.value for item in run if item.source == "table"),
        variance=fsum((item.std or 0.0) ** 2 for item in own) if known else None,
        together=tuple(together.items()),
        source=next((source for source in reversed(get_args(Source)) if source in sources), "none"),
        kernels=tuple(run),
    )
