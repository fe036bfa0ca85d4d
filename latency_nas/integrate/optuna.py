"""Optuna: architectures from trials, and budgets as its constraints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.within import limits_of

if TYPE_CHECKING:
    import optuna

__all__ = ["constraints_func", "suggest_architecture"]
