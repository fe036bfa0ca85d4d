"""Bundles, run as a person runs them: by another interpreter, without this library and without numpy."""

# ruff: noqa: S603 - the bundle itself

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from latency_nas.engine import get_engine, serving
from latency_nas.errors import MeasureError
from latency_nas.measure.session import bundle_main
from latency_nas.measure.session.bundle import add_samples, write_bundle
from latency_nas.measure.session.result import build_table
from latency_nas.measure.session.session import Session
from tests.bare_interpreter import bare_interpreter
from tests.cli.test_measure import YAML
from tests.cli.test_measure import run as run_command
from tests.measure.session.test_session import KERNELS, new_session


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """An interpreter with the standard library and MNN alone."""
    patterns = ("MNN", "_mnncengine*", "mnn.libs", "_tools*")
    return bare_interpreter(tmp_path_factory.mktemp("bare"), *patterns)


def bundled(folder: Path, name: str = "s", **options: object) -> tuple[Session, Path]:
    session = new_session(folder / f"{name}.sqlite", KERNELS[:6], rounds=2, min_rounds=1, **options)
    write_bundle(session, folder / f"{name}.pyz")
    return session, folder / f"{name}.pyz"


def run(bare: list[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [*bare, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_from_a_session_to_a_device_by_hand_and_back_to_a_table(bare: list[str], tmp_path: Path) -> None:
    session, bundle = bundled(tmp_path)
    samples = tmp_path / "samples.jsonl"
    with session:
        n_networks = sum(1 for _ in session.networks())
        with zipfile.ZipFile(bundle) as archive:
            assert len([name for name in archive.namelist() if name.startswith("network_")]) == n_networks
        done = run(bare, bundle, "-o", samples)
        assert (done.returncode, done.stdout) == (0, "Numpy not found. Using MNN without numpy.\n")  # says MNN
        assert done.stderr.endswith(
            f"{2 * n_networks} of {2 * n_networks} repetitions\n"
            f"done: bring {samples} to `latency-nas measure ... --samples {samples}`\n"
        )
        assert add_samples(session, samples) == session.n_repetitions == 2 * n_networks
        assert add_samples(session, samples) == 0  # they are in it already
        table = build_table(session)
    assert set(KERNELS[:6]) <= set(table)


def test_a_bundle_that_was_cut_off_goes_on(bare: list[str], tmp_path: Path) -> None:
    session, bundle = bundled(tmp_path)
    samples = tmp_path / "samples.jsonl"
    with session:
        run(bare, bundle, "-o", samples)
        lines = samples.read_text().splitlines(keepends=True)
        samples.write_text("".join(lines[:4]) + lines[4][:100])  # the device, a repetition, and the half of another
        n_first = add_samples(session, samples)
        assert n_first == 1
        assert run(bare, bundle, "-o", samples).returncode == 0
        kept = samples.read_text().splitlines(keepends=True)
        assert kept[:4] == lines[:4]
        assert add_samples(session, samples) == len([line for line in lines if '"ended_s"' in line]) - n_first
        assert session.problems() == {}
        assert set(KERNELS[:6]) <= set(build_table(session))


def test_a_network_that_crashes_the_engine_twice_is_left_out(bare: list[str], tmp_path: Path) -> None:
    session, bundle = bundled(tmp_path)
    samples = tmp_path / "samples.jsonl"
    with session:
        run(bare, bundle, "-o", samples)
        first = samples.read_text().splitlines(keepends=True)[0]
        crashes = [first, *[json.dumps({"network": 1, "begun": 0.0}) + "\n"] * 2]
        samples.write_text("".join(crashes))
        assert run(bare, bundle, "-o", samples).returncode == 0
        add_samples(session, samples)
        assert 1 not in [network.id for network in session.networks()]  # its work items are to be tried alone


def test_the_commands(bare: list[str], tmp_path: Path) -> None:
    (tmp_path / "ops.yaml").write_text(YAML)
    start = ("measure", tmp_path / "ops.yaml", "-s", tmp_path / "s.sqlite", "--rounds", 1, "--device", "Far board")
    bundle, samples = tmp_path / "bundle.pyz", tmp_path / "samples.jsonl"
    brought = "bring samples.jsonl here, and go on by --samples samples.jsonl"
    assert f"next: python3 bundle.pyz on the device; {brought}\n" in run_command(*start, "--bundle", bundle)
    assert run(bare, bundle, "-o", samples).returncode == 0
    output = run_command(*start, "--samples", samples)
    assert f"{samples}: " in output
    built = run_command("table", "build", tmp_path / "s.sqlite", "-o", tmp_path / "t.parquet")
    assert "kernels. Far board: MNN " in built


ENGINES = [get_engine(name) for name in ("mnn", "paddle-lite")]
DEVICE_SIDES = [file for engine in ENGINES for file in (engine.device_side, *engine.device_side_parts.values())]


@pytest.mark.parametrize("file", [Path(bundle_main.__file__), Path(serving.__file__), *DEVICE_SIDES])
def test_what_a_device_runs_is_python_3_8(file: Path) -> None:
    ast.parse(file.read_text(), feature_version=(3, 8))


def test_what_is_wrong_with_a_bundle_is_said(bare: list[str], tmp_path: Path) -> None:
    session, bundle = bundled(tmp_path)
    other, _ = bundled(tmp_path, "other")
    samples = tmp_path / "samples.jsonl"
    with session, other:
        done = run([sys.executable, "-I", "-S"], bundle, "-o", samples)
        assert done.returncode == 1
        assert done.stderr == (
            f"error: Expected MNN to be installed for {sys.executable}, but it is not (No module named 'MNN'): "
            f"pip install MNN\n"
        )
        assert not samples.exists()
        run(bare, bundle, "-o", samples)
        with pytest.raises(MeasureError) as caught:
            add_samples(other, samples)
        assert str(caught.value) == (
            f"Expected {samples} to hold samples of a bundle of {other.path}, but it does not."
        )
        lines = samples.read_text().splitlines(keepends=True)
        samples.write_text("".join([*lines[:3], "nonsense\n", *lines[3:]]))
        with pytest.raises(MeasureError, match=rf"^Expected line 4 of {samples} to be a bundle's, but Expecting value"):
            add_samples(session, samples)
        assert session.n_repetitions == 1  # lines before it were added
        first = json.loads(lines[0])
        first["hello"]["processor"] = "Kryo"
        samples.write_text(json.dumps(first) + "\n")
        done = run(bare, bundle, "-o", samples)
        assert done.stderr == (f"error: {samples} is of another bundle or another device: name another file with -o\n")
