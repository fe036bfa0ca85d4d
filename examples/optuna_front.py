"""The front of accuracy against latency of an elastic network, by Optuna, within a budget.

    python examples/optuna_front.py [TABLE]

TABLE is the name or the file of a latency table; without one, this machine is measured (by MNN). The network is that of
`ofa_elastic.py`: it is trained once, and each trial takes one of its configurations.
"""

from __future__ import annotations

import sys
from typing import Any

import ofa_elastic
import optuna
import torch

from latency_nas import LatencyLoss, options_of
from latency_nas.integrate.optuna import set_constraints, suggest_architecture
from latency_nas.search.select.budget import Budget

Point = tuple[float, float, dict[str, Any]]  # accuracy, latency in milliseconds, configuration


def search(supernet: ofa_elastic.Supernet, latency: LatencyLoss, budget: Budget, n_trials: int) -> list[Point]:
    """The front, from the fastest to the most accurate."""
    images, labels = (tensor[1200:] for tensor in ofa_elastic.digits())

    @torch.no_grad()
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        architecture = suggest_architecture(trial, latency.plan)
        set_constraints(trial, architecture, budget)
        config = latency.config(architecture)
        trial.set_user_attr("config", config)
        accuracy = float((supernet.configured(config)(images).argmax(1) == labels).float().mean())
        return accuracy, latency.plan.latency_ms(architecture)

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.NSGAIISampler(seed=0))
    study.optimize(objective, n_trials=n_trials)
    points = {tuple(trial.values): trial.user_attrs["config"] for trial in study.best_trials}
    return [(*values, points[values]) for values in sorted(points, key=lambda values: values[1])]


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.manual_seed(0)
    supernet = ofa_elastic.Supernet()
    latency = LatencyLoss(sys.argv[1] if sys.argv[1:] else ofa_elastic.measure(supernet))
    options = options_of(ofa_elastic.OPTIONS, lambda net, config: net.configured(config))
    plan = latency.attach(supernet, ofa_elastic.EXAMPLE, choices=options)
    cheapest_ms, dearest_ms = plan.bounds_ms()
    ofa_elastic.train(supernet, n_steps=150)
    budget = Budget(plan, max_cost=(cheapest_ms + dearest_ms) / 2)
    for accuracy, latency_ms, config in search(supernet, latency, budget, n_trials=200):
        print(f"{accuracy:.1%} in {latency_ms:.4f} ms by {config}")


if __name__ == "__main__":
    main()
