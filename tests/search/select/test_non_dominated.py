"""The non-dominated set against its definition, each point with each."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.search.select.non_dominated import non_dominated


def by_definition(costs: NDArray[np.float64], scores: NDArray[np.float64]) -> list[int]:
    points = np.column_stack([costs, -scores])
    return [
        number
        for number, point in enumerate(points)
        if not any((other <= point).all() and (other < point).any() for other in points)
    ]


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("n_values", [3, 20, 10**9])
def test_the_set_is_that_of_the_definition(shape: tuple[int, int], n_values: int) -> None:
    """Few values make many points equal in one objective or in all."""
    rng = np.random.default_rng(n_values + sum(shape))
    for n in (1, 2, 50, 700):
        costs, scores = (rng.integers(n_values, size=(n, columns)) / 7 for columns in shape)
        expected = by_definition(costs, scores)
        assert non_dominated(costs, scores).tolist() == expected
        first_of: dict[bytes, int] = {}
        for number in expected:
            first_of.setdefault(costs[number].tobytes() + scores[number].tobytes(), number)
        assert non_dominated(costs, scores, keep_equal=False).tolist() == sorted(first_of.values())


def test_columns_may_be_left_out_and_there_may_be_no_points() -> None:
    assert non_dominated([3, 2, 1], [1, 1, 1]).tolist() == [2]
    assert non_dominated([], []).tolist() == []
    assert non_dominated([np.inf, 1.0], [2.0, -np.inf]).tolist() == [0, 1]


def test_a_million_points_of_a_known_front() -> None:
    angle = np.linspace(0, np.pi / 2, 1001)
    inner = np.random.default_rng(0).uniform(0, 0.7, (1_000_000, 2))
    costs = np.append(1 + inner[:, 0], 1 - np.sin(angle))
    scores = np.append(inner[:, 1], np.cos(angle) + 0.7)
    assert non_dominated(costs, scores).tolist() == list(range(1_000_000, 1_001_001))


@pytest.mark.parametrize(
    ("costs", "scores", "message"),
    [
        (
            [1.0, 2.0],
            [1.0],
            "Expected costs and scores of the same points, a row for each, but got the shapes (2,) and (1,).",
        ),
        ([1.0, 2.0], [1.0, np.nan], "Expected costs and scores without NaN, but point 1 has it."),
    ],
)
def test_points_that_are_refused(costs: list[float], scores: list[float], message: str) -> None:
    with pytest.raises(SearchError) as caught:
        non_dominated(costs, scores)
    assert str(caught.value) == message
