"""`Relaxation`: an upper bound of a program's score, and how far each candidate lowers it.

The multipliers of the linear relaxation's rows move the rows into the score. What is left has no rows except that one
candidate of each choice is chosen, and is solved choice by choice: a bound for any multipliers that are not negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import vstack

from latency_nas.search.select.program import Program

__all__ = ["Relaxation", "relax"]

_INFEASIBLE = 2  # SciPy's code


@dataclass(frozen=True, slots=True)
class Relaxation:
    """The Lagrangian relaxation of a program, at the multipliers of its linear one.

    Args:
        bound: Upper bound of the score.
        regrets: How much lower the bound is with each candidate, of shape ``(candidates,)``.
        multipliers: How much lower the score is with a unit of slack in each row of the limits, of shape ``(rows,)``:
            above 0 for the slack of an upper bound, below 0 for that of a lower bound.
        values: Values of the variables in the linear relaxation; None where it was not solved.

    References:
        Geoffrion, Lagrangean relaxation for integer programming, Mathematical Programming Study 2, 1974.
    """

    bound: float
    regrets: NDArray[np.float64]
    multipliers: NDArray[np.float64]
    values: NDArray[np.float64] | None


def relax(program: Program, *, time_limit_s: float | None = None) -> Relaxation | None:
    """The relaxation of a program; None if already the relaxation has no solution.

    Args:
        program: Program to be relaxed.
        time_limit_s: Time for the linear program, in seconds.
    """
    objective, unit = program.objective()
    choices, others = program.choice_rows(), program.other_rows()
    below, above = np.isfinite(others.upper), np.isfinite(others.lower)
    matrix = vstack([others.values[below], -others.values[above]], format="csr")
    limits = np.concatenate([others.upper[below], -others.lower[above]])
    options = {} if time_limit_s is None else {"time_limit": time_limit_s}
    result = linprog(
        -objective, A_ub=matrix, b_ub=limits, A_eq=choices.values, b_eq=choices.upper, bounds=(0, 1), options=options
    )
    if result.status == _INFEASIBLE:
        return None
    multipliers = np.zeros(len(limits)) if result.status else np.maximum(-result.ineqlin.marginals, 0.0)
    reduced = objective - multipliers @ matrix
    starts = list(program.starts().values())
    best = np.maximum.reduceat(reduced[: program.n_candidates], starts)
    products = np.maximum(reduced[program.n_candidates :], 0.0).sum()
    regrets = np.repeat(best, list(program.sizes.values())) - reduced[: program.n_candidates]
    bound = float(best.sum() + products + multipliers @ limits)
    signed = np.zeros(len(below))
    signed[below] = multipliers[: below.sum()]
    signed[above] -= multipliers[below.sum() :]
    return Relaxation(
        bound * unit, regrets * unit, signed[: len(program.rows)] * unit, None if result.status else result.x
    )
