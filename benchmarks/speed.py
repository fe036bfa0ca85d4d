"""Times the latency term beside its usual form: a Python loop over layers, each with a softmax and a dot product.

    python benchmarks/speed.py [--runs 300]

Prints three parts. First, the CPU time of forward and backward of both forms, alternating, and the ratio of their
medians, for 22 and 100 choices of 9 candidates. Second, the term's share of a training step of the example supernet
(batch 64). Third, time and memory of attaching to supernets of MobileNetV3's size (5 stages x 4 blocks x 3 kernels x 3
expansions, 224 x 224): once with candidates as modules, and once elastic, where kernels, expansions and depths are
slices of the largest.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from mobilenet import CandidateNet, ElasticNet
from supernet import Supernet

from latency_nas import LatencyLoss, options_of
from latency_nas.search.plan.cost import Cost
from latency_nas.search.plan.gates import PackedPlan
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.supernet.choice import Choice, ParameterOf
from latency_nas.search.supernet.gate_reader import GateReader
from tests.search.supernet.test_styles import MadeUp

N_CANDIDATES = 9


class Thetas(nn.Module):
    """A supernet with a parameter for each choice."""

    def __init__(self, n_choices: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ParameterList([torch.randn(N_CANDIDATES)]) for _ in range(n_choices))

    def thetas(self) -> list[nn.Parameter]:
        """A parameter for each choice."""
        return [block[0] for block in self.blocks]


def usual_form(thetas: list[nn.Parameter], costs: list[Tensor]) -> Tensor:
    """The term as in the code of FBNet and ProxylessNAS."""
    total = torch.zeros(())
    for theta, cost in zip(thetas, costs, strict=True):
        total = total + (functional.softmax(theta, dim=-1) * cost).sum()
    return total


def packed_form(net: Thetas) -> Callable[[], Tensor]:
    """The computations of `LatencyLoss.expected_ms` in a step."""
    names = [f"blocks.{number}" for number in range(len(net.blocks))]
    labels = tuple(map(str, range(N_CANDIDATES)))
    costs = tuple(tuple(Cost(value=0.1 * (index + 1)) for index in range(N_CANDIDATES)) for _ in names)
    plan = CostPlan(choices=tuple(names), candidates=(labels,) * len(names), costs=costs, fixed=Cost(value=1.0))
    choices = [Choice(module=name, candidates=labels, weights=ParameterOf(name, "0")) for name in names]
    reader, packed, temperature = GateReader(net, choices, sampled=False), PackedPlan(plan, [True] * len(names)), 1.0
    return lambda: packed.expected(*reader.weights(), torch.tensor(temperature))


def seconds(run: Callable[[], Tensor], net: nn.Module) -> float:
    """Of forward and backward."""
    net.zero_grad()
    start = time.process_time()
    run().backward()
    return time.process_time() - start


def compare(n_choices: int, n_runs: int) -> None:
    """Print both forms and their ratio."""
    net = Thetas(n_choices)
    costs = [0.1 * torch.arange(1, N_CANDIDATES + 1) for _ in range(n_choices)]
    forms = {"usual": lambda: 1.0 + usual_form(net.thetas(), costs), "packed": packed_form(net)}
    if abs(forms["usual"]().item() - forms["packed"]().item()) > 1e-5 * n_choices:
        sys.exit("the two forms differ")
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(n_runs):
        for name, form in forms.items():
            taken[name].append(seconds(form, net))
    usual, packed = (statistics.median(taken[name][n_runs // 10 :]) * 1e6 for name in forms)
    print(
        f"{n_choices:4d} choices x {N_CANDIDATES}: loop {usual:.0f} us, packed {packed:.0f} us: 1/{usual / packed:.1f}"
    )


def step(n_runs: int) -> None:
    """Print the part of a training step."""
    net, images = Supernet(), torch.randn(64, 1, 32, 32)
    latency = LatencyLoss(MadeUp())
    latency.attach(net, images[:1])
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    steps, terms = [], []
    for _ in range(max(4, n_runs // 20)):
        start = time.process_time()
        optimizer.zero_grad()
        functional.cross_entropy(net(images), torch.zeros(64, dtype=torch.int64)).backward()
        optimizer.step()
        steps.append(time.process_time() - start)
        terms.append(min(seconds(latency, net) for _ in range(3)))
    step_ms, term_us = statistics.median(steps) * 1e3, statistics.median(terms) * 1e6
    print(f"training step {step_ms:.1f} ms, term {term_us:.0f} us: {term_us / step_ms / 1e3:.2%}")


def attach() -> None:
    """Print time and memory of attaching."""
    example, latency = torch.zeros(1, 3, 224, 224), LatencyLoss(MadeUp())
    latency.attach(Supernet(), example[:, :1])  # what is imported on the way is not counted
    nets: dict[str, tuple[nn.Module, Callable[[nn.Module], CostPlan]]] = {
        "candidates as modules": (CandidateNet(), lambda net: latency.attach(net, example)),
        "elastic, by options": (
            ElasticNet(),
            lambda net: latency.attach(
                net, example, choices=options_of(ElasticNet.OPTIONS, lambda net, config: net.configured(config))
            ),
        ),
    }
    for name, (net, attach_to) in nets.items():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        wall, cpu = time.perf_counter(), time.process_time()
        plan = attach_to(net)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"attach, {name}: {len(plan.choices)} choices, {wall:.1f} s ({cpu:.1f} s of CPU), {more:.0f} MB more")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    attach()  # first: memory is the process's high-water mark
    for n_choices in (22, 100):
        compare(n_choices, options.runs)
    step(options.runs)


if __name__ == "__main__":
    main()
