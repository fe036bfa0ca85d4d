"""Plans of derived networks: kernels whose number follows from the choices, and those that do not."""

from __future__ import annotations

import logging
from ast import literal_eval
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from latency_nas import CountLimit
from latency_nas.errors import SearchError
from latency_nas.kernel import Kernel
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.plan.derived import derived_plan
from latency_nas.search.plan.limited import Limited
from latency_nas.search.plan.limits import ChoiceLimit, limit_rows
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.plan.space import Space
from tests.supernets import MadeUp, all_architectures, made_up_ms

Row = tuple[int, ...]


def kernel(op: str, channels: int) -> Kernel:
    """A unary kernel."""
    return Kernel(op=op, inputs=((1, channels, 8, 8),), outputs=((1, channels, 8, 8),))


class Networks:
    """A space of networks whose layers are numbered as they are built, and the architectures that were derived."""

    def __init__(self, sizes: Sequence[int], kernels: Callable[[Row], list[Kernel]]) -> None:
        self.sizes = {f"c{number}": size for number, size in enumerate(sizes)}
        self.kernels, self.asked = kernels, list[Row]()
        self.space = Space(
            candidates={name: tuple(map(str, range(size))) for name, size in self.sizes.items()}, calls=self.calls
        )

    def calls(self, architecture: dict[str, int]) -> list[KernelCall]:
        row = tuple(architecture.values())
        self.asked.append(row)
        return [
            KernelCall(kernel=each, layer=f"ops.{number}", nodes=(f"/ops.{number}",))
            for number, each in enumerate(self.kernels(row))
        ]

    def plan(self, *limits: ChoiceLimit, paths: Space | None = None) -> CostPlan:
        rows = limit_rows(limits, self.sizes)
        nothing = Space(candidates=self.space.candidates, calls=lambda architecture: [])
        return derived_plan(self.space, lambda: paths or nothing, MadeUp(), limits=rows)

    def price(self, row: Row) -> float:
        return sum(map(made_up_ms, self.kernels(row)))


def check(networks: Networks, plan: CostPlan, rows: Sequence[Row]) -> None:
    """The plan's price of each architecture is that of its own network, and so are its kernels."""
    for row in rows:
        architecture = dict(zip(networks.sizes, row, strict=True))
        assert plan.cost(architecture) == pytest.approx(networks.price(row), rel=1e-12)
        found = plan.estimate(architecture).kernels
        assert sorted(item.kernel.key for item in found) == sorted(one.key for one in networks.kernels(row))


def test_layers_that_are_numbered_anew_are_no_choices() -> None:
    """A skipped block moves the names of all that follow."""

    def kernels(row: Row) -> list[Kernel]:
        blocks = [kernel(("exp", "abs", "sigmoid")[index - 1], 4) for index in row if index]
        return [kernel("relu", 4), *blocks, kernel("relu", 8)]

    networks = Networks((4,) * 12, kernels)
    plan = networks.plan()
    assert plan.terms == ()
    assert plan.fixed.value == pytest.approx(made_up_ms(kernel("relu", 4)) + made_up_ms(kernel("relu", 8)))
    assert 8 <= plan.n_checked <= 16
    assert plan.n_fitted + plan.n_checked == len(networks.asked) < 100
    rows = np.random.default_rng(7).integers(0, 4, (50, 12))
    check(networks, plan, [tuple(row) for row in rows.tolist()])
    layers = [item.layer for item in plan.estimate(dict.fromkeys(networks.sizes, 1)).kernels]
    assert layers[-12:] == list(networks.sizes), "choices stand for layers"


