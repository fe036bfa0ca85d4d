"""Makes the `CostPlan` of networks that a user's function derives from architectures.

What such a network calls its layers says little: a class that builds a network from a genotype numbers what it builds.
So kernels are counted. How often each runs is fitted as a sum over the choices and over those that meet (`features`),
exactly and in integers, and confirmed on architectures that the fit has not seen.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import numpy as np

from latency_nas.errors import SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.estimate import KernelEstimate
from latency_nas.search.plan.cost import Group
from latency_nas.search.plan.derived_networks import DerivedNetworks
from latency_nas.search.plan.features import Feature, activity, limit_features, single_features, term_features
from latency_nas.search.plan.kernel_sums import KernelSums
from latency_nas.search.plan.limits import LimitRow
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.plan.pricing import make_plan, path_terms, plan_of_runs
from latency_nas.search.plan.space import Space

__all__ = ["derived_plan"]

logger = logging.getLogger(__name__)

_N_FIRST = 8  # architectures, beside those that show each feature
_N_CHECKED = 8  # architectures that confirm a fit, at least
_MAX_ROWS, _SPARE_ROWS = 4, 200  # architectures: a multiple of the number of candidates, and as many more
_N_NAMED = 3  # kernels that a message names


def derived_plan(
    space: Space,
    paths: Callable[[], Space],
    estimator: LatencyEstimator,
    *,
    limits: Sequence[LimitRow] = (),
    seed: int = 0,
    n_checked: int = _N_CHECKED,
) -> CostPlan:
    """Fit a plan to derived networks, and refuse where the choices do not explain them.

    Args:
        space: Architectures, with the kernels of the network that is derived for each.
        paths: Function that gives the space of the paths through the supernet, which show where choices meet.
        estimator: Estimator that prices the kernels. One error names all that it cannot price.
        limits: Limits on choices: only architectures within them are derived.
        seed: Seed of the architectures that are derived.
        n_checked: Number of further random architectures that confirm the plan, at least 8, beside those that show each
            candidate once more. There are none where all of the space was read.

    Raises:
        MissingKernelError: if a kernel has no price.
        SearchError: if no sum over the choices and those that meet gives the kernels.
    """
    random = np.random.default_rng(seed)
    networks = DerivedNetworks(space, estimator.price_key, limits, random)
    _warn_of_excluded(networks)
    networks.read(networks.every() if networks.is_small else networks.drawn(_N_FIRST))
    sums = KernelSums(networks, random)
    sums.use(limit_features(networks.sizes, networks.names, limits))
    uses_paths = False
    while True:
        parted = sums.fit()
        if (parted or not limits) and not uses_paths:
            sums.use(term_features(networks.sizes, _terms_of(paths(), estimator)))
            uses_paths = True
            continue
        if parted or len(networks.rows) > _MAX_ROWS * sum(networks.sizes) + _SPARE_ROWS:
            return _by_layers(space, estimator, sums, parted, limits, seed, n_checked)
        n_fitted = len(networks.rows)
        if networks.is_small:
            break
        if len(doubtful := sums.doubtful()):
            networks.read(doubtful)
            continue
        shown = networks.showing(single_features(networks.sizes), 1)
        networks.read(np.concatenate([shown, networks.drawn(max(n_checked, _N_CHECKED))]))
        if sums.hold(n_fitted):
            break
    n_checked = len(networks.rows) - n_fitted
    logger.info("%d derived networks run what the plan prices, %d of them unseen.", len(networks.rows), n_checked)
    return replace(_plan(sums, estimator), n_fitted=n_fitted, n_checked=n_checked)


def _warn_of_excluded(networks: DerivedNetworks) -> None:
    if networks.excluded:
        logger.warning(
            "The limits exclude %d candidates, which cost nothing in an expectation: %s.",
            len(networks.excluded),
            ", ".join(f"{index} of {networks.names[number]}" for number, index in networks.excluded),
        )


def _terms_of(paths: Space, estimator: LatencyEstimator) -> list[Feature]:
    """The groups of candidates that meet in a layer of the supernet; none where they are too many to be found."""
    try:
        return path_terms(paths, estimator)
    except SearchError:
        return []


def _by_layers(
    space: Space,
    estimator: LatencyEstimator,
    sums: KernelSums,
    parted: Sequence[Hashable],
    limits: Sequence[LimitRow],
    seed: int,
    n_checked: int,
) -> CostPlan:
    """The plan by layers, where the kernels of one follow from more choices than two; not within limits."""
    if limits:
        raise _refusal(sums, parted, estimator)
    try:
        return make_plan(space, estimator, seed=seed, n_checked=n_checked)
    except SearchError as error:
        raise _refusal(sums, parted, estimator) from error


def _plan(sums: KernelSums, estimator: LatencyEstimator) -> CostPlan:
    """The plan of sums. Their choices stand for layers, since the layers' own names change with the architecture."""
    networks = sums.networks
    owner = np.repeat(networks.names, networks.sizes).tolist()
    priced = estimator.price(list(networks.calls.values()))
    runs: dict[tuple[int | Group, ...], list[KernelEstimate]] = defaultdict(list)
    for (key, call), price in zip(networks.calls.items(), priced.kernels, strict=True):
        for feature, times in sums.sums[key].items():
            layer = " & ".join(owner[group[0]] for group in feature) or call.layer
            runs[feature] += [price.at(layer)] * times
    return plan_of_runs(networks.space.candidates, runs, priced)


def _refusal(sums: KernelSums, parted: Sequence[Hashable], estimator: LatencyEstimator) -> SearchError:
    """The error for networks that the choices do not explain: kernels, the worst architecture, and its figures."""
    networks = sums.networks
    keys = list(parted) or [key for key in networks.calls if len(sums.sums[key]) > 1]
    priced = estimator.price(list(networks.calls.values()))
    costs = np.sum(
        [networks.counts(key) * price.value for key, price in zip(networks.calls, priced.kernels, strict=True)], 0
    )
    active = activity(single_features(networks.sizes), networks.rows, networks.sizes).astype(np.float64)
    nearest = active @ np.linalg.lstsq(active, costs, rcond=None)[0]
    worst = int(np.argmax(np.abs(nearest - costs)))
    architecture = dict(zip(networks.names, map(int, networks.rows[worst]), strict=True))
    quantity = estimator.quantity
    named = "; ".join(str(networks.calls[key].kernel) for key in keys[:_N_NAMED])
    more = f"; and {len(keys) - _N_NAMED} more" if len(keys) > _N_NAMED else ""
    return SearchError(
        f"Expected derived networks whose kernels follow from each choice and from those that meet, but how often "
        f"{len(keys)} of {len(networks.calls)} kernels run does not: {named}{more}. The network of {architecture} has "
        f"a {quantity.name} of {quantity.rounded(costs[worst])} {quantity.unit}, and of "
        f"{quantity.rounded(nearest[worst])} by the nearest sum over the choices, the largest difference of "
        f"{len(networks.rows)} networks. Give the limits that `derive` relies on by `limits`, or name choices that "
        f"decide together as one."
    )
