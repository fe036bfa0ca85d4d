"""Filter, evolution and scores on a real Ray cluster of three nodes, one of which dies in the middle."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from torch import Tensor, nn
from typer.testing import CliRunner

from latency_nas.cli.main import app
from latency_nas.errors import MissingExtraError, RunnerLostError, SearchError
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select import filter as of_arrays
from latency_nas.search.select import filter_file, ray_map
from latency_nas.search.select.filter import filter_by_budget
from latency_nas.search.select.replacements import score_replacements
from tests.evolutions import equal, quick, some_accuracy
from tests.killed import killed_and_resumed
from tests.random_plans import drawn, random_plan
from tests.ray_cluster import NODE, die_once, log_call, ray_cluster, wait_for_cpus
from tests.search.select.test_filter_file import limit_of, table_of
from tests.search.select.test_replacements import RECOGNISED, batches, choices_of, square_at_temperature, trained

ray = pytest.importorskip("ray", reason="no Ray here: pip install 'latency-nas[ray]'")

N = 6000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture
def nodes(cluster: Any) -> list[Any]:
    """The nodes besides the head; three, which live when a test begins."""
    for dead in [node for node in cluster.worker_nodes if node.dead_processes()]:
        cluster.remove_node(dead, allow_graceful=False)
    while len(cluster.worker_nodes) < 3:
        cluster.add_node(num_cpus=1, **NODE, wait=False)
    cluster.wait_for_nodes(timeout=300)
    wait_for_cpus(3)
    return list(cluster.worker_nodes)


@pytest.fixture
def plan() -> CostPlan:
    return random_plan(np.random.default_rng(0), (3, 2, 4, 5, 9), 6, n_families=2)


def n_alive(nodes: list[Any]) -> int:
    return sum(not node.dead_processes() for node in nodes)


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    folder = tmp_path / "calls"
    folder.mkdir()
    return folder


# --- a node dies


@pytest.mark.slow
def test_evolution(nodes: list[Any], calls: Path) -> None:
    def accuracy(architecture: Mapping[str, int]) -> float:
        die_once(calls)
        return some_accuracy(architecture)

    steps: list[tuple[int, int]] = []
    found = quick(accuracy, ray_address="auto", on_progress=lambda *args: steps.append(args))
    assert equal(found, quick(some_accuracy))
    assert steps == [(done, 120) for done in range(1, 121)]
    assert n_alive(nodes) == 2
    where = [file.read_text() for file in calls.iterdir()]
    assert len(set(where)) == 3
    assert "driver" not in where
    assert len(where) > 120, "the task that the node died with ran again"


@pytest.mark.slow
def test_streamed_filter(cluster: Any, nodes: list[Any], plan: CostPlan, tmp_path: Path,
                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(filter_file, "_PART_ROWS", 100)
    pq.write_table(table_of(plan, drawn(plan, N)), tmp_path / "all.parquet", row_group_size=100)
    monkeypatch.chdir(tmp_path)
    killed = []

    def kill(n_rows: int, _: int) -> None:
        if n_rows == 1500:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            killed.append(n_rows)

    arguments: dict[str, Any] = {"max_ms": limit_of(plan), "keep_uncertain": True}
    found = filter_by_budget(
        "all.parquet", plan, **arguments, output="found.parquet", ray_address="auto", on_progress=kill
    )
    here = filter_by_budget("all.parquet", plan, **arguments, output="here.parquet")
    assert killed == [1500]
    assert str(found) == str(here)
    assert found.n == N
    assert min(found.n_passed, found.n_failed, found.n_uncertain) > 0
    assert found.output == Path("found.parquet")
    assert Path("found.parquet").read_bytes() == Path("here.parquet").read_bytes()
    assert not Path("found.parquet.parts").exists()
    plan.save("plan.npz")
    command = ["filter", "all.parquet", "--plan", "plan.npz", "--max-ms", repr(limit_of(plan)), "--ray", "auto"]
    assert CliRunner().invoke(app, command).stdout.endswith(f"{here}\n"), "Ray may print above that a node died"


@pytest.mark.slow
def test_scores(nodes: list[Any], calls: Path, tmp_path: Path) -> None:
    def loss(net: nn.Module, batch: Tensor) -> Tensor:
        die_once(calls)
        return square_at_temperature(net, batch)

    styles = ("NAS-Bench-201: a matrix on the root", "GDAS: one path that is drawn", "nested, with None")
    for style, net in ((style, trained(RECOGNISED[style]())) for style in styles):
        steps: list[tuple[int, int]] = []
        found = score_replacements(
            net,
            loss,
            batches(),
            choices=choices_of(net),
            ray_address="auto",
            on_progress=lambda *args, steps=steps: steps.append(args),
        )
        expected = score_replacements(net, square_at_temperature, batches(), choices=choices_of(net))
        assert found.keys() == expected.keys()
        for name, row in found.items():
            assert row == pytest.approx(expected[name], rel=1e-6, abs=1e-9), (style, name)
        n_passes = 1 + sum(len(row) - 1 for row in found.values())
        assert steps == [(done, n_passes) for done in range(1, n_passes + 1)]
    assert n_alive(nodes) == 2
    assert len({file.read_text() for file in calls.iterdir()}) == 4, "three nodes and, for base networks, the driver"


# --- the process that searches is killed

KILLED = """
import os, sys, time
from pathlib import Path
from tests.evolutions import quick, some_accuracy

def slowly(architecture):
    time.sleep(0.02)
    return some_accuracy(architecture)

def touch(done, total):
    Path(sys.argv[2]).touch()

