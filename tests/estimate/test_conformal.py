"""Intervals cover what they say, on errors that were drawn for it."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from scipy.stats import norm

from latency_nas.estimate.conformal import conformal_quantile, error_bound
from latency_nas.estimate.uncertainty import Z90


def test_z90_is_of_a_normal_distribution() -> None:
    assert pytest.approx(norm.ppf(0.95), abs=2e-4) == Z90


def test_single_rows_are_split_conformal_prediction() -> None:
    """The second route: the order statistic ceil(0.9 (n + 1)) of the literature."""
    scores = np.random.default_rng(0).standard_cauchy(137)
    assert conformal_quantile(scores, np.arange(137)) == np.sort(scores)[int(np.ceil(0.9 * 138)) - 1]


def test_nine_tenths_of_new_groups_are_covered() -> None:
    """Rows of a group err together and groups differ in size: plain quantiles of rows cover too little."""
    random = np.random.default_rng(0)
    covered, plain = [], []
    for _ in range(400):
        sizes = random.integers(1, 40, 31)
        spread = np.where(sizes > 20, 0.3, 1.0)  # the large groups are the easy ones
        shared = spread * random.standard_normal(31)
        scores = [np.abs(own + 0.1 * random.standard_normal(n)) for n, own in zip(sizes, shared, strict=True)]
        known, new = np.concatenate(scores[:-1]), scores[-1]
        groups = np.repeat(np.arange(30), sizes[:-1])
        covered.append((new <= conformal_quantile(known, groups)).mean())
        plain.append((new <= np.quantile(known, 0.9)).mean())
    assert 0.88 < np.mean(covered) < 0.95
    assert np.mean(plain) < np.mean(covered) - 0.02


@pytest.mark.parametrize("n", [2, 5, 8, 9, 12, 30])
def test_nine_tenths_of_new_networks_are_covered(n: int) -> None:
    random = np.random.default_rng(n)
    covered = []
    for _ in range(2000):
        errors = 0.05 * random.standard_normal(n + 1)
        bound = error_bound(np.exp(errors[:-1]), np.ones(n))
        assert bound is not None
        covered.append(abs(errors[-1]) <= log(1 + bound))
    assert 0.88 < np.mean(covered) < 0.96


def test_a_bound_is_the_same_too_high_and_too_low() -> None:
    high, low = np.full(12, 2.0), np.full(12, 0.5)
    assert error_bound(high, np.ones(12)) == error_bound(low, np.ones(12)) == pytest.approx(exp(log(2)) - 1)


def test_one_network_has_no_bound() -> None:
    assert error_bound(np.ones(1), np.ones(1)) is None
    assert error_bound(np.empty(0), np.empty(0)) is None
