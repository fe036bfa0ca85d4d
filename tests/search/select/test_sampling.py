"""Uniform samples of a space."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from latency_nas.errors import SearchError
from latency_nas.search.plan.many import costs_of
from latency_nas.search.select.sampling import sample_architectures, sampled_costs
from tests.random_plans import random_plan


def test_all_architectures_are_equally_likely() -> None:
    plan = random_plan(np.random.default_rng(0), (2, 3, 5))
    rows = sample_architectures(plan, 6000, seed=1)
    assert (rows.shape, rows.dtype) == ((6000, 3), np.uint8)
    assert chisquare(np.bincount(np.ravel_multi_index(tuple(rows.T.astype(int)), (2, 3, 5)))).pvalue > 1e-4
    np.testing.assert_array_equal(rows, sample_architectures(plan, 6000, seed=1))
    assert not np.array_equal(rows, sample_architectures(plan, 6000, seed=2))


def test_the_dtype_is_the_smallest_that_holds_all_candidates() -> None:
    for size, dtype in ((256, np.uint8), (257, np.uint16)):
        assert sample_architectures(random_plan(np.random.default_rng(0), (2, size)), 3, seed=0).dtype == dtype


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(SearchError) as caught:
        sample_architectures(random_plan(np.random.default_rng(0), (2, 3)), -1, seed=0)
    assert str(caught.value) == "Expected the number of architectures to be 0 or more, but got -1."


def test_costs_of_samples_are_those_of_the_plan() -> None:
    plan = random_plan(np.random.default_rng(0), (2, 3, 4), n_terms=5)
    rows = np.indices((2, 3, 4)).reshape(3, -1).T
    attained = np.sort(costs_of(plan, rows))
    weights = [np.array([0.0, 1.0]), np.full(3, 1 / 3), np.array([0.1, 0.2, 0.3, 0.4])]
    costs = sampled_costs(plan, weights, 100_000, seed=0)
    nearest = attained[np.searchsorted(attained, costs - 1e-9)]
    np.testing.assert_allclose(costs, nearest)
    parts = np.multiply.outer(np.multiply.outer(*weights[:2]), weights[2]).ravel()
    mean = parts @ costs_of(plan, rows)
    assert abs(costs.mean() - mean) < 5 * costs.std() / 100_000**0.5
