"""Sessions: what they hold survives kills, full disks and damage; with the real engine in a process of its own."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from latency_nas.engine import Target, fuse, get_engine
from latency_nas.errors import MeasureError, RunnerLostError, SessionError
from latency_nas.graph import OpGraph
from latency_nas.graph.graph_json import format_graph, parse_graph
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import Kernel
from latency_nas.measure.compose import compose, cover, join, own_kernels, side_by_side
from latency_nas.measure.device.runner import LocalRunner, RepetitionOptions, Runner
from latency_nas.measure.kernel_graph import kernel_graph
from latency_nas.measure.session.options import SessionOptions
from latency_nas.measure.session.result import build_table, session_result
from latency_nas.measure.session.run import run_session
from latency_nas.measure.session.session import Session
from latency_nas.measure.session.work_item import WorkItem
from latency_nas.measure.space import Op
from tests.simulation import moment, simulated_device

PROGRAM = """
import sys
from latency_nas.measure.device.runner import LocalRunner
from latency_nas.measure.session.session import Session
from latency_nas.measure.session.run import run_session
with Session.open(sys.argv[1]) as session, LocalRunner() as runner:
    run_session(session, runner, on_progress=lambda done, total: print(done, flush=True))
"""
FAST = RepetitionOptions(n_runs=2, n_yardstick=3)
RULES = (get_engine("mnn"), Target())


def conv(c_in: int, c_out: int, size: int, kernel: int = 3) -> Kernel:
    return Kernel.of(
        "conv2d", [(1, c_in, size, size)], [(1, c_out, size, size)], kernel=(kernel, kernel), stride=(1, 1),
        pad=(kernel // 2,) * 4, dilation=(1, 1), group=1, bias=1, act="relu",
    )  # fmt: skip


KERNELS = [conv(c_in, c_out, size) for c_in in (8, 16, 24) for c_out in (8, 16, 24) for size in (7, 14, 28)]


def new_session(path: Path, kernels: list[Kernel] | None = None, **options: Any) -> Session:
    """However unstable the machine is, a repetition is not made again: nothing here depends on its times."""
    work_items = [WorkItem.of(kernel) for kernel in kernels or KERNELS]
    fast = {"repetition": FAST, "rounds": 3, "chunk_size": 16, "max_drift": 1e6}
    return Session.create(path, work_items, SessionOptions(**(fast | options)))


def test_a_session_that_is_killed_again_and_again_ends_with_the_same_kernels(tmp_path: Path) -> None:
    """kill -9 at random moments; every repetition that had been reported is there afterwards."""
    with new_session(tmp_path / "whole.sqlite", rounds=1, min_rounds=1) as session, LocalRunner() as runner:
        run_session(session, runner)
        whole = set(build_table(session))
    path, draw = tmp_path / "killed.sqlite", random.Random(0)
    new_session(path, rounds=24, stop_at=None).close()
    command = [sys.executable, "-c", PROGRAM, str(path)]
    n_reported, status = 0, -1
    for _ in range(5):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
        assert process.stdout is not None
        time.sleep(draw.uniform(0.0, 0.5) + 0.1 * (process.stdout.readline() == ""))
        process.kill()
        lines = process.stdout.read().splitlines()
        process.stdout.close()
        status = process.wait()
        n_reported = int(lines[-1]) if lines else n_reported
        with Session.open(path) as session:
            assert n_reported <= session.n_repetitions <= n_reported + 2
            n_reported = session.n_repetitions
    assert status == -signal.SIGKILL
    with Session.open(path) as session, LocalRunner() as runner:
        run_session(session, runner)
        assert all(len(list(session.repetitions(network.id))) >= 24 for network in session.networks())
        table = build_table(session)
    assert set(table) == whole
    assert set(KERNELS) <= whole


def graph_of(kernel: Kernel) -> OpGraph:
    return kernel_graph(kernel, *RULES)


class Watched(Runner):
    """A real runner that ends after some repetitions, or is another device."""

    def __init__(self, n_repetitions: int = 10**9, **hello: str) -> None:
        self.real, self.left, self.changed = LocalRunner(), n_repetitions, hello

    def hello(self) -> Mapping[str, Any]:
        return {**self.real.hello(), **self.changed}

    def repeat(self, *arguments: Any, **options: Any) -> Mapping[str, Any]:
        if not self.left:
            raise RunnerLostError("The board was unplugged.")
        self.left -= 1
        return self.real.repeat(*arguments, **options)

    def close(self) -> None:
        self.real.close()


def test_a_device_that_is_lost_loses_nothing_and_another_is_refused(tmp_path: Path) -> None:
    with new_session(tmp_path / "s.sqlite", KERNELS[:6]) as session:
        with contextlib.closing(Watched(4)) as runner, pytest.raises(RunnerLostError, match=r"^The board was unplug"):
            run_session(session, runner)
        assert session.n_repetitions == 4
        with contextlib.closing(Watched(processor="Kryo")) as other, pytest.raises(MeasureError) as caught:
            run_session(session, other)
        known = session.fact("processor")
        assert str(caught.value) == (
            f"Expected to go on with {session.path} where processor is {known}, but here it is Kryo: "
            f"a session is of one device and one engine."
        )
        with LocalRunner() as runner:
            run_session(session, runner)
        assert set(KERNELS[:6]) <= set(build_table(session))


def test_a_full_disk_is_said_and_keeps_every_finished_repetition(tmp_path: Path) -> None:
    """SQLite's own limit of pages stands for the disk: the same error, SQLITE_FULL, by the same way."""
    path = tmp_path / "s.sqlite"
    with new_session(path, KERNELS[:6], rounds=8, stop_at=None) as session, LocalRunner() as runner:

        def fill(n_repetitions: int, _: int) -> None:
            if n_repetitions == 5:
                session._connection.execute("PRAGMA max_page_count = 1")  # as many as there are, as it turns out

        with pytest.raises(SessionError) as caught:
            run_session(session, runner, on_progress=fill)
        assert str(caught.value) == (
            f"The disk that holds {path} is full. Every finished repetition is kept: make room, and run the same "
            f"command again to go on."
        )
    with Session.open(path) as session, LocalRunner() as runner:
        assert session.n_repetitions >= 5
        run_session(session, runner)
        assert set(KERNELS[:6]) <= set(build_table(session))