quick(slowly, path=sys.argv[1], ray_address=os.environ["CLUSTER"], on_progress=touch)
"""


@pytest.mark.slow
def test_a_killed_evolution_ends_with_the_same_numbers(
    cluster: Any, nodes: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTER", cluster.address)
    file = tmp_path / "evolution.jsonl"
    assert killed_and_resumed(KILLED, file, tmp_path / "begun", max_kills=1) > 0
    assert len(file.read_text().splitlines()) == 1 + 120
    assert equal(quick(lambda _: float("nan"), path=file, ray_address=cluster.address), quick(some_accuracy))


# --- parts of a generation, and candidates that are sent along


@pytest.mark.slow
def test_each_task_takes_a_part_of_a_generation(nodes: list[Any], calls: Path) -> None:
    def accuracies(architectures: list[Mapping[str, int]]) -> list[float]:
        log_call(calls)
        return list(map(some_accuracy, architectures))

    assert equal(quick(accuracies, batch=True, ray_address="auto"), quick(some_accuracy))
    assert len(list(calls.iterdir())) == 3 * 120 / 20, "three parts of each generation of 20"


@pytest.mark.slow
def test_arrays_architectures_and_models(nodes: list[Any], plan: CostPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_arrays, "_TASK", 700)
    monkeypatch.setattr(of_arrays, "_CHUNK", 400)
    rows = drawn(plan, N)
    here = filter_by_budget(rows, plan, max_ms=limit_of(plan))
    steps: list[tuple[int, int]] = []
    found = filter_by_budget(
        rows, plan, max_ms=limit_of(plan), ray_address="auto", on_progress=lambda *args: steps.append(args)
    )
    assert here.outcomes is not None
    assert np.array_equal(found.outcomes, here.outcomes)
    assert steps == [(min(700 * part, N), N) for part in range(1, 10)]
    architectures = (dict(zip(plan.choices, row, strict=True)) for row in rows[:900].tolist())
    found = filter_by_budget(architectures, plan, max_ms=limit_of(plan), ray_address="auto")
    assert np.array_equal(found.outcomes, here.outcomes[:900])
    models = [nn.Conv2d(16, width, 3) for width in (16, 32, 64)]
    of_models: dict[str, Any] = {"max_ms": 0.5, "input_shape": (1, 16, 28, 28)}
    priced = filter_by_budget(models, "SD865", **of_models)
    assert str(filter_by_budget(models, "SD865", **of_models, ray_address="auto")) == str(priced)
    assert priced.n == 3


# --- the mapping itself


@pytest.mark.slow
def test_what_a_function_raises(nodes: list[Any], tmp_path: Path) -> None:
    def broken(architecture: Mapping[str, int]) -> float:
        raise ZeroDivisionError("of the user's")

    with pytest.raises(ZeroDivisionError) as caught:
        quick(broken, ray_address="auto")
    assert str(caught.value) == "of the user's"
    assert caught.value.__notes__[0].startswith("The architecture was {'c0': ")
    file, wrong = tmp_path / "evolution.jsonl", {"c0": 1}
    with pytest.raises(SearchError) as here:
        filter_by_budget([wrong], random_plan(np.random.default_rng(0), (3, 2)), max_ms=1.0)
    with pytest.raises(SearchError) as there:
        filter_by_budget([wrong], random_plan(np.random.default_rng(0), (3, 2)), max_ms=1.0, ray_address="auto")
    assert str(there.value) == str(here.value)
    with pytest.raises(SearchError, match=r"^Expected the accuracy of .* to be a finite number, but got nan\. "):
        quick(lambda one: float("nan") if one["c0"] == 1 else 0.5, path=file, ray_address="auto")
    assert len(file.read_text().splitlines()) < 1 + 120


@pytest.mark.slow
def test_workers_that_always_die(nodes: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_map, "_N_RETRIES", 1)
    with pytest.raises(RunnerLostError, match=r"^Expected a worker of the Ray cluster to end its task, but 2 of them "):
        list(ray_map.ray_map(lambda _: os._exit(1), [0], address="auto"))


@pytest.mark.slow
def test_items_are_taken_as_the_cluster_is_ready_for_them(nodes: list[Any]) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    found = ray_map.ray_map(lambda number: number**2, items(), address="auto")
    first = [next(found) for _ in range(5)]
    found.close()  # type: ignore[attr-defined]
    assert all(square == number**2 for number, square in first)
    assert len(taken) <= 5 + 2 * 3 + 1
    assert list(ray_map.mapper("auto")(lambda number: number**2, range(30))) == [number**2 for number in range(30)]


@pytest.mark.slow
def test_tasks_that_need_a_gpu_run_where_there_is_one(
    cluster: Any, nodes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_map, "_TIMEOUT_S", 0.0)
    monkeypatch.setattr(ray_map, "_POLL_S", 0.1)
    with pytest.raises(RunnerLostError) as caught:
        quick(some_accuracy, ray_address="auto", ray_gpus=0.5)
    assert str(caught.value) == (
        "Expected nodes with 1 CPU and 0.5 GPU for each task in the Ray cluster, but for 0 s there has been none: add "
        "one by `ray start --address=HEAD:6379`. What was computed is kept if there is a file for it, and the same "
        "call goes on with it."
    )
    node = cluster.add_node(num_cpus=1, num_gpus=1, **NODE, wait=True)
    where: Callable[[int], str] = lambda _: ray.get_runtime_context().get_node_id()  # noqa: E731
    assert {found for _, found in ray_map.ray_map(where, range(5), address="auto", n_gpus=0.5)} == {node.node_id}
    cluster.remove_node(node)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as caught:
        quick(some_accuracy, ray_address="auto")
    assert str(caught.value) == "Searching on several machines needs Ray: pip install 'latency-nas[ray]'"
