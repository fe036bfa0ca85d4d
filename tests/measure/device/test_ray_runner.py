"""Several boards: a real Ray cluster of three nodes on this machine, one of which dies in the middle of a session."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from latency_nas.engine import get_engine
from latency_nas.errors import MeasureError, MissingExtraError, RunnerLostError
from latency_nas.measure.device.ray_runner import RayRunner
from latency_nas.measure.device.runner import LocalRunner, RepetitionOptions
from latency_nas.measure.session.result import build_table
from latency_nas.measure.session.run import run_session
from latency_nas.measure.yardstick import write_yardstick
from tests.measure.session.test_session import KERNELS, new_session
from tests.ray_cluster import NODE, ray_cluster

pytest.importorskip("ray", reason="no Ray here: pip install 'latency-nas[ray]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster() as cluster:
        yield cluster


def board(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, resources={"pi4": 1}, **NODE)


def test_a_board_that_dies_in_the_middle_loses_nothing(cluster: Any, tmp_path: Path) -> None:
    nodes = [board(cluster) for _ in range(3)]
    cluster.wait_for_nodes(timeout=300)
    killed = []

    def kill(n_repetitions: int, _: int) -> None:
        if n_repetitions == 5:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            killed.append(n_repetitions)

    with new_session(tmp_path / "s.sqlite", KERNELS[:12], rounds=3, stop_at=None) as session:
        run_session(session, RayRunner("pi4"), on_progress=kill)
        assert killed == [5]
        assert session.problems() == {}
        counts = [len(list(session.repetitions(network.id))) for network in session.networks()]
        assert min(counts) >= 3, counts
        assert set(KERNELS[:12]) <= set(build_table(session))
    for node in nodes:
        cluster.remove_node(node)


def test_one_repetition_is_made_on_any_board(cluster: Any, tmp_path: Path) -> None:
    node = board(cluster)
    file, broken = write_yardstick(get_engine("mnn"), tmp_path), tmp_path / "broken.mnn"
    broken.write_bytes(b"no network")
    options = RepetitionOptions(n_runs=2, profile=False)
    with RayRunner("pi4", engine="mnn") as runner:
        raw = runner.repeat(file, file, options, describe=False)
        with pytest.raises(MeasureError) as caught:
            runner.repeat(broken, file, options, describe=False)
    cluster.remove_node(node)
    assert len(raw["whole_ms"]) == 2
    with LocalRunner("mnn") as local, pytest.raises(MeasureError) as same:
        local.repeat(broken, file, options, describe=False)
    assert str(caught.value).rpartition("/")[2] == str(same.value).rpartition("/")[2]


def test_without_boards_it_is_given_up(cluster: Any, tmp_path: Path) -> None:
    with new_session(tmp_path / "s.sqlite", KERNELS[:6]) as session, pytest.raises(RunnerLostError) as caught:
        run_session(session, RayRunner("pi5", timeout_s=1.0))
    assert str(caught.value) == (
        "Expected nodes with the resource 'pi5' in the Ray cluster, but for 1 s there has been none. What was measured "
        "is kept: start one by `ray start --address=HEAD:6379 --resources='{\"pi5\": 1}'`, and run the same command "
        "again to go on."
    )


def test_a_board_of_another_kind_is_refused() -> None:
    runner = RayRunner("pi4")
    runner._hello = {"machine": "aarch64"}
    with pytest.raises(MeasureError) as caught:
        runner._check_kind({"hello": {"machine": "riscv64"}, "whole_ms": []})
    assert str(caught.value) == (
        "Expected every board with the resource 'pi4' to be of one kind, with machine aarch64, but one has riscv64: "
        "give unlike boards resources of their own."
    )


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as caught:
        RayRunner("pi4").hello()
    assert str(caught.value) == "Measuring on several devices needs Ray: pip install 'latency-nas[ray]'"
