"""Makes the `CostPlan` of all architectures of a supernet from what an engine runs for some of them.

Every kernel that an engine runs belongs to a layer, and what a layer runs depends on a few choices only: on none for
the stem, on one for a layer within a candidate, on two where an engine folds an operator into the one before, on three
for a depthwise convolution of elastic kernel, width and depth; or, where its neighbours depend on many choices, on what
these are (`Space.contexts`). Which of them it is, is found from some architectures (`layers`), and confirmed on random
ones. The cost of a layer is then a function of the choices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import fsum, prod
from typing import get_args

import numpy as np

from latency_nas.errors import SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.estimate import Estimate, KernelEstimate, Source
from latency_nas.estimate.uncertainty import family_of
from latency_nas.search.plan.cost import Cost, Group, Term
from latency_nas.search.plan.covering import covering_rows
from latency_nas.search.plan.diagrams import Path
from latency_nas.search.plan.layers import KnownArchitectures
from latency_nas.search.plan.limited import Limited
from latency_nas.search.plan.limits import LimitRow
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.plan.space import Space

__all__ = ["cost_of", "make_plan", "path_terms", "plan_of_runs"]

_N_CHECKED = 8, 24  # architectures on which a plan is confirmed, where the contexts are known and where they are not
_N_ROWS = 8  # architectures that are read at once
_MAX_ROUNDS = 24


def make_plan(
    space: Space,
    estimator: LatencyEstimator,
    *,
    seed: int = 0,
    n_checked: int | None = None,
    limits: Sequence[LimitRow] = (),
) -> CostPlan:
    """Price every candidate of every choice of a supernet, and the kernels that depend on several choices.

    Args:
        space: Architectures of the supernet.
        estimator: Estimator that prices the kernels. One error names all that it cannot price.
        seed: Seed of the architectures that are read.
        n_checked: Number of random architectures that confirm the plan: each is read and fused anew, and has to run the
            kernels that the plan prices. None for 8 where the operators' contexts are known, otherwise 24.
        limits: Limits on choices, which these architectures keep.

    Raises:
        MissingKernelError: if a kernel has no price.
        SearchError: if what a layer runs depends on too many choices at once, or no architecture keeps the limits.
    """
    n_checked = _N_CHECKED[space.contexts is None] if n_checked is None else n_checked
    known = _known(space, estimator, seed, n_checked, limits)
    return replace(_cost_plan(space, known, estimator), n_checked=n_checked)


def _known(
    space: Space, estimator: LatencyEstimator, seed: int, n_checked: int, limits: Sequence[LimitRow] = ()
) -> KnownArchitectures:
    """Architectures that show what each layer depends on, confirmed on `n_checked` others."""
    known = KnownArchitectures(space, estimator.price_key)
    random = np.random.default_rng(seed)
    within = Limited(dict(zip(space.candidates, known.sizes, strict=True)), limits) if limits else None
    known.read(covering_rows(known.sizes, random, pairs=not known.contexts))
    for _ in range(_MAX_ROUNDS):
        known.find_layers()
        rows = known.missing_rows(random, n_at_least=_N_ROWS)
        known.read(rows)
        shape = n_checked, len(known.sizes)
        checked = within.draw(n_checked, random) if within else random.integers(0, known.sizes, shape)
        if not len(rows) and (len(known.rows) == prod(known.sizes) or known.confirms(checked)):
            return known
    raise SearchError(
        f"Expected what a layer runs to depend on a few choices, but {len(known.rows)} architectures do not show on "
        f"which `{known.undecided}` depends: the supernet chooses there by more than the named choices."
    )


def path_terms(space: Space, estimator: LatencyEstimator) -> list[tuple[Group, ...]]:
    """The groups of candidates of different choices on which together it depends what a layer runs.

    Args:
        space: Architectures of a supernet; nothing is priced.
        estimator: Estimator that says which kernels have the same price.

    Raises:
        SearchError: if what a layer runs depends on too many choices at once.
    """
    known = _known(space, estimator, 0, _N_CHECKED[0])
    offsets = np.cumsum([0, *known.sizes]).tolist()
    cases = (path for slot in known.layers for path, keys in known.diagrams.paths(known.kernels(slot)) if keys)
    terms = dict.fromkeys(candidates for path in cases for candidates in _terms(path, offsets))
    return [Term(candidates=term, cost=Cost(value=0.0)).groups for term in terms if len(term) > 1]


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
    return plan_of_runs(space.candidates, runs, priced)


def plan_of_runs(
    candidates: Mapping[str, tuple[str, ...]],
    runs: Mapping[tuple[int | Group, ...], Sequence[KernelEstimate]],
    priced: Estimate,
) -> CostPlan:
    """The plan of kernels that run where some candidates are chosen.

    Args:
        candidates: Names of the candidates of each choice.
        runs: Candidates of different choices, counted through all of them, or groups of which one is chosen -> the
            prices of what runs then; none of them for what always runs.
        priced: Estimate that the prices are from.
    """
    has_error = priced.expected_error is not None
    by_candidates = defaultdict(list, {tuple(map(_alone, key)): list(run) for key, run in runs.items()})
    offsets = np.cumsum([0, *map(len, candidates.values())]).tolist()
    costs = [
        tuple(cost_of(by_candidates[number,], has_error) for number in range(begin, end))
        for begin, end in pairwise(offsets)
    ]
    terms = [Term(candidates=key, cost=cost_of(run, has_error)) for key, run in by_candidates.items() if len(key) > 1]
    return CostPlan(
        choices=tuple(candidates),
        candidates=tuple(candidates.values()),
        costs=tuple(costs),
        fixed=cost_of(by_candidates[()], has_error),
        terms=tuple(terms),
        expected_error=priced.expected_error,
        quantity=priced.quantity,
    )


def _alone(group: int | Group) -> int | Group:
    """A group of one candidate as its number."""
    return group[0] if isinstance(group, tuple) and len(group) == 1 else group


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
