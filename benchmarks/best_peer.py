"""Solves one instance of `best.py` by PuLP's CBC; runs in an environment that has PuLP and NumPy.

    python best_peer.py instance.npz GAP SECONDS

Prints the score, the gap that CBC proved (infinite where it does not say), and CBC's own processor time, as JSON.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import pulp


def main() -> None:
    """Solve and print."""
    path, gap, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    with np.load(path) as data:
        scores, costs, limits = data["scores"], data["costs"], data["limits"]
    problem = pulp.LpProblem("best", pulp.LpMaximize)
    chosen = [[problem_variable(row, column) for column in range(scores.shape[1])] for row in range(len(scores))]
    pairs = [(row, column) for row in range(len(scores)) for column in range(scores.shape[1])]
    problem += pulp.lpSum(float(scores[row, column]) * chosen[row][column] for row, column in pairs)
    for variables in chosen:
        problem += pulp.lpSum(variables) == 1
    for cost, limit in zip(costs, limits, strict=True):
        problem += pulp.lpSum(float(cost[row, column]) * chosen[row][column] for row, column in pairs) <= float(limit)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        solver = pulp.PULP_CBC_CMD(msg=False, gapRel=gap, timeLimit=seconds, threads=1, logPath=str(log))
        problem.solve(solver)
        text = log.read_text()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = problem.sol_status in {pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible}
    score = float(pulp.value(problem.objective)) if found else None
    print(json.dumps({"score": score, "gap": proved(text, score), "cpu_s": used.ru_utime + used.ru_stime}))


def problem_variable(row: int, column: int) -> pulp.LpVariable:
    """1 where a layer has a variant."""
    return pulp.LpVariable(f"x_{row}_{column}", cat=pulp.LpBinary)


def proved(text: str, score: float | None) -> float:
    """The gap: CBC writes its bound where it stopped before the optimum, and within a gap where it was given one."""
    if score is None:
        return float("inf")
    bound = re.search(r"^(?:Upper|Lower) bound:\s+(\S+)", text, re.MULTILINE)
    if bound:
        return abs(abs(float(bound.group(1))) - abs(score)) / abs(score)
    return 0.0 if "Optimal solution found" in text else float("inf")


if __name__ == "__main__":
    main()
