"""Random architectures: uniform, seeded, of the smallest type."""

from __future__ import annotations

import numpy as np
import pytest

from latency_nas.errors import SearchError
from latency_nas.search.select.sampling import sample_architectures
from tests.random_plans import random_plan


def test_a_sample_is_uniform_and_seeded() -> None:
    plan = random_plan(np.random.default_rng(0), (3, 2, 4, 5))
    rows = sample_architectures(plan, 20_000, seed=3)
    assert rows.shape == (20_000, 4)
    assert rows.dtype == np.uint8
    for column, size in zip(rows.T, (3, 2, 4, 5), strict=True):
        shares = np.bincount(column) / 20_000
        assert len(shares) == size
        assert abs(shares - 1 / size).max() < 5 * (0.25 / 20_000) ** 0.5
    assert (sample_architectures(plan, 20_000, seed=3) == rows).all()
    assert (sample_architectures(plan, 20_000, seed=4) != rows).any()
    many = random_plan(np.random.default_rng(0), (300, 2))
    assert sample_architectures(many, 5, seed=0).dtype == np.uint16
    with pytest.raises(SearchError, match="Expected the number of architectures to be 0 or more, but got -1"):
        sample_architectures(plan, -1, seed=0)
