"""The cost plan against networks that are extracted from their supernets and priced as wholes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from supernet import Supernet
from torch import Tensor, nn

from latency_nas.engine import fuse
from latency_nas.errors import MissingKernelError, SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.graph.architectures import random_architectures
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import Kernel
from latency_nas.search.plan.cost import Cost
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.plan.pricing import make_plan
from latency_nas.search.supernet.supernet import find_choices
from latency_nas.search.supernet.supernet_space import graph_space
from latency_nas.table import Entry, LatencyTable
from tests.supernets import (
    DATASHEET,
    EXAMPLE,
    ChainNet,
    MixedOp,
    all_architectures,
    conv_relu,
    graph_of,
    made_up_ms,
    plan_of,
    table_of,
)

PLAN = CostPlan(
    choices=("a", "b"),
    candidates=(("a.0", "a.1", "a.2"), ("b.0", "b.1")),
    costs=(tuple(Cost(value=value) for value in (1.0, 2.0, 4.0)), (Cost(value=0.5), Cost(value=0.25))),
    fixed=Cost(value=8.0),
)


def priced(network: nn.Module, table: LatencyTable, example: Tensor = EXAMPLE) -> float:
    return LatencyEstimator(table).predict(network, example).latency_ms


def fused(network: nn.Module, example: Tensor = EXAMPLE) -> list[Kernel]:
    return [call.kernel for call in fuse(read_torch(network, example), "MNN")]


def folded(kernel: int) -> Kernel:
    """The kernel that convolution, batch norm and ReLU are fused to."""
    shape, pad = (1, 4, 8, 8), (kernel // 2,) * 4
    return Kernel.of(
        "conv2d", [shape], [shape], kernel=(kernel, kernel), stride=(1, 1), pad=pad, dilation=(1, 1), group=1, bias=1,
        act="relu",
    )  # fmt: skip


def brute_force(supernet: ChainNet, table: LatencyTable) -> list[tuple[dict[str, int], float]]:
    """Every architecture, and the price of its network."""
    architectures = all_architectures(graph_of(supernet).choices)
    return [(architecture, priced(supernet.subnet(architecture), table)) for architecture in architectures]


def test_the_sum_is_the_price_of_the_extracted_network() -> None:
    supernet, example = Supernet(), torch.zeros(1, 1, 32, 32)
    table = table_of(supernet, example)
    plan = plan_of(supernet, table, example)
    architectures = random_architectures(graph_of(supernet, example).choices, 100, seed=3)
    assert len(architectures) == 100
    for architecture in architectures:
        expected_ms = priced(supernet.subnet(architecture), table, example)
        assert plan.latency_ms(architecture) == pytest.approx(expected_ms, rel=1e-9)


def test_bounds_are_those_of_all_architectures() -> None:
    supernet = ChainNet()
    table = table_of(supernet)
    plan = plan_of(supernet, table)
    every = brute_force(supernet, table)
    assert len(every) == 24
    assert [plan.latency_ms(architecture) for architecture, _ in every] == pytest.approx([ms for _, ms in every])
    assert plan.bounds_ms() == pytest.approx((min(ms for _, ms in every), max(ms for _, ms in every)), rel=1e-9)


def test_a_cost_is_that_of_the_candidates_own_kernel() -> None:
    """A folded convolution is one kernel, an identity none; what is fixed is the network without them."""
    supernet = ChainNet()
    table = table_of(supernet)
    plan = plan_of(supernet, table)
    conv3, conv5, conv7 = (made_up_ms(folded(kernel)) for kernel in (3, 5, 7))
    for costs_ms, expected_ms in zip(
        plan.costs_ms, [(conv5, conv7, 0), (conv7, 0), (conv3, conv5, conv7, 0)], strict=True
    ):
        assert costs_ms == pytest.approx(expected_ms, abs=1e-9)
    assert plan.fixed_ms == pytest.approx(priced(nn.Sequential(supernet.stem, supernet.head), table), rel=1e-9)


def test_a_choice_that_runs_twice_costs_twice() -> None:
    op = MixedOp([conv_relu(4, 4, 1), conv_relu(4, 4, 3)])
    supernet = ChainNet(ops=[op, op, MixedOp([conv_relu(4, 4, 5), nn.Identity()])])
    table = table_of(supernet)
    plan = plan_of(supernet, table)
    assert plan.choices == ("blocks.0", "blocks.2")
    for architecture in all_architectures({"blocks.0": 2, "blocks.2": 2}):
        first, last = (supernet.blocks[number].ops[architecture[f"blocks.{number}"]] for number in (0, 2))
        network = nn.Sequential(supernet.stem, first, first, last, supernet.head)
        assert plan.latency_ms(architecture) == pytest.approx(priced(network, table), rel=1e-9)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"a": 0}, "Expected an architecture with a candidate for each choice and no more, but b differ."),
        (
            {"a": 0, "b": 0, "d": 0, "c": 1},
            "Expected an architecture with a candidate for each choice and no more, but c, d differ.",
        ),
        ({"a": 3, "b": 0}, "Expected a candidate of `a` from 0 to 2, but got 3."),
        ({"a": 0, "b": -1}, "Expected a candidate of `b` from 0 to 1, but got -1."),
    ],
)
def test_invalid_architectures_are_refused(architecture: dict[str, int], message: str) -> None:
    with pytest.raises(SearchError) as caught:
        PLAN.latency_ms(architecture)
    assert str(caught.value) == message


def chain_of(*lists: Sequence[nn.Module]) -> ChainNet:
    return ChainNet(ops=[MixedOp(candidates) for candidates in lists])


def bare_conv(kernel: int = 3) -> nn.Module:
    return nn.Conv2d(4, 4, kernel, padding=kernel // 2, bias=False)


def test_fusion_into_a_fixed_follower_belongs_to_the_candidate() -> None:
    """A ReLU is free after a convolution and a kernel of its own after an identity; one choice decides which."""
    supernet = ChainNet(ops=[MixedOp([bare_conv(), nn.Identity()]), nn.ReLU()])
    table = table_of(supernet)
    plan = plan_of(supernet, table)
    for index, candidate in enumerate(supernet.blocks[0].ops):
        network = nn.Sequential(supernet.stem, candidate, nn.ReLU(), supernet.head)
        assert plan.latency_ms({"blocks.0": index}) == pytest.approx(priced(network, table), rel=1e-9)


def test_fusion_across_two_choices_is_a_term_of_both() -> None:
    """A ReLU is free behind a convolution and a kernel of its own behind an identity."""
    supernet = chain_of([bare_conv(), nn.Identity()], [nn.ReLU(), nn.Sigmoid()])
    table = table_of(supernet)
    plan = plan_of(supernet, table)
    assert {len(term.candidates) for term in plan.terms} == {2}
    every = brute_force(supernet, table)
    for architecture, latency_ms in every:
        assert plan.latency_ms(architecture) == pytest.approx(latency_ms, rel=1e-9)
    assert plan.bounds_ms() == pytest.approx((min(ms for _, ms in every), max(ms for _, ms in every)), rel=1e-9)


def test_fusion_across_one_pair_of_many_candidates_is_found() -> None:
    many = [conv_relu(4, 4, kernel) for kernel in (1, 3, 5, 7, 9, 11, 13)]
    supernet = chain_of([*many, bare_conv()], [*many, nn.ReLU()], many)
    table = table_of(supernet)
    plan = plan_of(supernet, table)
    for architecture in [*random_architectures(graph_of(supernet).choices, 30, seed=0), dict.fromkeys(plan.choices, 6)]:
        subnet = supernet.subnet(architecture)
        assert plan.latency_ms(architecture) == pytest.approx(priced(subnet, table), rel=1e-9)
    pair = {"blocks.0": 7, "blocks.1": 7, "blocks.2": 0}
    assert plan.latency_ms(pair) == pytest.approx(priced(supernet.subnet(pair), table), rel=1e-9)


def test_fusion_through_an_identity_is_a_term_of_three() -> None:
    supernet = chain_of([bare_conv(), nn.Identity()], [nn.Identity(), conv_relu(4, 4, 1)], [nn.ReLU(), nn.Sigmoid()])
    architectures = all_architectures(graph_of(supernet).choices)
    kernels = [kernel for item in architectures for kernel in fused(supernet.subnet(item))]
    table = LatencyTable.of({kernel: Entry(latency_ms=made_up_ms(kernel)) for kernel in kernels}, DATASHEET)
    plan = plan_of(supernet, table)
    assert max(len(term.candidates) for term in plan.terms) == 3
    for architecture in architectures:
        assert plan.latency_ms(architecture) == pytest.approx(priced(supernet.subnet(architecture), table), rel=1e-9)


def test_all_that_has_no_price_is_in_one_error() -> None:
    supernet = ChainNet([4])  # convolutions of 3, 5 and 7, and an identity: no network has two of them
    table = table_of(supernet)
    missing = [folded(kernel).key for kernel in (5, 7)]
    incomplete = LatencyTable({key: entry for key, entry in table.entries.items() if key not in missing}, DATASHEET)
    assert len(incomplete) == len(table) - 2
    with pytest.raises(MissingKernelError) as caught:
        plan_of(supernet, incomplete)
    assert str(caught.value) == (
        f"2 of {len(table)} different kernels have no price in unsaved table (No device: MNN on CPU, fp32, 1 thread, "
        f"batch 1, imported): {missing[0]} (layer `blocks.0.ops.1.0`); {missing[1]} (layer `blocks.0.ops.2.0`). "
        f"Measure them with latency_nas.measure_table(...), or pass on_missing='regress' to have them estimated from "
        f"the table's rows."
    )


def test_all_that_is_left_out_is_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    supernet = ChainNet([4, 4])
    table = table_of(supernet)
    incomplete = LatencyTable({key: row for key, row in table.entries.items() if key != folded(5).key}, DATASHEET)
    graph = graph_of(supernet)
    with caplog.at_level("WARNING"):
        make_plan(graph_space(graph, find_choices(supernet), fuse), LatencyEstimator(incomplete, on_missing="warn"))
    assert [record.getMessage().split(" different")[0] for record in caplog.records] == [f"1 of {len(table)}"]


def test_made_up_latencies_are_distinct() -> None:
    table = table_of(ChainNet())
    latencies_ms = {entry.latency_ms for entry in table.entries.values()}
    assert len(latencies_ms) == len(table) > 5
    assert all(entry.latency_ms == made_up_ms(kernel) for kernel, entry in table.items())