def test_additions_of_two_edges_a_node_are_pairs() -> None:
    """A node of two edges has an addition, and one of a single edge has none: a product of two choices."""

    def kernels(row: Row) -> list[Kernel]:
        edges = [index for index in row if index]
        additions = [kernel("relu", 16)] * (len([index for index in row[:3] if index]) == 2)
        additions += [kernel("relu", 16)] * (len([index for index in row[3:] if index]) == 2)
        return [kernel(("exp", "abs", "sigmoid", "tanh")[index - 1], 4) for index in edges] + additions

    networks = Networks((5,) * 7, kernels)
    limits = (
        CountLimit(("c0", "c1", "c2"), other_than=0, at_most=2, at_least=1),
        CountLimit(("c3", "c4", "c5", "c6"), other_than=0, at_most=2, at_least=1),
    )
    plan = networks.plan(*limits)
    rows = limit_rows(limits, networks.sizes)
    within = Limited(networks.sizes, rows)
    assert within.keeps(np.array(networks.asked)).all(), "architectures outside the limits are never derived"
    check(networks, plan, [tuple(row) for row in within.draw(100, np.random.default_rng(1)).tolist()])
    assert {len(term.groups) for term in plan.terms} == {2}


def test_choices_that_meet_in_a_layer_of_the_supernet_meet_in_the_derived_network() -> None:
    """The widths of two neighbours decide together what the layer between them costs."""

    def kernels(row: Row) -> list[Kernel]:
        return [kernel("relu", 10 * one + other) for one, other in zip((0, *row), (*row, 0), strict=True)]

    def paths(architecture: dict[str, int]) -> list[KernelCall]:
        run = kernels(tuple(architecture.values()))
        return [KernelCall(kernel=each, layer=f"{n}", nodes=(f"/{n}",)) for n, each in enumerate(run)]

    networks = Networks((3,) * 6, kernels)
    plan = networks.plan(paths=Space(candidates=networks.space.candidates, calls=paths))
    rows = np.random.default_rng(7).integers(0, 3, (50, 6))
    check(networks, plan, [tuple(row) for row in rows.tolist()])
    assert len(plan.terms) == 45, "nine for each two neighbours"


def test_a_small_space_is_read_whole() -> None:
    networks = Networks((3, 2, 3), lambda row: [kernel("relu", 1 + sum(row) ** 2)])
    plan = networks.plan(paths=networks.space)
    assert (plan.n_fitted, plan.n_checked) == (18, 0)
    check(networks, plan, [tuple(one.values()) for one in all_architectures(networks.sizes)])


def test_networks_that_the_choices_do_not_explain_are_refused() -> None:
    """A kernel that runs where an even number of blocks is taken, under a limit that does not matter."""

    def kernels(row: Row) -> list[Kernel]:
        even = [kernel("exp", 5)] * (sum(index > 0 for index in row) % 2 == 0)
        return [kernel("relu", 4)] * sum(index > 0 for index in row) + even

    networks = Networks((3,) * 9, kernels)
    with pytest.raises(SearchError) as caught:
        networks.plan(CountLimit(list(networks.sizes), other_than=0, at_most=9))
    text = str(caught.value)
    assert text.startswith(
        "Expected derived networks whose kernels follow from each choice and from those that meet, but how often 1 of "
        "2 kernels run does not: exp [1,5,8,8] -> [1,5,8,8] dtype=fp32. The network of {'c0': "
    )
    named = text[text.index("{") : text.index("}") + 1]
    row = tuple(literal_eval(named).values())
    assert f"}} has a latency of {MadeUp().quantity.rounded(networks.price(row))} ms, and of " in text
    assert text.endswith(
        " networks. Give the limits that `derive` relies on by `limits`, or name choices that decide together as one."
    )


def test_candidates_that_limits_exclude_are_named(caplog: pytest.LogCaptureFixture) -> None:
    networks = Networks((3,) * 6, lambda row: [kernel("relu", index + 1) for index in row])
    with caplog.at_level(logging.WARNING):
        plan = networks.plan(CountLimit(("c0", "c1"), other_than=(0, 1), at_most=0))
    assert [record.getMessage() for record in caplog.records] == [
        "The limits exclude 2 candidates, which cost nothing in an expectation: 2 of c0, 2 of c1."
    ]
    assert all(row[0] < 2 and row[1] < 2 for row in networks.asked)
    assert plan.cost(dict.fromkeys(networks.sizes, 1)) == pytest.approx(6 * made_up_ms(kernel("relu", 2)))
