"""A whole session by Paddle-Lite, from an op space to a table: on this machine, behind ssh, and by a bundle."""

# ruff: noqa: S603 - Paddle-Lite's own Python

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_nas import load_table
from latency_nas.engine import get_engine
from latency_nas.measure.device import RemoteRunner
from latency_nas.measure.device.runner import LocalRunner, RepetitionOptions, Runner
from latency_nas.measure.session.options import SessionOptions
from latency_nas.measure.session.result import session_result
from latency_nas.measure.session.run import run_session
from latency_nas.measure.session.session import Session
from latency_nas.measure.session.work_item import WorkItem
from latency_nas.measure.yardstick import yardstick_graph
from latency_nas.table import LatencyTable
from tests.cli.test_measure import YAML
from tests.cli.test_measure import run as run_command
from tests.engine.paddle_lite.test_engine import replaced
from tests.ssh_server import Server, ssh_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def start(tmp_path: Path) -> tuple[object, ...]:
    """A command that begins a session."""
    (tmp_path / "ops.yaml").write_text(YAML)
    where = (tmp_path / "ops.yaml", "-s", tmp_path / "s.sqlite")
    return "measure", *where, "--engine", "paddle-lite", "--rounds", 1, "--runs", 2, "--max-drift", 9


def built(folder: Path) -> LatencyTable:
    """The table of the session that `start` began: each kernel was a network of its own."""
    output = run_command("table", "build", folder / "s.sqlite", "-o", folder / "t.parquet")
    assert "2 kernels. " in output
    table = load_table(str(folder / "t.parquet"))
    assert sorted(kernel.outputs for kernel in table) == [((1, 8, 8, 8),), ((1, 16, 8, 8),)]
    assert (table.datasheet.engine, table.datasheet.engine_version) == ("Paddle-Lite", "2.13rc0")
    return table


@pytest.mark.usefixtures("lite_python")
def test_on_this_machine(start: tuple[object, ...], tmp_path: Path) -> None:
    assert "MB at its peak" not in run_command(*start, "--device", "Example board")  # Paddle-Lite does not report it
    assert built(tmp_path).datasheet.device == "Example board"


def test_behind_ssh(
    start: tuple[object, ...], tmp_path: Path, server: Server, lite_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", server.clients(tmp_path / "bin"))
    run_command(*start, "--on", server.ssh.name, "--python", lite_python)
    assert built(tmp_path).datasheet.device == server.ssh.name


def test_by_a_bundle(start: tuple[object, ...], tmp_path: Path, lite_python: Path) -> None:
    bundle, samples = tmp_path / "bundle.pyz", tmp_path / "samples.jsonl"
    run_command(*start, "--device", "Far board", "--bundle", bundle)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [lite_python, bundle, "-o", samples]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert f"{samples}: 2 repetitions\n" in run_command(*start, "--samples", samples)
    assert built(tmp_path).datasheet.device == "Far board"


@pytest.mark.parametrize("where", ["here", "behind ssh"])
def test_a_network_that_crashes_it_is_put_aside_and_the_session_goes_on(
    where: str, tmp_path: Path, server: Server, lite_python: Path
) -> None:
    lite = get_engine("paddle-lite")
    files = [lite.write(yardstick_graph(), tmp_path / f"{name}.zip") for name in ("first", "bad", "last")]
    replaced(files[1], pdiparams=b"")
    repetition = RepetitionOptions(n_runs=2, profile=False)
    options = SessionOptions(
        repetition=repetition, engine="paddle-lite", rounds=2, min_rounds=2, stop_at=None, max_drift=1e6
    )
    here: Runner = LocalRunner(lite)
    there = RemoteRunner(server.ssh, engine=lite, python=str(lite_python), wait_s=0.1)
    runner = here if where == "here" else there
    with Session.create(tmp_path / "s.sqlite", map(WorkItem.of, files), options) as session:
        run_session(session, runner)
        runner.close()
        assert session.problems().keys() == {"bad.zip"}
        assert session.problems()["bad.zip"].startswith("MeasureError: Paddle-Lite crashed on network_2: ")
        assert [network.branches for network in session.networks()] == [((1,),), ((3,),)]
        assert all(times.latency_ms > 0 for times in session_result(session).times)
