"""Plans of supernets whose candidates are given as graphs, without torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from latency_nas.engine import fuse
from latency_nas.errors import SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.graph import Node, OpGraph, Value
from latency_nas.search.plan.pricing import make_plan
from latency_nas.search.plan.space import Space, candidate_space
from latency_nas.table import Entry, LatencyTable
from tests.supernets import DATASHEET, made_up_ms


def chain(*ops: str) -> OpGraph:
    """Unary operators, one after the other."""
    return OpGraph(
        values=(Value(shape=(1, 4, 8, 8)),) * (len(ops) + 1),
        nodes=tuple(
            Node(name=f"/{op}_{index}", op=op, inputs=(index,), outputs=(index + 1,), attrs={})
            for index, op in enumerate(ops)
        ),
        inputs=(0,),
        outputs=(len(ops),),
    )


# graphs with equal names of nodes: only the choice and the candidate distinguish them
CHOICES: dict[str, dict[str, OpGraph | None]] = {
    "a": {"relu": chain("relu"), "two": chain("exp", "abs"), "skip": None},
    "b": {"relu": chain("relu"), "gelu": chain("gelu")},
}
FIXED = chain("relu", "sigmoid")


def ms(graph: OpGraph | None) -> float:
    return sum(made_up_ms(call.kernel) for call in fuse(graph, "MNN")) if graph else 0.0


def table() -> LatencyTable:
    graphs = [FIXED, *CHOICES["a"].values(), *CHOICES["b"].values()]
    kernels = [call.kernel for graph in graphs if graph for call in fuse(graph, "MNN")]
    return LatencyTable.of({kernel: Entry(latency_ms=made_up_ms(kernel)) for kernel in kernels}, DATASHEET)


def test_each_candidate_costs_what_its_graph_does() -> None:
    plan = make_plan(candidate_space(CHOICES, fuse, fixed=FIXED), LatencyEstimator(table()))
    assert plan.choices == ("a", "b")
    assert plan.candidates == (("relu", "two", "skip"), ("relu", "gelu"))
    assert plan.terms == ()
    assert plan.fixed_ms == pytest.approx(ms(FIXED), rel=1e-12)
    for costs_ms, group in zip(plan.costs_ms, CHOICES.values(), strict=True):
        assert costs_ms == pytest.approx([ms(graph) for graph in group.values()], rel=1e-12)
    gates = np.array([0.2, 0.3, 0.5, 0.6, 0.4])
    flat = [ms(graph) for group in CHOICES.values() for graph in group.values()]
    assert plan.expected_ms(gates) == pytest.approx(ms(FIXED) + gates @ flat, rel=1e-12)
    assert plan.gradient_ms(gates) == pytest.approx(flat, rel=1e-12)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({}, "Expected at least one choice, but got none."),
        ({"a": {"relu": chain("relu")}}, "Expected at least two candidates of `a`, but got 1."),
    ],
)
def test_no_choice(choices: dict[str, dict[str, OpGraph | None]], message: str) -> None:
    with pytest.raises(SearchError) as caught:
        candidate_space(choices, fuse)
    assert str(caught.value) == message


def test_a_space_of_whole_networks_sees_what_is_folded() -> None:
    """Here nothing is folded, but two operators run in one network only where both are chosen."""
    networks = {(0, 0): chain("relu"), (0, 1): chain("exp"), (1, 0): chain("abs"), (1, 1): chain("exp", "gelu")}
    kernels = [call.kernel for graph in networks.values() for call in fuse(graph, "MNN")]
    entries = {kernel: Entry(latency_ms=made_up_ms(kernel)) for kernel in kernels}
    space = Space(
        candidates={"a": ("0", "1"), "b": ("0", "1")},
        calls=lambda picked: fuse(networks[picked["a"], picked["b"]], "MNN"),
    )
    plan = make_plan(space, LatencyEstimator(LatencyTable.of(entries, DATASHEET)))
    for (a, b), network in networks.items():
        assert plan.latency_ms({"a": a, "b": b}) == pytest.approx(ms(network), rel=1e-12)


def test_plans_are_made_without_torch() -> None:
    code = "import sys, latency_nas.search.{}; print(sorted({'torch', 'paddle', 'pyarrow'} & set(sys.modules)))"
    loaded = {
        name: _printed(code.replace("{}", name))
        for name in ("plan.plan", "plan.pricing", "plan.space", "supernet.supernet_space")
    }
    assert list(loaded.values()) == ["[]", "['pyarrow']", "[]", "['torch']"]


def _printed(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603
