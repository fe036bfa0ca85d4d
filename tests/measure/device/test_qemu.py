"""The device side on aarch64, under QEMU: the wheel that a board would install, and no board."""

# ruff: noqa: S603 - an interpreter that was fetched

from __future__ import annotations

import json
import logging
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latency_nas.engine import get_engine
from latency_nas.engine.mnn.converter import convert
from latency_nas.errors import MeasureError
from latency_nas.estimate import LatencyEstimator
from latency_nas.measure.device import Prefix, RemoteRunner
from latency_nas.measure.device.boot import sources
from latency_nas.measure.device.runner import LocalRunner, RepetitionOptions
from latency_nas.measure.session.result import build_table
from latency_nas.measure.session.run import run_session
from latency_nas.measure.yardstick import yardstick_graph
from latency_nas.table import load_table, save_table
from tests.arm_root import arm_command
from tests.measure.session.test_session import KERNELS, new_session

# Runs a network by the device side's own class on numbers of a formula, and prints what comes out: through MNN's own
# copies where there is numpy, and through memory where there is none.
_OUTPUTS = """
import array, ctypes, json, math, sys, types
for package in ("latency_nas", "latency_nas.engine"):
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = []
for name, source in json.loads(sys.argv[1]).items():
    sys.modules[name] = module = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
side = module.__dict__
network = side["Network"](sys.argv[2])
mnn = side["_mnn"]()
(source,) = network._interpreter.getSessionInputAll(network._session).values()
(target,) = network._interpreter.getSessionOutputAll(network._session).values()
values = array.array("f", (((i * 37) % 101 - 50) / 50 for i in range(math.prod(source.getShape()))))
if "numpy" in sys.modules:
    import numpy
    def tensor(like, data):
        data = numpy.array(data, numpy.float32).reshape(like.getShape())
        return mnn.Tensor(like.getShape(), mnn.Halide_Type_Float, data, mnn.Tensor_DimensionType_Caffe)
    host = tensor(source, values)
    network._inputs = [lambda: source.copyFrom(host)]
    network.run_ms(1)
    copy = tensor(target, [0.0] * math.prod(target.getShape()))
    target.copyToHostTensor(copy)
    found = numpy.array(copy.getData()).ravel().tolist()
else:
    network._inputs = [lambda: ctypes.memmove(side["_address"](source), values.buffer_info()[0], 4 * len(values))]
    network.run_ms(1)
    found = list((ctypes.c_float * math.prod(target.getShape())).from_address(side["_address"](target)))
print("OUT" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def arm() -> list[str]:
    return arm_command()


def outputs(python: list[str], network: Path) -> np.ndarray:
    command = [*python, "-c", _OUTPUTS, json.dumps(sources(get_engine("mnn"))), str(network)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("OUT"))
    return np.array(json.loads(line[3:]))


def test_the_same_outputs_as_here(arm: list[str], tmp_path: Path) -> None:
    network = convert(yardstick_graph(), tmp_path / "yardstick.mnn")
    mine, theirs = outputs([sys.executable], network), outputs(arm, network)
    assert mine.std() > 1e-3
    np.testing.assert_allclose(theirs, mine, rtol=1e-4, atol=1e-5 * mine.std())


def test_a_complete_table_that_says_it_is_emulated(
    arm: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repetition = RepetitionOptions(n_runs=1, n_yardstick=1, n_warmup=0)
    options = {"repetition": repetition, "rounds": 1, "min_rounds": 1, "contexts": 2, "max_drift": 1e6}
    with (
        new_session(tmp_path / "s.sqlite", KERNELS[:6], **options) as session,
        RemoteRunner(Prefix(words=tuple(arm[:-1])), python=shlex.join(arm[-1:])) as runner,
    ):
        hello = runner.hello()
        assert (hello["machine"], hello["emulated"]) == ("aarch64", True)
        run_session(session, runner)
        assert session.problems() == {}
        with (
            LocalRunner() as here,
            pytest.raises(MeasureError, match=r"where machine is aarch64, but here it is x86_64"),
        ):
            run_session(session, here)
        table = build_table(session)
    assert set(KERNELS[:6]) <= set(table)
    save_table(table, tmp_path / "t.parquet")
    loaded = load_table(tmp_path / "t.parquet")
    assert loaded.datasheet.emulated
    assert str(loaded.datasheet) == (
        "emulated (aarch64): MNN 3.6.1 on CPU, fp32, 1 thread, batch 1, measured, EMULATED: no device's times"
    )
    with caplog.at_level(logging.WARNING):
        LatencyEstimator(loaded)
    assert caplog.messages == [f"{loaded.name} was measured under emulation: its times are no device's."]


def test_this_machine_is_not_emulated() -> None:
    with LocalRunner() as runner:
        assert runner.hello()["emulated"] is False
