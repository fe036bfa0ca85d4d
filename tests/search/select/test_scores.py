"""Scores and arguments that `best` refuses, and how it says so."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pytest

from latency_nas.errors import SearchError
from latency_nas.search.plan.cost import Cost
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.best import best
from latency_nas.search.select.budget import Budget

NAMES = (("3x3", "5x5"),) * 2
COSTS = ((Cost(value=1.0), Cost(value=2.0)),) * 2
PLAN = CostPlan(choices=("a", "b"), candidates=NAMES, costs=COSTS, fixed=Cost(value=0.0))
OTHER = CostPlan(choices=("a", "c"), candidates=NAMES, costs=COSTS, fixed=Cost(value=0.0))
SCORES = {"a": [0.0, 1.0], "b": [0.0, 1.0]}
CHOICES = "its choices are ('a', 'b')."


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0], "Expected scores as a mapping: choice -> score of each candidate; got [1.0]."),
        ({"a": [0, 1]}, "Expected a score for each candidate of each choice, but `b` has none."),
        (
            {**SCORES, "c": [0.0]},
            f"Expected scores of the plan's choices, or of two different ones, but got 'c': {CHOICES}",
        ),
        (
            {**SCORES, ("a", "a"): [[0.0]]},
            f"Expected scores of the plan's choices, or of two different ones, but got ('a', 'a'): {CHOICES}",
        ),
        (
            {**SCORES, "a": [0, 1, 2]},
            "Expected scores of `a` of the shape (2,), one for each candidate, but got the shape (3,).",
        ),
        (
            {**SCORES, ("a", "b"): [0, 1]},
            "Expected scores of `a` and `b` of the shape (2, 2), one for each candidate, but got the shape (2,).",
        ),
        ({**SCORES, "a": [0.0, nan]}, "Expected finite scores, but that of 5x5 of `a` is nan."),
        ({**SCORES, "a": [0.0, -inf]}, "Expected finite scores, but that of 5x5 of `a` is -inf."),
        (
            {**SCORES, ("b", "a"): [[0.0, 1.0], [inf, 0.0]]},
            "Expected finite scores, but that of 5x5, 3x3 of `b` and `a` is inf.",
        ),
        ({**SCORES, "a": ["low", "high"]}, "Expected numbers as scores of `a`, but got ['low', 'high']."),
        (
            {**SCORES, "a": {"3x3": 1.0, "7x7": 2.0}},
            "Expected a score for each candidate of `a` and no more, but 5x5, 7x7 differ.",
        ),
        (
            {**SCORES, ("a", "b"): np.eye(2), ("b", "a"): np.eye(2)},
            "Expected scores of each pair of choices once, but ('b', 'a') are given in both orders.",
        ),
    ],
)
def test_wrong_scores_are_refused(scores: Any, message: str) -> None:
    with pytest.raises(SearchError) as caught:
        best(PLAN, scores)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "Expected `k` to be a positive integer, but got 0."),
        ({"min_difference": 1.5}, "Expected `min_difference` to be a positive integer, but got 1.5."),
        ({"max_gap": 1.0}, "Expected `max_gap` to be a share from 0 to below 1, but got 1.0."),
        ({"time_limit_s": 0}, "Expected `time_limit_s` to be a positive number of seconds, but got 0."),
        ({"budgets": [20.0]}, "Expected budgets, such as `Budget(plan, max_cost=20)`, but got 20.0."),
        (
            {"budgets": Budget(OTHER, max_cost=5)},
            (
                "Expected budgets over plans of the same choices and candidates, but `b` differs in the plan of "
                "latency of at most 5 ms."
            ),
        ),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SearchError) as caught:
        best(PLAN, SCORES, **options)
    assert str(caught.value) == message