def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    new_session(path).close()
    data = path.read_bytes()
    for damaged, reason in (
        (data[: len(data) // 2], "database disk image is malformed"),
        (np.random.default_rng(0).bytes(5000), "file is not a database"),
        (data[:200] + bytes(9000) + data[9200:], "malformed database schema (?)"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(SessionError) as caught:
            Session.open(path)
        assert str(caught.value) == (
            f"Expected {path} to be a session, but it is damaged or of another format ({reason}). It was not changed: "
            f"what can be read of it, `sqlite3 {path} .recover` writes into a new file."
        )
        assert path.read_bytes() == damaged


def test_a_session_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    new_session(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE facts SET value = '7' WHERE name = 'version'")
    with pytest.raises(SessionError) as caught:
        Session.open(path)
    assert str(caught.value) == f"Expected {path} to be a session of version 2, but it is of version 7."


def test_one_process_meters_a_session_at_a_time_and_others_read_it(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with new_session(path):
        with pytest.raises(SessionError) as caught:
            Session.open(path)
        assert str(caught.value) == f"{path} is being metered by another process: wait for it, or end it."
        with Session.open(path, read_only=True) as reader, pytest.raises(MeasureError) as unmeasured:
            build_table(reader)
    assert str(unmeasured.value) == (
        f"Expected samples in {path}, but there are none yet: run the session first."
    )  # fmt: skip
    with pytest.raises(SessionError) as caught:
        new_session(path)
    assert str(caught.value) == (
        f"Expected no session at {path} yet, but there is one: go on with it, or name another."
    )
    with pytest.raises(SessionError) as empty:
        Session.create(tmp_path / "empty.sqlite", [], SessionOptions(source="nothing.yaml"))
    assert str(empty.value) == "Expected something to meter in nothing.yaml, but got nothing."
    assert [file.name for file in tmp_path.iterdir()] == ["s.sqlite"]


def test_what_cannot_be_metered_is_put_aside_with_the_reason_and_the_rest_is_metered(tmp_path: Path) -> None:
    ops = [
        Op(module="torch.nn", name="Conv2d", arguments=arguments, input_shape=(1, channels, 9, 9))
        for arguments, channels in (
            ({"in_channels": 8, "out_channels": 8, "kernel_size": 3}, 8),
            ({"in_channels": 8, "out_channels": 8, "kernel_size": 3}, 9),
            ({"in_channels": 8, "out_channels": 9, "kernel_size": 1, "groups": 2}, 8),
        )
    ]
    raster = Kernel.of("raster", [(1, 8, 9, 9)], [(1, 8, 9, 9)], source="plain", target="packed")
    work_items = [WorkItem.of(item) for item in [*ops, raster]]
    options = SessionOptions(repetition=FAST, rounds=1, min_rounds=1)
    with Session.create(tmp_path / "s.sqlite", work_items, options) as session, LocalRunner() as runner:
        run_session(session, runner)
        assert {kernel.op for kernel in build_table(session)} == {"conv2d", "raster"}
        problems = list(session.problems().values())
    assert problems[0] == (
        "IllegalOpError: torch.nn.Conv2d(in_channels=8, out_channels=8, kernel_size=3) on [1, 9, 9, 9]: Expected an "
        "input that fits the model, but with the input (1, 9, 9, 9) the model's own forward (Conv2d) fails: Given "
        "groups=1, weight of size [8, 8, 3, 3], expected input[1, 9, 9, 9] to have 8 channels, but got 9 channels "
        "instead"
    )
    assert problems[1] == (
        "IllegalOpError: torch.nn.Conv2d(in_channels=8, out_channels=9, kernel_size=1, groups=2) on [1, 8, 9, 9]: "
        "the constructor raises ValueError: out_channels must be divisible by groups"
    )
    assert problems[2:] == [
        f"MeasureError: No network is known for which MNN runs {raster}: measure it inside a network that has it."
    ]


def test_options_out_of_range_are_refused(tmp_path: Path) -> None:
    for options, message in (
        ({"rounds": 0}, "Expected `rounds` to be a positive integer, but got 0."),
        ({"stop_at": -1.0}, "Expected `stop_at` to be a positive number, but got -1.0."),
        ({"context": "here"}, "Expected `context` to be one of composed, alone, but got 'here'."),
    ):
        with pytest.raises(MeasureError) as caught:
            SessionOptions(**options)  # type: ignore[arg-type]
        assert str(caught.value) == message
    with pytest.raises(MeasureError) as caught:
        new_session(tmp_path / "s.sqlite", repetition=RepetitionOptions(precision="int8"))
    assert str(caught.value) == (
        "Expected `precision` to be fp32 or fp16, but got 'int8': networks of random weights cannot be quantised as a "
        "trained one would be, and MNN's int8 kernels depend on that. Quantise your network with MNN's own tool and "
        "measure the file as a whole network."
    )


def test_kernels_alone_are_one_network_each(tmp_path: Path) -> None:
    with new_session(tmp_path / "s.sqlite", KERNELS[:5], context="alone") as session, LocalRunner() as runner:
        run_session(session, runner)
        assert [network.branches for network in session.networks()] == [((work_item,),) for work_item in range(1, 6)]
        table = build_table(session)
    assert table.datasheet.sources[0].startswith("5 networks of one work item each, ")


def test_a_kernel_that_is_known_well_enough_is_timed_no_more(tmp_path: Path) -> None:
    """On the simulated device: how soon a kernel is known depends on what disturbs the machine."""
    counts = {}
    (tmp_path / "site").mkdir()
    with simulated_device(tmp_path / "site"):
        for stop_at in (1000.0, 0.02, None):
            options: dict[str, Any] = {"stop_at": stop_at, "rounds": 8, "min_rounds": 2, "max_drift": 0.1}
            path = tmp_path / f"{stop_at}.sqlite"
            with (
                new_session(path, KERNELS[:9], engine="simulated", **options) as session,
                LocalRunner("simulated") as runner,
                moment(0, "fast"),
            ):
                run_session(session, runner)
                repetitions = [[*session.repetitions(network.id)] for network in session.networks()]
                unstable = session_result(session).drift.n_repeated
                counts[stop_at] = (sum(map(len, repetitions)) - unstable) / len(repetitions)
    assert counts[1000.0] == 2
    assert 2 < counts[0.02] < counts[None] == 8


def test_the_datasheet_says_how_the_session_was_metered(tmp_path: Path) -> None:
    repetition = RepetitionOptions(n_runs=2, n_yardstick=3, threads=2, power_mode="high")
    kernels = [
        Kernel.of("pool2d", [(4, 8, 8, 8)], [(4, 8, 4, 4)], kernel=(2, 2), stride=(2, 2), pad=(0,) * 4, type="max")
    ]
    with (
        new_session(
            tmp_path / "s.sqlite", kernels, repetition=repetition, device="Board", source="ops.yaml"
        ) as session,
        LocalRunner() as runner,
    ):
        run_session(session, runner)
        sheet, result = build_table(session, "min").datasheet, session_result(session)
    assert (sheet.device, sheet.threads, sheet.batch, sheet.precision) == ("Board", 2, 4, "fp32")
    assert sheet.power_mode.startswith("high")
    assert sheet.statistic == (
        "median over the places of a kernel of the median over repetitions of the minimum of the runs, "
        "at the yardstick's stable speed"
    )
    assert sheet.sources[0].endswith(" repetitions of 2 runs each, of ops.yaml")
    assert sheet.notes == str(result.drift)
    assert all(times.memory_mb is not None and times.memory_mb > 0 for times in result.times)


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_a_table_is_of_the_batch_size_of_its_kernels(batch: int, tmp_path: Path) -> None:
    kernels = [Kernel.of(op, [(batch, 16)], [(batch, 16)]) for op in ("sigmoid", "tanh")]
    with new_session(tmp_path / "s.sqlite", kernels, rounds=1, min_rounds=1) as session, LocalRunner() as runner:
        run_session(session, runner)
        table = build_table(session)
    assert table.datasheet.batch == batch
    assert {kernel for kernel in table if kernel.op != "raster"} == set(kernels)


def test_each_work_item_stands_once_in_each_composition_and_chains_fit() -> None:
    graphs = dict(enumerate(map(graph_of, KERNELS)))
    for seed in range(3):
        networks = compose(graphs, *RULES, items_per_network=8, seed=seed, fold=False)
        assert sorted(work_item for branches in networks for branch in branches for work_item in branch) == list(graphs)
        assert max(sum(map(len, branches)) for branches in networks) <= 8
        for branches in networks:
            calls = RULES[0].fuse_branches(
                [join([graphs[work_item] for work_item in branch]) for branch in branches], RULES[1]
            )
            wanted = {KERNELS[work_item] for branch in branches for work_item in branch}
            assert wanted <= {call.kernel for call in calls}
    assert networks != compose(graphs, *RULES, items_per_network=8, seed=9, fold=False)


def test_work_items_that_would_be_folded_together_are_kept_apart_unless_folding_is_meant() -> None:
    plain = conv(8, 8, 8).without(("act",))
    graphs = {0: graph_of(plain), 1: graph_of(Kernel.of("relu", [(1, 8, 8, 8)], [(1, 8, 8, 8)]))}
    assert {compose(graphs, *RULES, items_per_network=2, seed=seed, fold=False)[0] for seed in range(4)} <= {
        ((1, 0),),
        ((0,), (1,)),
    }
    assert ((0, 1),) in {compose(graphs, *RULES, items_per_network=2, seed=seed, fold=True)[0] for seed in range(4)}


def test_a_head_reads_what_a_pooling_wrote_flattened() -> None:
    mean = Op(module="torch.nn", name="AdaptiveAvgPool2d", arguments={"output_size": 1}, input_shape=(1, 8, 4, 4))
    head = Op(module="torch.nn", name="Linear", arguments={"in_features": 8, "out_features": 3}, input_shape=(1, 8))
    graphs = {0: mean.read(), 1: head.read()}
    assert compose(graphs, *RULES, items_per_network=2, seed=0, fold=False) == [((0, 1),)]
    whole = read_torch(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)), input_shape=(1, 8, 4, 4))
    ours = RULES[0].fuse_branches([join([graphs[0], graphs[1]])], RULES[1])
    assert [call.kernel for call in ours] == [call.kernel for call in fuse(whole, "MNN")]


def test_a_cover_holds_every_kernel_and_nothing_that_is_not_needed() -> None:
    a, b, c = KERNELS[:3]
    assert cover({1: {a}, 2: {a, b}, 3: {c}, 4: {b, c}}, set()) == [2, 3]
    assert cover({1: {a}, 2: {a, b}, 3: {c}}, {a, b}) == [3]
    assert cover({}, set()) == []


@pytest.mark.parametrize("kernel", [KERNELS[0], KERNELS[-1]])
def test_a_graph_in_text_is_the_same_graph(kernel: Kernel) -> None:
    graph = side_by_side([join([graph_of(kernel)] * 1), graph_of(kernel)])
    assert parse_graph(format_graph(graph)) == graph
    assert own_kernels(graph, *RULES) == {call.kernel for call in fuse(graph, "MNN")} - {
        call.kernel for call in fuse(graph, "MNN") if call.kernel.op == "raster"
    }


def test_a_device_without_mnn_is_said_and_what_was_measured_is_kept(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    with new_session(tmp_path / "s.sqlite", KERNELS[:3], rounds=1, min_rounds=1) as session:
        with LocalRunner() as runner:
            run_session(session, runner)
        n_repetitions = session.n_repetitions
        with LocalRunner(python=str(bare)) as runner, pytest.raises(MeasureError) as caught:
            run_session(session, runner)
        assert str(caught.value) == (
            f"Expected MNN to be installed for {sys.executable}, but it is not (No module named 'MNN'): pip install MNN"
        )
        assert session.n_repetitions == n_repetitions > 0
