"""PaddleSlim's interface: the keys that PaddleSlim 2.6.0 itself generates, its sums, and what it leaves silent."""

from __future__ import annotations

import gzip
import json
import logging
import os
import pickle
import subprocess
from math import fsum
from pathlib import Path

import pytest

from latency_nas.compat.paddleslim import TableLatencyPredictor, paddleslim_program_keys
from latency_nas.errors import GraphError, MissingKernelError, TableError, UnknownTableError
from latency_nas.table import import_paddleslim
from latency_nas.table.formats.paddleslim.exporter import export_paddleslim

GOLDEN = Path(__file__).parents[1] / "golden/paddleslim"
NETWORKS = sorted(path.name.split(".")[0] for path in GOLDEN.glob("*.pdmodel.gz"))
RK3288 = Path(__file__).resolve().parents[3] / "shared/data/paddleslim_optables/rk3288_threads_4_power_mode_0.pkl"
ORACLE = "LATENCY_NAS_PADDLESLIM_PYTHON"  # names the Python of tests/golden/paddleslim/make.py's environment

needs_table = pytest.mark.skipif(not RK3288.is_file(), reason=f"needs {RK3288}")


@pytest.fixture
def program(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / f"{request.param}.pdmodel"
    path.write_bytes(gzip.decompress((GOLDEN / f"{request.param}.pdmodel.gz").read_bytes()))
    return path


def keys_of(name: str) -> list[str]:
    return list(json.loads((GOLDEN / f"{name}.json").read_text()))


@pytest.mark.parametrize("program", NETWORKS, indirect=True)
def test_keys_are_those_that_paddleslim_generates(program: Path) -> None:
    assert sorted(paddleslim_program_keys(program)) == keys_of(program.stem)  # opt's own order varies


@needs_table
@pytest.mark.parametrize("program", ["mobilenet_v1"], indirect=True)
def test_sum_of_the_published_table(program: Path, tmp_path: Path) -> None:
    published: dict[str, float] = pickle.loads(RK3288.read_bytes())  # noqa: S301
    flipped = {
        "elementwise_add X=(1, 1000) Y=(1000,) axis=-1 out=(1, 1000)": "axis=1"
    }  # the table has it from the left
    keys = [key.replace("axis=-1", flipped[key]) if key in flipped else key for key in keys_of(program.stem)]
    predictor = TableLatencyPredictor(table_file=RK3288)
    latency_ms = predictor.predict(model_file=program, param_file=None, data_type="fp32", threads=4)
    assert isinstance(latency_ms, float)
    assert latency_ms == pytest.approx(fsum(published[key] for key in keys), rel=1e-12)
    assert latency_ms == pytest.approx(219.2, abs=0.05)
    assert predictor.predict(program, input_shape=[1, 3, 224, 224]) == latency_ms


@needs_table
@pytest.mark.parametrize("program", ["resnet18"], indirect=True)
def test_missing_keys_are_an_error_or_regressed(program: Path, caplog: pytest.LogCaptureFixture) -> None:
    predictor = TableLatencyPredictor(RK3288)
    assert not predictor.predictor_state
    with pytest.raises(MissingKernelError) as caught:
        predictor.predict(program)
    conv = "conv2d in=(1, {0}, {1}, {1}) weight=({0}, {0}, 3, 3) out=(1, {0}, {1}, {1}) pad=1 stride=1 group=1 "
    conv += "dilation=1 quant=None bit_length=None"
    add = "fusion_elementwise_add_activation X=(1, {0}, {1}, {1}) Y=(1, {0}, {1}, {1}) axis=-1 out=(1, {0}, {1}, {1})"
    message = str(caught.value)
    assert message.startswith(f"29 of 33 operators have no price in {RK3288}: ")
    assert conv.format(64, 56) in message
    assert add.format(64, 56) in message
    assert message.endswith(
        "more. Measure them, or call set_predictor_state(True) to have them estimated from the table's rows."
    )
    predictor.set_predictor_state(True)
    with caplog.at_level(logging.WARNING):
        latency_ms = predictor.predict(program)
    estimate = predictor.estimate(program)
    assert latency_ms == pytest.approx(estimate.latency_ms)
    assert estimate.sources == {"table": 4, "regressed": 29, "missing": 0}
    assert caplog.messages[-1:] == [
        f"29 of 33 operators of {program} are not in {RK3288} and were estimated from its rows: {estimate.figure()}."
    ]


@needs_table
@pytest.mark.parametrize("program", ["mobilenet_v1"], indirect=True)
def test_what_paddleslim_would_pass_over(program: Path) -> None:
    predictor = TableLatencyPredictor(RK3288)
    for data_type, message in (
        ("fp64", "Expected `data_type` to be one of fp32, int8, fp16, but got 'fp64'."),
        (
            "int8",
            (
                "Expected `data_type` to be fp32, but got int8: where Paddle-Lite converts between types is not known "
                "here, and without that the sum would be too small."
            ),
        ),
    ):
        with pytest.raises(GraphError) as caught:
            predictor.predict(program, None, data_type)
        assert str(caught.value) == message
    with pytest.raises(TableError) as of_threads:
        predictor.predict(program, threads=1)
    assert str(of_threads.value) == f"Expected `threads` to be 4, as {RK3288} was measured, but got 1."


@needs_table
def test_names_of_hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TableLatencyPredictor, "hardware_list", ["SD625", "SD710", "RK3288"])
    with pytest.raises(UnknownTableError):
        TableLatencyPredictor("My board")
    TableLatencyPredictor.add_hardware("My board")
    (tmp_path / "My board_threads_4_power_mode_0.pkl").write_bytes(RK3288.read_bytes())
    predictor = TableLatencyPredictor("My board")
    assert predictor.predictor_state
    assert predictor.hardware == "My board"


@needs_table
@pytest.mark.parametrize("program", ["mobilenet_v2"], indirect=True)
def test_paddleslim_takes_what_is_exported(program: Path, tmp_path: Path) -> None:
    """The pickle that is written here gives the same sum there."""
    python = os.environ.get(ORACLE)
    if not python:
        pytest.skip(
            f"{ORACLE} names no Python with PaddleSlim 2.6.0; tests/golden/paddleslim/make.py says how to make one"
        )
    table, _ = import_paddleslim(RK3288)
    exported = export_paddleslim(table, tmp_path / "rk3288_threads_4_power_mode_0.pkl").path
    code = f"""
import matplotlib.backends.backend_pdf
import paddle
from paddle.vision.models import mobilenet_v2
from paddleslim.analysis import TableLatencyPredictor
net = mobilenet_v2()
net.eval()
paddle.jit.save(net, "net", [paddle.static.InputSpec([1, 3, 224, 224], "float32", "x")], clip_extra=False)
predictor = TableLatencyPredictor({str(exported)!r})
print("SUM", predictor.predict("net.pdmodel", "net.pdiparams", "fp32"))
"""
    path = f"{Path(python).parent}:{os.environ['PATH']}"
    run = subprocess.run(  # noqa: S603
        [python, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": path, "HOME": str(tmp_path)},
        check=True,
    )
    theirs = float(run.stdout.rpartition("SUM ")[2])
    predictor = TableLatencyPredictor(exported)
    predictor.set_predictor_state(True)
    ours = predictor.estimate(program)
    assert ours.sources == {"table": 66, "regressed": 1, "missing": 0}  # PaddleSlim adds 0 for the dropout it lacks
    assert theirs == pytest.approx(fsum(item.latency_ms for item in ours.kernels if item.source == "table"), rel=1e-9)
