"""Costs of many architectures at once against those of one at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latency_nas.errors import SearchError
from latency_nas.search.plan.many import check_rows, costs_of, stds_of
from tests.random_plans import drawn, random_plan


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_one_at_a_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, (3, 2, 4, 2, 3), n_terms=5 * (seed % 2), n_families=seed)
    rows = check_rows(plan, drawn(plan, 50, seed=seed))
    architectures = [dict(zip(plan.choices, row, strict=True)) for row in rows.tolist()]
    stds = stds_of(plan, rows)
    assert stds is not None
    np.testing.assert_allclose(costs_of(plan, rows), [plan.cost(one) for one in architectures], rtol=1e-12)
    np.testing.assert_allclose(stds, [plan.std(one) for one in architectures], rtol=1e-12)


def test_no_rows_and_no_errors() -> None:
    plan = random_plan(np.random.default_rng(0), (3, 2), n_terms=1, n_families=1)
    rows = check_rows(plan, np.zeros((0, 2), np.uint8))
    assert costs_of(plan, rows).shape == (0,)
    unsure = replace(plan, fixed=replace(plan.fixed, variance=None))
    assert stds_of(unsure, rows) is None


@pytest.mark.parametrize("rows", [[[0.0, 1.0]], [[0]], [0, 1], [[0, 2]], [[-1, 0]]])
def test_rows_that_are_none(rows: object) -> None:
    plan = random_plan(np.random.default_rng(0), (3, 2))
    with pytest.raises(SearchError, match="Expected"):
        check_rows(plan, np.array(rows))
